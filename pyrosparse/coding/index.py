"""Coding of index maps and counters: as a list, a bitmap (static or adaptive) or runs, whichever is shorter."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.adaptive import LEARNT_RATES, code_lines
from pyrosparse.coding.grid import Grid
from pyrosparse.coding.integers import code_coefficients
from pyrosparse.coding.mask import code_bits
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest
from pyrosparse.coding.walk import lags_of

__all__ = ["code_index"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


EVEN = (4, 4)  # ones and others that an image starts with
LARGEST_MAP = 2048  # positions of a bitmap that is coded adaptively


def code_index(stream: Stream, levels: Ints | None, count: int) -> Ints:
    """Send ``count`` integers."""
    ways = ("list", "bitmap", "runs", "image")[: 3 if stream.version < 3 else 4]
    way, lag = (None, 0) if levels is None else _way(levels.tobytes(), ways)
    way = ways[stream.choice(None if way is None else ways.index(way), len(ways))]
    return _code_index(stream, levels, count, (way, lag))


@lru_cache(maxsize=16)
def _way(data: bytes, ways: tuple[str, ...]) -> tuple[str, int]:
    """The shortest way to send these integers, and the lag of an image."""
    levels = np.frombuffer(data, np.int64)
    count = len(levels)
    rising = count > 0 and levels[0] >= 0 and bool((np.diff(levels) > 0).all())
    possible = [("list", 0)]
    if rising and levels[-1] < _longest(count):
        possible += [("bitmap", 0), ("runs", 0)]
        if "image" in ways and levels[-1] < LARGEST_MAP:
            bits = _bitmap(levels, int(levels[-1]) + 1)
            possible += [("image", lag) for lag in (1, *lags_of(bits[:, None], np.arange(len(bits))))]
    return cheapest(possible, lambda stream, choice: _code_index(stream, levels, count, choice))


def _longest(count: int) -> int:
    """Positions of a bitmap with so many ones, at most."""
    return min(1 << 26, (1 << 16) + 4096 * count)


def _bitmap(levels: Ints, size: int) -> Bools:
    bits = np.zeros(size, bool)
    bits[levels] = True
    return bits


def _code_index(stream: Stream, levels: Ints | None, count: int, way: tuple[str, int]) -> Ints:
    code = {"list": code_coefficients, "bitmap": _code_bitmap, "runs": _code_runs}.get(way[0])
    return _code_image(stream, levels, count, way[1]) if code is None else code(stream, levels, count)


def _code_bitmap(stream: Stream, levels: Ints | None, count: int) -> Ints:
    """A bit for each position up to the last index, all with one rate."""
    size = stream.number(None if levels is None else int(levels[-1]) + 1)
    if size > _longest(count):
        raise DamagedStreamError("an index map that is too long")
    bits = None if levels is None else _bitmap(levels, size)
    return _found(code_bits(stream, bits, size, expected=count), count)


def _code_image(stream: Stream, levels: Ints | None, count: int, lag: int) -> Ints:
    """A bit for each position up to the last index, predicted from those before it and those a lag back."""
    size = stream.number(None if levels is None else int(levels[-1]) + 1)
    lag = stream.number(None if levels is None else lag)
    if size > LARGEST_MAP or not 1 <= lag <= LARGEST_MAP:
        raise DamagedStreamError("an index map that is too long")
    bits = None if levels is None else _bitmap(levels, size)[:, None]
    grid = Grid(np.arange(size, dtype=np.int64), lag)
    return _found(code_lines(stream, bits, (size, 1), grid, LEARNT_RATES, start=EVEN)[:, 0] != 0, count)


def _found(bits: Bools, count: int) -> Ints:
    indices = np.flatnonzero(bits)
    if len(indices) != count:
        raise DamagedStreamError("an index map of the wrong length")
    return indices


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
