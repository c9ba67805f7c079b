"""Complex numbers as two real tensors, and the operations of torch on them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["ATTRIBUTES", "EACH", "FUNCTIONS", "MAKERS", "METHODS", "Pair"]


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


def _pair(re: Any, im: Any) -> Pair:
    """Parts of which one may be a number, where a real tensor has met a complex number."""
    like = re if isinstance(re, Tensor) else im
    return Pair(*(x if isinstance(x, Tensor) else torch.full_like(like, x) for x in (re, im)))


def _sum(a: Any, b: Any) -> Pair:
    (ax, ay), (bx, by) = _parts(a), _parts(b)
    return _pair(ax + bx, ay + by)


def _difference(a: Any, b: Any) -> Pair:
    (ax, ay), (bx, by) = _parts(a), _parts(b)
    return _pair(ax - bx, ay - by)


def _product(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Pair]:
    """Complex form of an operation that is linear in each of two factors."""

    def product(a: Any, b: Any) -> Pair:
        (ax, ay), (bx, by) = _parts(a), _parts(b)
        if isinstance(by, float) and by == 0.0:
            return _pair(operation(ax, bx), operation(ay, bx))
        if isinstance(ay, float) and ay == 0.0:
            return _pair(operation(ax, bx), operation(ax, by))
        return _pair(operation(ax, bx) - operation(ay, by), operation(ax, by) + operation(ay, bx))

    return product


_times = _product(operator.mul)


def _quotient(a: Any, b: Any) -> Pair:
    if not isinstance(b, Pair):
        return _times(a, 1.0 / b)
    square = b.re * b.re + b.im * b.im
    return _times(a, Pair(b.re / square, -b.im / square))


def _together(join: Callable[[list[Tensor], int], Tensor]) -> Callable[..., Pair]:
    """Concatenate or stack pairs, and real tensors among them."""

    def joined(tensors: Any, dim: int = 0) -> Pair:
        parts = [z if isinstance(z, Pair) else Pair(z, torch.zeros_like(z)) for z in tensors]
        return Pair(join([z.re for z in parts], dim), join([z.im for z in parts], dim))

    return joined


def _conjugate(z: Pair) -> Pair:
    return Pair(z.re, -z.im)


def _negative(z: Pair) -> Pair:
    return Pair(-z.re, -z.im)


def _angle(z: Pair) -> Tensor:
    return torch.atan2(z.im, z.re)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add), _sum),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub), _difference),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), _times),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, torch.true_divide), _quotient),
    **dict.fromkeys((operator.matmul, torch.matmul), _product(torch.matmul)),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _together(torch.cat)),
    torch.stack: _together(torch.stack),
    **dict.fromkeys((operator.neg, torch.neg), _negative),
    **dict.fromkeys((abs, torch.abs), lambda z: z.modulus),
    torch.angle: _angle,
    torch.real: lambda z: z.re,
    torch.imag: lambda z: z.im,
    torch.conj: _conjugate,
    torch.view_as_real: lambda z: torch.stack(list(z), -1),
}
"""Functions of pairs, real tensors and numbers."""

METHODS: dict[str, Callable[..., Any]] = {
    "add": _sum, "sub": _difference, "mul": _times, "div": _quotient, "matmul": FUNCTIONS[torch.matmul],
    "neg": _negative, "abs": lambda z: z.modulus, "angle": _angle, "conj": _conjugate,
}  # fmt: skip

MAKERS: dict[Any, Callable[..., Pair]] = {
    torch.complex: Pair,
    torch.polar: lambda modulus, angle: Pair(modulus * angle.cos(), modulus * angle.sin()),
    torch.view_as_complex: lambda x: Pair(x[..., 0], x[..., 1]),
}
"""Functions of real tensors that give pairs."""

EACH: frozenset[Any] = frozenset({
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.transpose, torch.permute, torch.movedim,
    torch.flip, torch.roll, torch.sum, torch.mean, operator.getitem,
    "contiguous", "expand", "flatten", "flip", "mean", "movedim", "permute", "reshape", "roll", "squeeze", "sum",
    "transpose", "unflatten", "unsqueeze", "view",
})  # fmt: skip
"""Functions and methods that do the same to both parts."""

ATTRIBUTES: dict[str, Callable[[Pair], Any]] = {
    "real": lambda z: z.re,
    "imag": lambda z: z.im,
    "shape": lambda z: z.re.shape,
}
