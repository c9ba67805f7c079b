"""Standard normal numbers that are the same on every machine: a hash of a counter, and a table of quantiles.

A 64-bit counter goes through the finaliser of SplitMix64 (Steele, Lea and Flood, 2014: three shifts and two
products modulo 2^64). Each of the four 16-bit lanes of the hash gives one number: 13 of its bits choose among the
2^13 quantiles of the normal law at (2k + 1)/2^14, in units of 2^-12. The table comes from :mod:`decimal`, whose
arithmetic is correctly rounded; all that follows is integer arithmetic. The largest number is 3.84; variance and
fourth moment are those of the normal law to 2 and 13 parts in 10^4.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.logistic import decimals

__all__ = ["INDEX_BITS", "LANES", "UNIT", "normals", "quantiles", "shuffled"]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

UNIT = 1 << 12  # one standard deviation
LANES = 4  # numbers of one hash
INDEX_BITS = 20  # bits of a counter that tell draws of the same group apart
_QUANTILE_BITS = 13
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@cache
def quantiles() -> NDArray[np.int32]:
    """Quantiles of the standard normal law at (2k + 1)/2^14 for k from 0 to 2^13 − 1, in units of 2^-12."""
    half = 1 << (_QUANTILE_BITS - 1)
    law = NormalDist()
    upper = []
    with localcontext(decimals(20)):
        root = Decimal("2.50662827463100050242")  # of 2 pi
        for k in range(half):
            p = (Decimal(2 * k + 1) / (4 * half)).normalize()  # beyond the median
            x = Decimal(law.inv_cdf(0.5 + float(p))).quantize(Decimal("1e-12"))
            density = (-x * x / 2).exp() / root
            upper.append(int(((x - (_beyond(x) * density - p) / density) * UNIT).to_integral_value()))
    return np.array([*(-x for x in reversed(upper)), *upper], np.int32)


def _beyond(x: Decimal) -> Decimal:
    """Mass of the normal law from 0 to x over its density at x: ``x + x^3/3 + x^5/(3·5) + …``."""
    total = term = x
    odd = 1
    while term > total.scaleb(-18):
        odd += 2
        term = term * x * x / odd
        total += term
    return total


def _mixed(counters: Words) -> Words:
    """The finaliser of SplitMix64, modulo 2^64."""
    z = counters * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _keyed(key: int, counters: Words) -> Words:
    return _mixed(counters + _mixed(np.array([key], np.uint64)))


def normals(key: int, groups: Ints, indices: Ints) -> NDArray[np.int32]:
    """Numbers of standard normal law, :data:`LANES` for each pair of a group and an index.

    :param key: 64 bits that tell one sequence from another.
    :param groups: numbers below 2^44; they broadcast with the indices.
    :param indices: numbers below 2^20: which of the draws of the group.
    :return: multiples of 1/:data:`UNIT`, with a last axis of :data:`LANES`.
    """
    words = _keyed(key, (groups.astype(np.uint64) << np.uint64(INDEX_BITS)) | indices.astype(np.uint64))
    lanes = words[..., None] >> (np.uint64(16) * np.arange(LANES, dtype=np.uint64))
    return quantiles()[(lanes & np.uint64((1 << _QUANTILE_BITS) - 1)).astype(np.int64)]


def shuffled(key: int, count: int) -> Ints:
    """Order of ``count`` things by the hash of their numbers."""
    words = _keyed(key ^ 0x5DEECE66D, np.arange(count, dtype=np.uint64))
    return np.argsort(words, kind="stable")
