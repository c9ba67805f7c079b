"""What complex layers have in common: weights as real pairs, and a word about inputs that are not complex."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError

__all__ = ["Device", "check_complex", "pairs", "reset_uniform"]

Device = torch.device | str | None


def pairs(*shape: int, device: Device = None, dtype: torch.dtype | None = None) -> nn.Parameter:
    """Uninitialised complex parameter as real pairs: shape ``(*shape, 2)``.

    ``dtype`` may be real or complex: float64 and complex128 mean the same.
    """
    real = None if dtype is None else dtype.to_real()
    return nn.Parameter(torch.empty(*shape, 2, device=device, dtype=real))


def check_complex(module: nn.Module, x: Tensor) -> None:
    """Refuse a tensor that is not complex.

    :raises NetworkError: naming the layer.
    """
    if not x.is_complex():
        name = type(module).__name__
        raise NetworkError(f"{name} takes complex tensors, and this one is {x.dtype}: put ToComplex() before it")


def reset_uniform(fan_in: int, *parameters: Tensor | None) -> None:
    """Draw parts uniformly, so that ``E|w|^2 = 1/(3 fan_in)``: the variance with which torch's layers start."""
    bound = 1.0 / math.sqrt(2.0 * fan_in) if fan_in > 0 else 0.0
    for parameter in parameters:
        if parameter is not None:
            nn.init.uniform_(parameter, -bound, bound)
