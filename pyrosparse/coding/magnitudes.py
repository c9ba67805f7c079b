"""Adaptive coding of the magnitudes in a matrix, plane by plane: which of those that reach a class are beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.grid import Grid
from pyrosparse.coding.integers import class_of, first_of, width_of
from pyrosparse.coding.logistic import WEIGHT, Mixer, Rates, gather, log_of
from pyrosparse.coding.stream import DamagedStreamError, Stream

__all__ = ["MOST_PLANES", "code_magnitudes"]

Ints = NDArray[np.int64]
Small = NDArray[np.int8]
Indices = NDArray[np.int32]

MOST_PLANES = 256
WIDEST = 24  # bits of a magnitude below its class
LARGEST_BLOCK = 1 << 15


@dataclass(frozen=True)
class Learning:
    """How soon the coder learns: the first block, by which power of two less than what came before the next ones are.

    :param start: weights that reached the first plane, and others, before the first.
    """

    first: int
    shift: int
    start: tuple[int, int]


LEARNING = Learning(6, 3, (5, 1))
OLD_LEARNING = Learning(24, 2, (2, 1))  # up to version 2


def _blocks(count: int, learning: Learning) -> Iterator[tuple[int, int]]:
    """Blocks that grow by a part of what came before."""
    start = 0
    while start < count:
        end = min(count, start + min(max(learning.first, start >> learning.shift), LARGEST_BLOCK))
        yield start, end
        start = end


def code_magnitudes(stream: Stream, rest: Ints | None, mask: Small, grid: Grid, head: int) -> Ints:
    """Send non-negative integers by planes: which of those that reach a class are beyond it."""
    line, place = (axis.astype(np.int32) for axis in np.nonzero(mask))
    classes = None if rest is None else class_of(rest, head).astype(np.int32)
    top = stream.number(None if classes is None else int(classes.max()))
    if top > MOST_PLANES:
        raise DamagedStreamError("magnitudes out of range")
    reached = np.zeros(len(line), np.int32)
    alive = mask.copy()  # weights that reach the plane
    crowd = _around(mask, grid, line, place)
    at_place = np.bincount(place, minlength=mask.shape[1])
    at_line = np.bincount(line, minlength=len(mask))
    mixer = Mixer([WEIGHT, 40000, 20000, 20000])
    learning = LEARNING if stream.version >= 3 else OLD_LEARNING
    (ones, others), chosen = learning.start, np.arange(len(line), dtype=np.int32)
    for plane in range(top):
        if not len(chosen):
            raise DamagedStreamError("magnitudes that end too early")
        where, across = line[chosen], place[chosen]
        # How many of the same place and line came this far, against how many do on average.
        by_place, by_line = np.zeros(len(at_place), np.int64), np.zeros(len(at_line), np.int64)
        if plane:
            by_place, by_line = _share(across, at_place), _share(where, at_line)
        bits = np.zeros(len(chosen), np.int8)
        rates = Rates(np.repeat(np.array([8, 4]), [35, 1]))
        for start, end in _blocks(len(chosen), learning):
            part = slice(start, end)
            near = _around(alive, grid, where[part], across[part])
            contexts = np.full((2, end - start), 35, np.int32)
            contexts[1] = 5 * np.minimum(near, 6) + np.minimum(crowd[chosen[part]] - near, 4)
            features = np.empty((4, end - start), np.int32)
            features[:2] = gather(rates.odds(ones, others), contexts)
            features[1] -= features[0]
            features[2], features[3] = by_place[across[part]], by_line[where[part]]
            given = None if classes is None else (classes[chosen[part]] > plane).astype(np.int8)
            bits[part] = stream.coins(given, mixer.predict(features))
            mixer.learn(bits[part])
            rates.learn(contexts, bits[part])
        ones, others = int(rates.ones[35]) + 1, int(rates.total[35] - rates.ones[35]) + 1
        alive[where, across] = bits
        chosen = chosen[bits != 0]
        reached[chosen] += 1
    del alive, crowd, line, place
    found = reached.astype(np.int64)
    width = width_of(found, head)
    if width.max() > WIDEST:
        raise DamagedStreamError("a weight out of range")
    out = first_of(found, head)
    for size in np.unique(width[width > 0]):  # bits below the class, shortest first
        wide = width == size
        low = None if rest is None else rest[wide] - out[wide]
        out[wide] += stream.raw(low, int(wide.sum()), int(size))
    return out


def _share(which: Indices, at: Ints) -> Ints:
    """Log-odds of reaching the plane among weights of each line or place, less those of all weights."""
    reached, total = len(which), int(at.sum())
    counts = np.bincount(which, minlength=len(at))
    there = np.flatnonzero(counts)  # few of very many, late in a long row: the others are not asked for
    rates = Rates(np.full(len(there), 4))
    rates.ones, rates.total = counts[there], at[there]
    typical = log_of(np.array([reached, total - reached + 1], np.int64))
    out = np.zeros(len(at), np.int64)
    out[there] = rates.odds(reached, total - reached + 1) - (typical[0] - typical[1])
    return out


def _around(bits: Small, grid: Grid, line: Indices, place: Indices) -> Small:
    """How many neighbours on either side are set."""
    out = np.zeros(len(line), np.int8)
    for neighbour in grid.around.T:
        out += bits[neighbour[line], place]
    return out
