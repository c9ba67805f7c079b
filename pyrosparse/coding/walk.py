"""How an adaptively coded matrix is walked: chosen by trial, and what its coder then believes of each entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.adaptive import HEADS, STARTS, Walk, code_adaptive, code_lines, code_signs, feasible, start_of
from pyrosparse.coding.grid import Grid
from pyrosparse.coding.integers import class_of
from pyrosparse.coding.logistic import ONE
from pyrosparse.coding.magnitudes import MOST_PLANES, code_magnitudes
from pyrosparse.coding.stream import Meter, Stream, cheapest

__all__ = ["find_walk", "lags_of", "mask_rates"]

Ints = NDArray[np.int64]
Small = NDArray[np.int8]
Bools = NDArray[np.bool_]

TRIAL_LINES, TRIAL = 320, 1 << 16  # lines and entries on which the walk is chosen


def find_walk(levels: NDArray[np.int32], *, places: Ints | None = None) -> Walk | None:
    """Choose the walk by trial, on part of the matrix where it is large; None if it has too many lines."""
    halves = {turned: _part(levels, turned, places) for turned in (False, True)}
    parts = {turned: half for turned, half in halves.items() if half is not None}
    if not parts:
        return None

    def cost(stream: Stream, walk: Walk) -> None:
        part, positions = parts[walk.turned]
        grid = Grid(positions, walk.lag)
        mask = code_lines(stream, part != 0, (part.shape[0], part.shape[1]), grid, walk.rates, start=STARTS[walk.start])
        if np.unique(np.sign(part[part != 0])).size > 1:
            padded = np.vstack([mask, np.zeros((1, mask.shape[1]), np.int8)])
            code_signs(stream, (part[part != 0] < 0).astype(np.int8), padded, grid)

    start = start_of(np.count_nonzero(levels) / levels.size)
    walk = cheapest([Walk(turned, lag, start=start) for turned in parts for lag in (0, 1)], cost)
    part, positions = parts[walk.turned]
    lags = sorted({*lags_of(part != 0, positions), *lags_of(np.sign(part), positions)})
    walk = cheapest([walk, *(replace(walk, lag=lag) for lag in lags)], cost)
    walk = cheapest(
        [walk, *(replace(walk, lag=lag, rates=rates) for lag in sorted({0, walk.lag}) for rates in (0, 1))], cost
    )
    walk = _with_empty_lines(walk, levels, places)
    grid, padded = Grid(positions, walk.lag), np.vstack([part != 0, np.zeros((1, part.shape[1]), bool)])
    rest = np.abs(part[part != 0].astype(np.int64)) - 1

    def head_cost(stream: Stream, head: int) -> None:
        code_magnitudes(stream, rest, padded.astype(np.int8), grid, head)

    largest = int(np.abs(levels).max()) - 1
    heads = [h for h in HEADS if h == 0 or largest >= 1 << h]
    heads = [h for h in heads if class_of(np.array([largest]), h)[0] <= MOST_PLANES]
    return replace(walk, head=cheapest(heads, head_cost))


def _with_empty_lines(walk: Walk, levels: NDArray[np.int32], places: Ints | None) -> Walk:
    """Whether empty lines are walked too, by trial of the mask of a small matrix."""
    matrix = levels.T if walk.turned else levels
    if matrix.size > TRIAL or matrix.any(axis=1).all() or not feasible(*matrix.shape):
        return walk
    mask = (matrix != 0).astype(np.int32)

    def cost(stream: Stream, choice: Walk) -> None:
        code_adaptive(stream, mask.T if walk.turned else mask, levels.shape, choice, places=places)

    return cheapest([walk, replace(walk, whole=True)], cost)


def _part(levels: NDArray[np.int32], turned: bool, places: Ints | None) -> tuple[NDArray[np.int32], Ints] | None:
    """Lines in a row and evenly spaced places across them, few enough for a trial; and the lines' positions."""
    matrix = levels.T if turned else levels
    lines, across = matrix.any(axis=1), matrix.any(axis=0)
    if not feasible(int(lines.sum()), int(across.sum())):
        return None
    positions = (places if turned and places is not None else np.arange(len(matrix)))[lines]
    part = matrix[np.ix_(lines, across)]
    first = max(0, len(part) - TRIAL_LINES) // 2
    part = part[first : first + TRIAL_LINES]
    part = part[:, :: max(1, -(-part.size // TRIAL))]
    return (part, positions[first : first + TRIAL_LINES]) if part.any() else None


class _Record(Meter):
    """Keeps the probabilities of the coins."""

    def __init__(self) -> None:
        super().__init__()
        self.coins_seen: list[Ints] = []

    def coins(self, bits: Small | None, ones: Ints) -> Small:
        self.coins_seen.append(ones)
        return super().coins(bits, ones)


def mask_rates(levels: NDArray[np.int32], walk: Walk, *, places: Ints | None = None) -> NDArray[np.float64]:
    """Probability that the coder of the mask gives each entry of not being zero; 0 in dead rows and columns."""
    matrix = levels.T if walk.turned else levels
    positions = places if walk.turned and places is not None else np.arange(len(matrix), dtype=np.int64)
    lines, across = walk.lines(matrix), matrix.any(axis=0)
    record = _Record()
    mask = matrix[np.ix_(lines, across)] != 0
    grid = Grid(positions[lines], walk.lag)
    code_lines(record, mask, (mask.shape[0], mask.shape[1]), grid, walk.rates, start=STARTS[walk.start])
    out = np.zeros(matrix.shape)
    out[np.ix_(lines, across)] = np.stack(record.coins_seen) / ONE
    return out.T if walk.turned else out


def lags_of(values: Bools | NDArray[np.int32], positions: Ints, count: int = 2) -> list[int]:
    """Distances at which lines resemble each other most, by the autocorrelation of mask or signs."""
    positions = positions - positions[0]
    span = int(positions[-1]) + 1
    if span < 8 or span > 1 << 14:
        return []
    image = np.zeros((span, values.shape[1]))
    image[positions] = values
    image -= image.mean(axis=1 if image.shape[1] > 1 else 0, keepdims=True)
    power = np.abs(np.fft.rfft(image, 2 * span, axis=0)) ** 2
    likeness = np.fft.irfft(power.sum(axis=1))[2 : span // 2]
    peaks = np.argsort(-likeness, kind="stable")
    lags: list[int] = []
    for peak in (peaks + 2).tolist():
        if all(abs(peak - lag) > 2 for lag in lags) and peak > 2:
            lags.append(peak)
        if len(lags) == count:
            break
    return lags
