"""Coding of the two integers of complex weights that are not zero.

A circular posterior knows no direction, and what pruning has left has a hole at 0: so a pair can be sent as its
*ring*, ``max(|re|, |im|)``, with a histogram of the rings, and its place among the 8 r pairs of the ring, all as
likely. The other way is one histogram for both parts. The shorter is taken.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.integers import code_coefficients
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest

__all__ = ["code_pairs"]

Ints = NDArray[np.int64]

LARGEST_RING = 512  # beyond it a histogram of rings says little, and each ring costs a call


def code_pairs(stream: Stream, pairs: Ints | None, count: int) -> Ints:
    """Send pairs of integers, shape ``(count, 2)``, none of them (0, 0)."""
    if count == 0:
        return np.zeros((0, 2), np.int64)
    rings = None
    if pairs is not None:
        small = int(np.abs(pairs).max()) <= LARGEST_RING
        rings = cheapest([False, True] if small else [False], partial(_measure, pairs, count))
    return (_code_rings if stream.flag(rings) else _code_parts)(stream, pairs, count)


def _measure(pairs: Ints, count: int, stream: Stream, rings: bool) -> None:
    (_code_rings if rings else _code_parts)(stream, pairs, count)


def _code_parts(stream: Stream, pairs: Ints | None, count: int) -> Ints:
    return code_coefficients(stream, None if pairs is None else pairs.T.reshape(-1), 2 * count).reshape(2, count).T


def _code_rings(stream: Stream, pairs: Ints | None, count: int) -> Ints:
    rings = code_coefficients(stream, None if pairs is None else np.abs(pairs).max(axis=1), count)
    if rings.min() < 1 or rings.max() > LARGEST_RING:
        raise DamagedStreamError("a pair out of range")
    given = None if pairs is None else _place(pairs, rings)
    places = np.zeros(count, np.int64)
    for ring in np.unique(rings):
        of_ring = rings == ring
        part = None if given is None else given[of_ring]
        places[of_ring] = stream.uniform(part, int(of_ring.sum()), 8 * int(ring))
    return _pair(places, rings)


def _place(pairs: Ints, rings: Ints) -> Ints:
    """Place on the ring, counted anticlockwise from (r, −r): four sides of 2 r pairs."""
    re, im = pairs.T
    sides = [(re == rings) & (im < rings), (im == rings) & (re > -rings), (re == -rings) & (im > -rings)]
    along = [im + rings, rings - re, rings - im]
    side = np.select(sides, [0, 1, 2], 3)
    return 2 * rings * side + np.select(sides, along, re + rings)


def _pair(places: Ints, rings: Ints) -> Ints:
    side, along = np.divmod(places, 2 * rings)
    re = np.choose(side, [rings, rings - along, -rings, along - rings])
    im = np.choose(side, [along - rings, rings, rings - along, -rings])
    return np.stack([re, im], axis=1)
