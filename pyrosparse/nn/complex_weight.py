"""What complex layers have in common: weights as real pairs, and a word about inputs that are not complex."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError

__all__ = [
    "Device",
    "check_channels",
    "check_complex",
    "in_a_complex_precision",
    "pairs",
    "reset_uniform",
    "with_phase",
]

Device = torch.device | str | None

SPATIAL = {1: "L", 2: "HW", 3: "DHW"}
# there is none of bfloat16
_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128, torch.float16: torch.complex32}


def pairs(*shape: int, device: Device = None, dtype: torch.dtype | None = None) -> nn.Parameter:
    """Uninitialised complex parameter as real pairs: shape ``(*shape, 2)``.

    ``dtype`` may be real or complex: float64 and complex128 mean the same.
    """
    real = None if dtype is None else dtype.to_real()
    return nn.Parameter(torch.empty(*shape, 2, device=device, dtype=real))


def check_complex(module: nn.Module, x: Tensor, parameter: Tensor | None = None) -> None:
    """Refuse a tensor that is not complex, or not of the precision of the module's parameters.

    :param parameter: one of the module's; the tensor may have any precision where there is none.
    :raises NetworkError: naming the layer.
    """
    name = type(module).__name__
    if not x.is_complex():
        raise NetworkError(f"{name} takes complex tensors, and this one is {x.dtype}: put ToComplex() before it")
    if parameter is None or x.dtype == _COMPLEX.get(parameter.dtype):
        return
    if parameter.dtype not in _COMPLEX:
        raise NetworkError(
            f"{name} has parameters of {parameter.dtype}, and they must be real pairs of "
            f"{', '.join(map(str, _COMPLEX))}: for another precision use float() or double() of the network"
        )
    wanted = _COMPLEX[parameter.dtype]
    raise NetworkError(
        f"{name} has parameters of {parameter.dtype} and takes {wanted}, and this tensor is {x.dtype}: give "
        f"x.to({wanted}), or change the network's precision with double() or float()"
    )


def check_channels(module: nn.Module, x: Tensor, spatial: int, channels: int | None = None) -> None:
    """Refuse a tensor that is not ``(N, C, *spatial)`` or ``(C, *spatial)``; torch would count each channel twice.

    :param spatial: number of spatial axes.
    :param channels: C; any number when None.
    :raises NetworkError: naming the layer.
    """
    axes = x.dim() - spatial
    if axes not in {1, 2} or channels not in {None, x.shape[axes - 1]}:
        form = ", ".join(["C" if channels is None else str(channels), *SPATIAL[spatial]])
        raise NetworkError(
            f"{type(module).__name__} takes (N, {form}) or ({form}), and this tensor has shape {tuple(x.shape)}"
        )


def with_phase(z: Tensor) -> Tensor:
    """Numbers as they are, 0 for those so small (subnormal) that torch's ``sgn`` and gradient of ``abs`` are NaN."""
    parts = z.detach()
    size = torch.maximum(parts.real.abs(), parts.imag.abs())  # NaN stays NaN, and a third of the time of the modulus
    return torch.where(size < torch.finfo(z.dtype).tiny, 0.0, z)


def in_a_complex_precision(x: Tensor) -> Tensor:
    """Real numbers as they are, those of bfloat16 in float32: they have no complex type of their own."""
    return x.float() if x.dtype == torch.bfloat16 else x


def reset_uniform(fan_in: int, *parameters: Tensor | None) -> None:
    """Draw parts uniformly, so that ``E|w|^2 = 1/(3 fan_in)``: the variance with which torch's layers start."""
    bound = 1.0 / math.sqrt(2.0 * fan_in) if fan_in > 0 else 0.0
    for parameter in parameters:
        if parameter is not None:
            nn.init.uniform_(parameter, -bound, bound)
