"""Initial values of complex weights, in place, given as real pairs (..., 2).

The fans are those of ``torch.nn.init``, of the shape without its last axis. Standard deviations are those of the
complex number: ``E|w|^2 = std^2``, half of it in each part.
"""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.pairs import numbers_of

__all__ = [
    "Criterion",
    "complex_kaiming_normal_",
    "complex_kaiming_uniform_",
    "complex_xavier_normal_",
    "complex_xavier_uniform_",
    "fans",
    "rayleigh_phase_",
    "unitary_",
]


class Criterion(StrEnum):
    """What the variance of a weight is made for."""

    GLOROT = "glorot"
    """``E|w|^2 = 2 / (fan_in + fan_out)``: variances kept forwards and backwards."""

    HE = "he"
    """``E|w|^2 = 2 / fan_in``: variances kept through rectifiers."""


def fans(weight: Tensor) -> tuple[int, int]:
    """Inputs and outputs of a unit for pairs of shape ``(out, in, ..., 2)``.

    :raises NetworkError: for fewer than two axes beside that of the parts, and for a tensor of complex type.
    """
    if weight.is_complex():
        raise NetworkError(
            f"a weight of {weight.dtype}, shape {tuple(weight.shape)}, is no real pair: give torch.view_as_real(weight)"
        )
    shape = weight.shape[:-1]
    if len(shape) < 2 or weight.shape[-1] != 2:
        raise NetworkError(
            f"a weight of shape {tuple(weight.shape)} has no fans: give pairs of shape (out, in, ..., 2)"
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def complex_xavier_uniform_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Glorot & Bengio (2010): parts uniform, ``E|w|^2 = 2 gain^2 / (fan_in + fan_out)``.

    :raises NetworkError: for what has no fans (:func:`fans`).
    """
    return _uniform_(weight, gain * math.sqrt(2.0 / sum(fans(weight))), generator)


def complex_xavier_normal_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Glorot & Bengio (2010): circular Gaussian, ``E|w|^2 = 2 gain^2 / (fan_in + fan_out)``.

    :raises NetworkError: for what has no fans (:func:`fans`).
    """
    return _normal_(weight, gain * math.sqrt(2.0 / sum(fans(weight))), generator)


def complex_kaiming_uniform_(
    weight: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """He et al. (2015): parts uniform, ``E|w|^2 = gain^2 / fan``; else as ``torch.nn.init.kaiming_uniform_``.

    :raises NetworkError: for what has no fans (:func:`fans`), or an unknown mode.
    """
    return _uniform_(weight, _kaiming_std(weight, a, mode, nonlinearity), generator)


def complex_kaiming_normal_(
    weight: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """He et al. (2015): circular Gaussian, ``E|w|^2 = gain^2 / fan``; else as ``torch.nn.init.kaiming_normal_``.

    :raises NetworkError: for what has no fans (:func:`fans`), or an unknown mode.
    """
    return _normal_(weight, _kaiming_std(weight, a, mode, nonlinearity), generator)


def rayleigh_phase_(
    weight: Tensor, criterion: Criterion | str = Criterion.GLOROT, generator: torch.Generator | None = None
) -> Tensor:
    """Trabelsi et al. (2018), section 3.6: Rayleigh modulus and uniform phase, variance by :class:`Criterion`.

    In law this is the circular Gaussian of that variance.

    :raises NetworkError: for what has no fans (:func:`fans`), or an unknown criterion.
    """
    std = _std_of(weight, criterion)
    with torch.no_grad():
        u, v = torch.rand(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device).unbind(-1)
        modulus = std * torch.log1p(-u).neg().sqrt()
        phase = 2.0 * math.pi * v
        return weight.copy_(torch.stack([modulus * phase.cos(), modulus * phase.sin()], -1))


def unitary_(
    weight: Tensor, criterion: Criterion | str = Criterion.GLOROT, generator: torch.Generator | None = None
) -> Tensor:
    """Trabelsi et al. (2018), section 3.6: (semi-)unitary filters, scaled to the variance of :class:`Criterion`.

    The weight as a matrix ``(out, in * kernel)`` has orthogonal rows or columns of one length.

    :raises NetworkError: for what has no fans (:func:`fans`), or an unknown criterion.
    """
    std = _std_of(weight, criterion)
    with torch.no_grad():
        flat = numbers_of(weight).flatten(1)
        noise = torch.randn(flat.shape, generator=generator, dtype=flat.dtype, device=flat.device)
        u, _, v = torch.linalg.svd(noise, full_matrices=False)
        # entries of a semi-unitary (m, n) matrix have a mean square of 1 / max(m, n)
        unitary = (u @ v) * (std * math.sqrt(max(flat.shape)))
        return weight.copy_(torch.view_as_real(unitary).reshape(weight.shape))


def _std_of(weight: Tensor, criterion: Criterion | str) -> float:
    if criterion not in set(Criterion):
        names = ", ".join(repr(c.value) for c in Criterion)
        raise NetworkError(f"criterion={criterion!r} is unknown; choose one of {names}")
    fan_in, fan_out = fans(weight)
    return math.sqrt(2.0 / (fan_in + fan_out if criterion == Criterion.GLOROT else fan_in))


def _kaiming_std(weight: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in {"fan_in", "fan_out"}:
        raise NetworkError(f"mode={mode!r} is unknown; choose 'fan_in' or 'fan_out'")
    fan_in, fan_out = fans(weight)
    gain: float = nn.init.calculate_gain(nonlinearity, a)  # type: ignore[arg-type]
    return gain / math.sqrt(fan_in if mode == "fan_in" else fan_out)


def _uniform_(weight: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    bound = math.sqrt(1.5) * std
    return nn.init.uniform_(weight, -bound, bound, generator=generator)


def _normal_(weight: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    return nn.init.normal_(weight, 0.0, std / math.sqrt(2.0), generator=generator)
