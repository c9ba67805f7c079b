"""Numbers that are sent without a step: exactly, or as float16."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrosparse.coding.content import Content, patterns
from pyrosparse.coding.halves import fit_halves

__all__ = ["exact", "real", "statistic"]


def real(value: Tensor) -> NDArray[np.float64]:
    """Return a tensor as doubles; complex numbers become a last axis of two."""
    return np.asarray((torch.view_as_real(value) if value.is_complex() else value).to(torch.float64).numpy())


def exact(value: Tensor) -> Content:
    """Send every number as it is."""
    if value.dtype == torch.float16:
        return _halves(value)
    return Content("x", value.dtype, patterns(value))


def statistic(value: Tensor) -> Content:
    """Scales, shifts and running statistics: float16 (11 bits of precision) where its range allows."""
    if value.is_complex() or not fit_halves(real(value)):
        return exact(value)
    return _halves(value)


def _halves(value: Tensor) -> Content:
    levels = real(value).astype(np.float16).view(np.uint16).astype(np.int64)
    return Content("h", value.dtype, levels)
