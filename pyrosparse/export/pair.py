"""Complex numbers as two real tensors, and the operations of torch on them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["ATTRIBUTES", "FUNCTIONS", "METHODS", "Pair"]


class Pair(NamedTuple):
    """Real and imaginary part."""

    re: Tensor
    im: Tensor

    @property
    def modulus(self) -> Tensor:
        """``|z|``."""
        return (self.re * self.re + self.im * self.im).sqrt()

    @property
    def direction(self) -> Pair:
        """``z/|z|``, and 0 at 0."""
        size = self.modulus.clamp_min(torch.finfo(self.re.dtype).tiny)
        return Pair(self.re / size, self.im / size)

    def each(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """Apply a function to both parts."""
        return Pair(function(self.re), function(self.im))

    def times(self, factor: Tensor) -> Pair:
        """Multiply by a real tensor."""
        return Pair(self.re * factor, self.im * factor)


def _parts(z: Any) -> tuple[Any, Any]:
    """Parts of a pair, of a real tensor, or of a number."""
    if isinstance(z, Pair):
        return z
    return (z, 0.0) if isinstance(z, Tensor) else (complex(z).real, complex(z).imag)


def _sum(a: Any, b: Any) -> Pair:
    (ax, ay), (bx, by) = _parts(a), _parts(b)
    return Pair(ax + bx, ay + by)


def _difference(a: Any, b: Any) -> Pair:
    (ax, ay), (bx, by) = _parts(a), _parts(b)
    return Pair(ax - bx, ay - by)


def _times(a: Any, b: Any) -> Pair:
    (ax, ay), (bx, by) = _parts(a), _parts(b)
    return Pair(ax * bx - ay * by, ax * by + ay * bx)


def _concatenated(tensors: Any, dim: int = 0) -> Pair:
    parts = [z if isinstance(z, Pair) else Pair(z, torch.zeros_like(z)) for z in tensors]
    return Pair(torch.cat([z.re for z in parts], dim), torch.cat([z.im for z in parts], dim))


def _conjugate(z: Pair) -> Pair:
    return Pair(z.re, -z.im)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add), _sum),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub), _difference),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), _times),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _concatenated),
    **dict.fromkeys((abs, torch.abs), lambda z: z.modulus),
    torch.real: lambda z: z.re,
    torch.imag: lambda z: z.im,
    torch.conj: _conjugate,
}
"""Functions of pairs, real tensors and numbers."""

METHODS: dict[str, Callable[..., Any]] = {
    "add": _sum, "sub": _difference, "mul": _times, "abs": lambda z: z.modulus, "conj": _conjugate,
}  # fmt: skip

ATTRIBUTES: dict[str, Callable[[Pair], Any]] = {
    "real": lambda z: z.re,
    "imag": lambda z: z.im,
    "shape": lambda z: z.re.shape,
}
