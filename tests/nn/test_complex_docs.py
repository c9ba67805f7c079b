"""The code of docs/complex.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import SVI, TraceMeanField_ELBO

from pyrosparse.poutine import local_reparam


def test_examples_of_the_page(repository: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "complex.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["network"](torch.randn(2, 1, 28, 28)).shape == (2, 10)

    x = torch.randn(200, 3, dtype=torch.complex64)
    truth = torch.tensor([[1.0, 0.5j, 0.0], [0.0, -1.0, 1j]])
    y = (x @ truth.T).real + 0.1 * torch.randn(200, 2)
    with torch.no_grad():
        names["layer"].bias.zero_()
    svi = SVI(names["model"], local_reparam(names["guide"]), pyro.optim.Adam({"lr": 0.03}), TraceMeanField_ELBO())
    for _ in range(300):
        svi.step(x, y)
    weight = torch.view_as_complex(pyro.param("loc").detach())
    assert float((weight - truth).abs().max()) < 0.1
