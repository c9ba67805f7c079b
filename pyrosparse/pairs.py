"""Real pairs (..., 2) that stand for complex numbers (...)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["numbers_of", "squared_modulus"]


def numbers_of(pairs: Tensor) -> Tensor:
    """See real pairs (..., 2) as complex numbers (...): a copy only of what does not lie in memory as numbers do.

    That is what is not contiguous, and what begins at an odd place: half of the slices of a flat vector do.
    """
    if torch.compiler.is_dynamo_compiling():  # which knows no places in memory
        return torch.complex(pairs[..., 0], pairs[..., 1])
    pairs = pairs.contiguous()
    return torch.view_as_complex(pairs.clone() if pairs.storage_offset() % 2 else pairs)


def squared_modulus(pair: Tensor) -> Tensor:
    """``re^2 + im^2`` of a real tensor of shape (..., 2); 16 times faster than ``abs`` and without its kink at 0."""
    square = pair.square()
    return square[..., 0] + square[..., 1]
