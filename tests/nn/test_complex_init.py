"""Initial values against the laws that their names promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats as st
import torch
from torch import Tensor

import pyrosparse.nn as psnn
from pyrosparse.errors import NetworkError

SHAPE = (40, 20, 3, 3)
FAN_IN, FAN_OUT = 180, 360

# name -> (fill, E|w|^2, whether the parts are uniform)
FILLS: dict[str, tuple[Callable[..., Tensor], float, bool]] = {
    "xavier uniform": (psnn.complex_xavier_uniform_, 2 / (FAN_IN + FAN_OUT), True),
    "xavier normal": (psnn.complex_xavier_normal_, 2 / (FAN_IN + FAN_OUT), False),
    "kaiming uniform": (lambda w, **k: psnn.complex_kaiming_uniform_(w, math.sqrt(5), **k), 1 / (3 * FAN_IN), True),
    "kaiming normal": (lambda w, **k: psnn.complex_kaiming_normal_(w, mode="fan_out", **k), 2 / FAN_OUT, False),
    "kaiming tanh": (lambda w, **k: psnn.complex_kaiming_normal_(w, nonlinearity="tanh", **k), 25 / 9 / FAN_IN, False),
    "rayleigh": (psnn.rayleigh_phase_, 2 / (FAN_IN + FAN_OUT), False),
    "rayleigh he": (lambda w, **k: psnn.rayleigh_phase_(w, "he", **k), 2 / FAN_IN, False),
}


@pytest.mark.parametrize("case", FILLS)
def test_parts_follow_their_law(case: str) -> None:
    fill, power, uniform = FILLS[case]
    weight = torch.empty(*SHAPE, 2)
    assert fill(weight) is weight
    n, scale = weight.numel() // 2, math.sqrt(power / 2)
    law = st.uniform(-math.sqrt(3) * scale, 2 * math.sqrt(3) * scale) if uniform else st.norm(0, scale)
    for part in weight.reshape(-1, 2).T.numpy():
        assert st.kstest(part, law.cdf).pvalue > 1e-4
    assert abs(float(np.corrcoef(weight.reshape(-1, 2).T.numpy())[0, 1])) < 5 / math.sqrt(n)
    again, once = torch.empty(*SHAPE, 2), torch.empty(*SHAPE, 2)
    fill(again, generator=torch.Generator().manual_seed(3))
    fill(once, generator=torch.Generator().manual_seed(3))
    assert torch.equal(again, once)


def test_rayleigh_has_its_modulus_and_phase() -> None:
    z = torch.view_as_complex(psnn.rayleigh_phase_(torch.empty(*SHAPE, 2))).flatten().numpy()
    assert st.kstest(np.abs(z), st.rayleigh(scale=1 / math.sqrt(FAN_IN + FAN_OUT)).cdf).pvalue > 1e-4
    assert st.kstest(np.angle(z), st.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (4, 3, 2, 2)])
@pytest.mark.parametrize("criterion", ["glorot", "he"])
def test_unitary(shape: tuple[int, ...], criterion: str) -> None:
    weight = torch.empty(*shape, 2, dtype=torch.float64)
    assert psnn.unitary_(weight, criterion) is weight
    w = torch.view_as_complex(weight).flatten(1)
    field = math.prod(shape[2:])
    power = (
        2 / (shape[1] * field + (shape[0] * field if criterion == "glorot" else 0))
        if criterion == "glorot"
        else 2 / (shape[1] * field)
    )
    assert float(w.abs().square().mean()) == pytest.approx(power)
    gram = w @ w.mH if w.shape[0] <= w.shape[1] else w.mH @ w
    torch.testing.assert_close(gram, gram[0, 0].real * torch.eye(len(gram), dtype=gram.dtype))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"shape \(4, 2\) has no fans"):
        psnn.complex_xavier_normal_(torch.empty(4, 2))
    with pytest.raises(NetworkError, match="'glorot', 'he'"):
        psnn.rayleigh_phase_(torch.empty(4, 3, 2), "lecun")
    with pytest.raises(NetworkError, match="mode='fan'"):
        psnn.complex_kaiming_normal_(torch.empty(4, 3, 2), mode="fan")


def test_parameters_can_be_filled() -> None:
    layer = psnn.ComplexConv2d(3, 4, 2)
    for fill in (psnn.complex_xavier_uniform_, psnn.rayleigh_phase_, psnn.unitary_):
        before = layer.weight.detach().clone()
        fill(layer.weight)
        assert not torch.equal(layer.weight, before) and layer.weight.requires_grad


def test_tensors_of_complex_type_are_refused() -> None:
    weight = torch.nn.Conv1d(4, 8, 2, dtype=torch.complex64).weight
    with pytest.raises(NetworkError, match="no real pair: give torch.view_as_real"):
        psnn.rayleigh_phase_(weight)
