"""What every test starts from: one thread, a fixed seed, an empty parameter store, no open figures."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent

matplotlib.use("Agg", force=True)
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Seed every generator and empty Pyro's parameter store, so that tests do not see each other."""
    dtype = torch.get_default_dtype()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries under test may draw from the old global generator)
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    pyro.enable_validation(True)
    yield
    plt.close("all")
    pyro.clear_param_store()
    torch.set_default_dtype(dtype)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that has pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four gzipped idx files of MNIST, $PYROSPARSE_DATA/mnist; the test is skipped without."""
    root = os.environ.get("PYROSPARSE_DATA")
    if not root:
        pytest.skip("no MNIST: PYROSPARSE_DATA is not set; set it to the folder that has mnist/ in it")
    folder = Path(root) / "mnist"
    if not any(folder.glob("train-images*.gz")):
        pytest.skip(f"MNIST is not at {folder}: set PYROSPARSE_DATA to the folder that has mnist/ in it")
    return folder
