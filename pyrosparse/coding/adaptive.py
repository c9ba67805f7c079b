"""Adaptive coding of a matrix of integers that are mostly zero, line by line.

The matrix is walked over one of its axes; what is coded next is predicted from the lines before. A line has a
*position* (that of its pixel in the image, say), and the lines at nearby positions are its neighbours: with a
``lag`` of one image row those to the left, above, and so on. Each bit's probability is a logistic mixture of
the rate of its place across the walk, the rate of its line, and adaptive counts by what its neighbours hold.

First the mask is sent, then the signs, both line by line; then the magnitudes, plane by plane (is it larger
than 1? than 2? …), in blocks that grow with what has been learnt, where the neighbours on both sides are
known up to the plane before. All arithmetic is on integers (:mod:`pyrosparse.coding.logistic`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.integers import class_of, code_counts, first_of, width_of
from pyrosparse.coding.logistic import COUNT, WEIGHT, Mixer, Rates, log_of, odds
from pyrosparse.coding.mask import code_alive
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest

__all__ = ["Walk", "code_adaptive", "feasible", "find_walk"]

Ints = NDArray[np.int64]
Small = NDArray[np.int8]
Bools = NDArray[np.bool_]

LONGEST_LAG = 1 << 16
LEARNT_RATES = -1  # rates of lines are learnt from the lines nearby; else bits of the counts that are sent
RATES = (LEARNT_RATES, 0, 1)
HEADS = (0, 1, 2, 3, 4)  # mantissa bits of a magnitude that have planes of their own
MOST_PLANES = 128
FIRST_BLOCK = 16
TRIAL = 1 << 17  # entries on which the walk is chosen


@dataclass(frozen=True)
class Walk:
    """How a matrix is walked.

    :param turned: lines are the columns of the matrix instead of its rows.
    :param lag: distance of the line above in a grid; 1: only the lines just before; 0: no neighbours.
    :param rates: :data:`LEARNT_RATES`, or bits of the counts that are sent for each line.
    :param head: bits of a magnitude after the leading one that are predicted.
    """

    turned: bool = False
    lag: int = 0
    rates: int = LEARNT_RATES
    head: int = 2


def feasible(lines: int, width: int) -> bool:
    """Whether a loop over the lines is short enough."""
    return lines <= max(2048, lines * width >> 8)


def code_adaptive(
    stream: Stream,
    levels: NDArray[np.int32] | None,
    shape: tuple[int, int],
    walk: Walk | None,
    *,
    places: Ints | None = None,
    sections: tuple[str, str] = ("mask", "values"),
) -> NDArray[np.int32]:
    """Send a matrix of integers.

    :param levels: the matrix, of magnitudes below 2^24, or None to fetch it.
    :param shape: its rows and columns.
    :param walk: how to walk it; None to fetch it.
    :param places: positions of the columns, strictly increasing; 0, 1, 2, … when None.
    :param sections: where the lengths of mask and values are counted.
    """
    stream.section(sections[0])
    walk = _code_walk(stream, walk)
    height, width = reversed(shape) if walk.turned else shape
    matrix = None if levels is None else (levels.T if walk.turned else levels)
    positions = places if walk.turned and places is not None else np.arange(height, dtype=np.int64)
    lines = code_alive(stream, None if matrix is None else matrix.any(axis=1), height)
    across = code_alive(stream, None if matrix is None else matrix.any(axis=0), width)
    inner = None if matrix is None else matrix[np.ix_(lines, across)]
    size = (int(lines.sum()), int(across.sum()))
    if not feasible(*size):
        raise DamagedStreamError("a matrix of too many lines")
    grid = _Grid(positions[lines], walk.lag)
    mask = _code_mask(stream, None if inner is None else inner != 0, size, grid, walk.rates)
    stream.section(sections[1])
    values = _code_values(stream, None if inner is None else inner[mask != 0], mask, grid, walk.head)
    got = np.zeros(size, np.int32)
    got[mask != 0] = values
    out = np.zeros((height, width), np.int32)
    out[np.ix_(lines, across)] = got
    return out.T if walk.turned else out


def _code_walk(stream: Stream, walk: Walk | None) -> Walk:
    turned = stream.flag(None if walk is None else walk.turned)
    lag = stream.number(None if walk is None else walk.lag)
    rates = stream.choice(None if walk is None else RATES.index(walk.rates), len(RATES))
    head = stream.choice(None if walk is None else HEADS.index(walk.head), len(HEADS))
    if lag > LONGEST_LAG:
        raise DamagedStreamError("a lag out of range")
    return Walk(turned, lag, RATES[rates], HEADS[head])


class _Grid:
    """Which lines are neighbours of each line; absent ones are the line after the last, which is empty."""

    def __init__(self, positions: Ints, lag: int) -> None:
        self.lag = lag
        self._positions = positions
        near: tuple[int, ...] = ()
        far: tuple[int, ...] = ()
        farther: tuple[int, ...] = ()
        if lag == 1:
            near, far, farther = (1, 2), (3, 4), (5, 6, 7)
        elif lag:
            near = (1, lag, lag + 1, lag - 1)
            far = (2, 2 * lag, lag + 2, lag - 2, 2 * lag - 1, 2 * lag + 1)
            farther = (3, 3 * lag, 2 * lag + 2, 2 * lag - 2, 3 * lag + 1, 3 * lag - 1)
        self.near, self.far, self.farther = (self._before(o) for o in (near, far, farther))
        self.around = self._before((*near, *(-o for o in near)))

    def _before(self, offsets: tuple[int, ...]) -> Ints:
        """Index of the line at each offset before each line, shape ``(lines, offsets)``."""
        count = len(self._positions)
        out = np.full((count, len(offsets)), count, np.int64)
        for i, offset in enumerate(offsets):
            wanted = self._positions - offset
            found = np.minimum(np.searchsorted(self._positions, wanted), max(count - 1, 0))
            there = self._positions[found] == wanted if offset else np.zeros(count, bool)
            out[there, i] = found[there]
        return out


def _code_mask(stream: Stream, mask: Bools | None, size: tuple[int, int], grid: _Grid, head: int) -> Small:
    """Send what is not zero, line by line; returns ones and zeros with an empty line at the end."""
    lines, width = size
    done = np.zeros((lines + 1, width), np.int8)
    if lines * width == 0:
        return done[:lines]
    given = None if mask is None else mask.astype(np.int8)
    counts = None
    if head != LEARNT_RATES:
        exact = None if mask is None else mask.sum(axis=1, dtype=np.int64)
        counts = np.minimum(code_counts(stream, exact, lines, head=head), width)
    bit = np.int64(1) << np.arange(grid.near.shape[1])
    patterns, crowds = Rates(16), Rates(42)
    mixer = Mixer([WEIGHT, 50000, WEIGHT if counts is not None else 50000, 40000, 30000])
    here = np.zeros(width, np.int64)  # ones so far at each place
    full = np.zeros(lines + 1, np.int64)  # ones in each line
    rate = (COUNT, 8 * COUNT)
    features = np.empty((5, width), np.int64)
    for line in range(lines):
        common = int(_odds_of(rate))
        features[0] = common
        features[1] = odds(here, np.int64(line), rate, 8) - common
        features[2:] = 0
        if counts is not None:
            features[2] = _single(int(counts[line]), width, rate, 1) - common
        if grid.lag:
            near, far = grid.near[line], grid.far[line]
            pattern = bit @ done[near]
            crowd = 7 * np.minimum(_total(done, far), 5) + np.minimum(_total(done, grid.farther[line]), 6)
            known = near[near < line].tolist() + far[far < line].tolist()
            if counts is None and known:
                features[2] = _single(int(full[known].sum()), len(known) * width, rate, 24) - common
            features[3] = patterns.odds(pattern, rate) - common
            features[4] = crowds.odds(crowd, rate) - common
        bits = stream.coins(None if given is None else given[line], mixer.predict(features))
        mixer.learn(bits)
        if grid.lag:
            patterns.learn(pattern, bits)
            crowds.learn(crowd, bits)
        done[line] = bits
        here += bits
        full[line] = ones = int(bits.sum(dtype=np.int64))
        rate = (rate[0] + COUNT * ones, rate[1] + COUNT * (width - ones))
    return done[:lines]


def _total(done: Small, lines: Ints) -> Ints:
    return done[lines].sum(axis=0, dtype=np.int64)


def _odds_of(rate: tuple[int, int]) -> np.int64:
    pair = log_of(np.array(rate, np.int64))
    return np.int64(pair[0] - pair[1])


def _single(ones: int, total: int, rate: tuple[int, int], strength: int) -> int:
    return int(odds(np.array([ones], np.int64), np.int64(total), rate, strength)[0])


def _code_values(
    stream: Stream, values: NDArray[np.int32] | None, mask: Small, grid: _Grid, head: int
) -> NDArray[np.int32]:
    """Send the integers that are not zero, in the order of the walk."""
    if not mask.any():
        return np.zeros(0, np.int32)
    padded = np.vstack([mask, np.zeros((1, mask.shape[1]), np.int8)])
    negative = _code_signs(stream, None if values is None else (values < 0).astype(np.int8), padded, grid)
    rest = None if values is None else np.abs(values.astype(np.int64)) - 1
    size = _code_magnitudes(stream, rest, padded, grid, head) + 1
    return np.where(negative, -size, size).astype(np.int32)


def _code_signs(stream: Stream, negative: Small | None, mask: Small, grid: _Grid) -> Bools:
    """Send signs line by line; the context is the signs of the neighbours."""
    lines, width = len(mask) - 1, mask.shape[1]
    done = np.zeros((lines + 1, width), np.int8)  # 1: negative, -1: positive, 0: no weight
    out = np.zeros(int(mask.sum(dtype=np.int64)), bool)
    contexts, crowds, mixer = Rates(81), Rates(13), Mixer([WEIGHT, 30000, 50000, 30000])
    weight = 3 ** np.arange(grid.near.shape[1])
    below, here = np.zeros(width, np.int64), np.zeros(width, np.int64)
    rate, start = (COUNT, COUNT), 0
    for line in range(lines):
        places = np.flatnonzero(mask[line])
        if not len(places):
            continue
        common = int(_odds_of(rate))
        features = np.zeros((4, len(places)), np.int64)
        features[0] = common
        features[1] = odds(below[places], here[places], rate, 4) - common
        if grid.lag:
            context = weight @ (done[grid.near[line]][:, places] + 1)
            crowd = np.clip(_total(done, grid.far[line])[places], -6, 6) + 6
            features[2] = contexts.odds(context, rate) - common
            features[3] = crowds.odds(crowd, rate) - common
        end = start + len(places)
        bits = stream.coins(None if negative is None else negative[start:end], mixer.predict(features))
        mixer.learn(bits)
        if grid.lag:
            contexts.learn(context, bits)
            crowds.learn(crowd, bits)
        done[line, places] = 2 * bits - 1
        below[places] += bits
        here[places] += 1
        out[start:end] = bits
        start, ones = end, int(bits.sum(dtype=np.int64))
        rate = (rate[0] + COUNT * ones, rate[1] + COUNT * (len(places) - ones))
    return out


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    """Blocks that grow by an eighth of what came before."""
    start = 0
    while start < count:
        end = min(count, start + max(FIRST_BLOCK, start >> 3))
        yield start, end
        start = end


def _code_magnitudes(stream: Stream, rest: Ints | None, mask: Small, grid: _Grid, head: int) -> Ints:
    """Send non-negative integers by planes: which of those that reach a class are beyond it."""
    line, place = np.nonzero(mask)
    classes = None if rest is None else class_of(rest, head)
    top = stream.number(None if classes is None else int(classes.max()))
    if top > MOST_PLANES:
        raise DamagedStreamError("magnitudes out of range")
    reached = np.zeros(len(line), np.int64)
    alive = mask.copy()  # weights that reach the plane
    crowd = _around(mask, grid, line, place)
    at_place = np.bincount(place, minlength=mask.shape[1])
    at_line = np.bincount(line, minlength=len(mask))
    mixer = Mixer([WEIGHT, 40000, 20000, 20000])
    rate, chosen = (2 * COUNT, COUNT), np.arange(len(line))
    for plane in range(top):
        where, across = line[chosen], place[chosen]
        near = _around(alive, grid, where, across)
        context = 5 * np.minimum(near, 6) + np.minimum(crowd[chosen] - near, 4)
        common = (len(chosen), len(line) - len(chosen) + 1)
        typical = int(_odds_of(common))
        fixed = np.zeros((2, len(chosen)), np.int64)
        if plane:  # how many of the same place and line came this far, against how many do on average
            fixed[0] = (odds(np.bincount(across, minlength=len(at_place)), at_place, common, 4) - typical)[across]
            fixed[1] = (odds(np.bincount(where, minlength=len(at_line)), at_line, common, 4) - typical)[where]
        bits = np.zeros(len(chosen), np.int8)
        given = None if classes is None else (classes[chosen] > plane).astype(np.int8)
        contexts = Rates(35, 8)
        total = rate[0] + rate[1]
        rate = (4 * COUNT * rate[0] // total + 1, 4 * COUNT * rate[1] // total + 1)
        for start, end in _blocks(len(chosen)):
            part = slice(start, end)
            typical = int(_odds_of(rate))
            features = np.empty((4, end - start), np.int64)
            features[0] = typical
            features[1] = contexts.odds(context[part], rate) - typical
            features[2:] = fixed[:, part]
            bits[part] = stream.coins(None if given is None else given[part], mixer.predict(features))
            mixer.learn(bits[part])
            contexts.learn(context[part], bits[part])
            ones = int(bits[part].sum(dtype=np.int64))
            rate = (rate[0] + COUNT * ones, rate[1] + COUNT * (end - start - ones))
        alive[where, across] = bits
        chosen = chosen[bits != 0]
        reached[chosen] += 1
    out = first_of(reached, head)
    width = width_of(reached, head)
    for size in np.unique(width[width > 0]):  # bits below the class, shortest first
        wide = width == size
        low = None if rest is None else rest[wide] - out[wide]
        out[wide] += stream.raw(low, int(wide.sum()), int(size))
    return out


def _around(bits: Small, grid: _Grid, line: Ints, place: Ints) -> Ints:
    """How many neighbours on either side are set."""
    out = np.zeros(len(line), np.int64)
    for neighbour in grid.around.T:
        out += bits[neighbour[line], place]
    return out


def find_walk(levels: NDArray[np.int32], *, places: Ints | None = None) -> Walk | None:
    """Choose the walk by trial, on part of the matrix where it is large; None if it has too many lines."""
    alive = (int(levels.any(axis=1).sum()), int(levels.any(axis=0).sum()))
    turns = [turned for turned in (False, True) if feasible(*(alive[::-1] if turned else alive))]
    if not turns or not all(alive):
        return None
    tries = []
    parts = {turned: _part(levels, turned) for turned in turns}
    for turned in turns:
        walk = Walk(turned)
        tries += [walk, replace(walk, rates=0), replace(walk, lag=1)]
        matrix = parts[turned].T if turned else parts[turned]
        positions = places if turned and places is not None else np.arange(len(matrix))
        tries += [replace(walk, lag=lag) for lag in _lags(matrix, positions)]

    def cost(stream: Stream, walk: Walk) -> None:
        part = parts[walk.turned]
        columns = places if places is not None and part.shape[1] == len(places) else None
        code_adaptive(stream, part, part.shape, walk, places=columns)

    best = cheapest(tries, cost)
    best = cheapest([best, *(replace(best, rates=r) for r in RATES if r != best.rates)], cost)
    most = int(class_of(np.array([np.abs(levels).max() - 1]), max(HEADS))[0])
    heads = [h for h in HEADS if h < max(HEADS) or most <= MOST_PLANES]
    return cheapest([replace(best, head=h) for h in heads], cost)


def _part(levels: NDArray[np.int32], turned: bool) -> NDArray[np.int32]:
    """Evenly spaced places across the walk, of all lines, few enough for a trial."""
    lines, width = reversed(levels.shape) if turned else levels.shape
    step = -(-lines * width // TRIAL)
    return levels[::step] if turned else levels[:, ::step]


def _lags(matrix: NDArray[np.int32], positions: Ints, count: int = 2) -> list[int]:
    """Distances at which lines resemble each other most, by the autocorrelation of the mask."""
    span = int(positions[-1]) + 1
    if span < 8 or span > 1 << 14:
        return []
    image = np.zeros((span, matrix.shape[1]))
    image[positions] = matrix != 0
    image -= image.mean(axis=1, keepdims=True)
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
