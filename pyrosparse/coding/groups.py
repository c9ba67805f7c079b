"""Steps of groups of weights: of the rows of a layer (its units) or of its columns (its inputs).

A group's step is the layer's times a power of √2, so that a group costs a few bits. Where posterior deviations differ
between groups, steps that follow them spend the same error on fewer bits: with log-deviations that vary by s over the
weights, about s² nats a weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.integers import code_coefficients
from pyrosparse.coding.stream import DamagedStreamError, Meter, Stream

__all__ = ["Groups", "code_groups", "worthwhile_groups"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LARGEST_EXPONENT = 40
ROOT = 181 / 128  # √2 in eight bits: a layer's step times it is exact in float32
LEAST_GAIN = 16.0  # bits below which groups are not tried


@dataclass(frozen=True)
class Groups:
    """How the step varies over a tensor.

    :param axis: 0: each row has a step, 1: each column.
    :param exponents: of √2, one a group.
    """

    axis: int
    exponents: Ints

    def factors(self, dimensions: int) -> Floats:
        """What the layer's step is multiplied with, in a shape that broadcasts over the tensor."""
        shape = [1] * dimensions
        shape[self.axis] = -1
        factors = np.ldexp(np.where(self.exponents & 1, ROOT, 1.0), self.exponents >> 1)
        return factors.reshape(shape)


def code_groups(stream: Stream, groups: Groups | None, shape: tuple[int, ...]) -> Groups:
    """Send the axis and the exponents of the groups of a tensor of this shape."""
    axis = stream.choice(None if groups is None else groups.axis, 2)
    if axis >= len(shape):
        raise DamagedStreamError("groups of a tensor that has none")
    exponents = code_coefficients(stream, None if groups is None else groups.exponents, shape[axis])
    if np.abs(exponents).max(initial=0) > LARGEST_EXPONENT:
        raise DamagedStreamError("a step of a group out of range")
    return Groups(axis, exponents)


def worthwhile_groups(sigma: Floats) -> list[tuple[Groups, float]]:
    r"""Groups whose steps promise to save more than they cost, and by how much each layer's step is then to be scaled.

    With factors :math:`f_g` and the layer's step scaled by :math:`\sqrt{\sum \sigma^{-2} / \sum f_g^2 \sigma^{-2}}`
    the expected error :math:`\sum \Delta_g^2 / 12 \sigma^2` stays as it is, and each weight saves
    :math:`\log_2` of its own step over the layer's.

    :param sigma: posterior standard deviations, 0 where pruned, of two axes or more.
    """
    kept = sigma > 0
    found: list[tuple[Groups, float]] = []
    if sigma.ndim < 2 or not kept.any():
        return found
    precision = sigma[kept] ** -2.0
    middle = float(np.median(sigma[kept]))
    for axis in (0, 1):
        groups = Groups(axis, _exponents(sigma, kept, axis, middle))
        factors = np.broadcast_to(groups.factors(sigma.ndim), sigma.shape)[kept]
        scale = math.sqrt(float(precision.sum() / (factors**2 @ precision)))
        meter = Meter()
        code_groups(meter, groups, sigma.shape)
        if float(np.log2(factors * scale).sum()) > meter.bits + LEAST_GAIN:
            found.append((groups, scale))
    return found


def _exponents(sigma: Floats, kept: NDArray[np.bool_], axis: int, middle: float) -> Ints:
    """Exponents of the groups' median deviations over the layer's; a group of no weight takes the commonest."""
    lines = np.moveaxis(np.where(kept, sigma, np.nan), axis, 0).reshape(sigma.shape[axis], -1)
    alive = np.isfinite(lines).any(axis=1)
    medians = np.nanmedian(lines[alive], axis=1)
    exponents = np.rint(2 * np.log2(medians / middle)).astype(np.int64)
    exponents = np.clip(exponents, -LARGEST_EXPONENT, LARGEST_EXPONENT)
    values, counts = np.unique(exponents, return_counts=True)
    out = np.full(sigma.shape[axis], values[counts.argmax()], np.int64)
    out[alive] = exponents
    return out
