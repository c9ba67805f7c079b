"""Coding of index maps and counters: as a list, a bitmap or runs, whichever is shorter."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.integers import code_coefficients
from pyrosparse.coding.mask import code_bits
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest

__all__ = ["code_index"]

Ints = NDArray[np.int64]


def code_index(stream: Stream, levels: Ints | None, count: int) -> Ints:
    """Send ``count`` integers."""
    ways = ("list", "bitmap", "runs")
    way = None
    if levels is not None:
        rising = count > 0 and levels[0] >= 0 and bool((np.diff(levels) > 0).all())
        possible = ways if rising and levels[-1] < min(1 << 26, (1 << 16) + 4096 * count) else ways[:1]
        way = cheapest(possible, partial(_measure_index, levels))
    way = ways[stream.choice(None if way is None else ways.index(way), len(ways))]
    return _code_index(stream, levels, count, way)


def _measure_index(levels: Ints, stream: Stream, way: str) -> None:
    _code_index(stream, levels, len(levels), way)


def _code_index(stream: Stream, levels: Ints | None, count: int, way: str) -> Ints:
    if way == "list":
        return code_coefficients(stream, levels, count)
    if way == "bitmap":
        size = stream.number(None if levels is None else int(levels[-1]) + 1)
        if size > 1 << 26 or size > (1 << 16) + 4096 * count:
            raise DamagedStreamError("an index map that is too long")
        bits = None
        if levels is not None:
            bits = np.zeros(size, bool)
            bits[levels] = True
        got = np.flatnonzero(code_bits(stream, bits, size))
        if len(got) != count:
            raise DamagedStreamError("an index map of the wrong length")
        return got
    return _code_runs(stream, levels, count)


def _code_runs(stream: Stream, levels: Ints | None, count: int) -> Ints:
    """Runs of consecutive indices: how many are left out before each, and how long each is."""
    gaps = lengths = None
    if levels is not None:
        starts = np.flatnonzero(np.diff(levels, prepend=-2) != 1)
        lengths = np.diff(starts, append=count)
        ends = levels[starts] + lengths  # first index after each run
        gaps = levels[starts] - np.concatenate([[0], ends[:-1]])
    runs = stream.number(None if gaps is None else len(gaps))
    if runs > count:
        raise DamagedStreamError("an index map with more runs than entries")
    gaps = code_coefficients(stream, gaps, runs)
    lengths = code_coefficients(stream, lengths, runs)
    if (gaps < 0).any() or (lengths < 1).any() or int(lengths.sum()) != count:
        raise DamagedStreamError("an index map of the wrong length")
    return np.arange(count, dtype=np.int64) + np.repeat(gaps.cumsum(), lengths)
