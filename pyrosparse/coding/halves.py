"""What float16 can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["are_halves", "fit_halves"]

SMALLEST, LARGEST = 2.0**-14, 65504.0


def fit_halves(values: NDArray[Any]) -> bool:
    """Whether all numbers lie where float16 has its full precision."""
    size = np.abs(values)
    return bool(((size == 0) | ((size >= SMALLEST) & (size <= LARGEST))).all())


def are_halves(values: NDArray[np.float32]) -> bool:
    """Whether float16 holds all of these numbers exactly."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())
