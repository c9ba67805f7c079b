"""Adaptive coding of a matrix of integers that are mostly zero, line by line.

The matrix is walked over one of its axes; what is coded next is predicted from the lines before. A line has a
*position* (that of its pixel in the image, say), and the lines at nearby positions are its neighbours: with a
``lag`` of one image row those to the left, above, and so on. Each bit's probability is a logistic mixture of
the rate of its place across the walk, the rate of its line, and adaptive counts by what its neighbours hold.

First the mask is sent, then the signs, both line by line; then the magnitudes, plane by plane (is it larger
than 1? than 2? …), in blocks that grow with what has been learnt, where the neighbours on both sides are
known up to the plane before (:mod:`pyrosparse.coding.magnitudes`). All arithmetic is on integers
(:mod:`pyrosparse.coding.logistic`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.grid import Grid
from pyrosparse.coding.integers import code_counts
from pyrosparse.coding.logistic import WEIGHT, Mixer, Rates, gather
from pyrosparse.coding.magnitudes import code_magnitudes
from pyrosparse.coding.mask import code_alive
from pyrosparse.coding.stream import DamagedStreamError, Stream

__all__ = ["HEADS", "RATES", "Walk", "code_adaptive", "code_lines", "code_signs", "feasible"]

Ints = NDArray[np.int64]
Small = NDArray[np.int8]
Bools = NDArray[np.bool_]

LONGEST_LAG = 1 << 16
LINE = 128  # symbols that take the time of one line
LEARNT_RATES = -1  # rates of lines are learnt from the lines nearby; else bits of the counts that are sent
RATES = (LEARNT_RATES, 0, 1)
HEADS = (0, 1, 2, 3, 4)  # mantissa bits of a magnitude that have planes of their own
STARTS = ((1, 8), (2, 6), (4, 4), (14, 2))  # ones and others that the mask is supposed to have shown before it starts


@dataclass(frozen=True)
class Belief:
    """How a mixer starts: weights of the features, and how much information they are worth."""

    weights: tuple[int, ...]
    information: int


BELIEF = Belief((WEIGHT, 25000, 30000, 30000, 25000), 48)
OLD_BELIEF = Belief((WEIGHT, 50000, 50000, 40000, 30000), 16)  # up to version 2


@dataclass(frozen=True)
class Walk:
    """How a matrix is walked.

    :param turned: lines are the columns of the matrix instead of its rows.
    :param lag: distance of the line above in a grid; 1: only the lines just before; 0: no neighbours.
    :param rates: :data:`LEARNT_RATES`, or bits of the counts that are sent for each line.
    :param head: bits of a magnitude after the leading one that are predicted.
    :param start: which of :data:`STARTS` the density is near; 0 up to version 2.
    :param whole: empty lines are coded like the others instead of being left out. Of a sparse matrix some lines are
        empty by chance; to say which costs more than it saves. Readers need not know.
    """

    turned: bool = False
    lag: int = 0
    rates: int = LEARNT_RATES
    head: int = 2
    start: int = 0
    whole: bool = False

    def lines(self, matrix: Ints | NDArray[np.int32] | Bools) -> Bools:
        """Which lines of a matrix are walked."""
        return np.ones(len(matrix), bool) if self.whole else np.any(matrix, axis=1)


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
    lines = code_alive(stream, None if matrix is None else walk.lines(matrix), height)
    across = code_alive(stream, None if matrix is None else np.any(matrix, axis=0), width)
    inner = None if matrix is None else matrix[np.ix_(lines, across)]
    size = (int(lines.sum()), int(across.sum()))
    if not feasible(*size):
        raise DamagedStreamError("a matrix of too many lines")
    grid = Grid(positions[lines], walk.lag)
    mask = code_lines(stream, None if inner is None else inner != 0, size, grid, walk.rates, start=STARTS[walk.start])
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
    start = stream.choice(None if walk is None else walk.start, len(STARTS)) if stream.version >= 3 else 0
    if lag > LONGEST_LAG:
        raise DamagedStreamError("a lag out of range")
    return walk or Walk(turned, lag, RATES[rates], HEADS[head], start)


def start_of(density: float) -> int:
    """Which of :data:`STARTS` is nearest to a density, in log-odds."""
    return sum(density > limit for limit in (0.17, 0.37, 0.75))


def code_lines(
    stream: Stream, mask: Bools | None, size: tuple[int, int], grid: Grid, head: int, *, start: tuple[int, int]
) -> Small:
    """Send what is not zero, line by line; returns ones and zeros.

    :param head: see :attr:`Walk.rates`.
    :param start: ones and others before the first.
    """
    lines, width = size
    stream.admit(LINE * lines)
    done = np.zeros((lines + 1, width), np.int8)
    if lines * width == 0:
        return done[:lines]
    given = None if mask is None else mask.astype(np.int8)
    counts = None
    if head != LEARNT_RATES:
        exact = None if mask is None else mask.sum(axis=1, dtype=np.int64)
        counts = np.minimum(code_counts(stream, exact, lines, head=head), width)
    near, far = grid.near.shape[1], grid.far.shape[1]
    weights = np.zeros((3, grid.before.shape[1]), np.int8)
    weights[0, :near] = 1 << np.arange(near)
    weights[1, near : near + far] = 1
    weights[2, near + far :] = 1
    # Contexts: each place, patterns of near neighbours, numbers of far ones, this line, everything.
    pattern, crowd, this, everything = width, width + 16, width + 58, width + 59
    strengths = np.repeat(np.array([8, 4, 4, 24 if counts is None else 1, 1]), [width, 16, 42, 1, 1])
    rates = Rates(strengths)
    contexts = np.empty((5 if grid.lag else 3, width), np.int32)
    contexts[0] = everything
    contexts[1] = this
    contexts[2] = np.arange(width)
    belief = BELIEF if stream.version >= 3 else OLD_BELIEF
    trust = [*belief.weights[: len(contexts)]]
    if counts is not None:
        trust[1] = WEIGHT
    mixer = Mixer(trust, belief.information)
    full = np.zeros(lines + 1, np.int64)  # ones in each line
    full[lines] = -1
    for line in range(lines):
        if counts is not None:
            rates.ones[this], rates.total[this] = counts[line], width
        elif grid.lag:
            known = full[grid.before[line, : near + far]]
            known = known[known >= 0]
            rates.ones[this], rates.total[this] = known.sum(), len(known) * width
        if grid.lag:
            sums = weights @ done[grid.before[line]]
            contexts[3] = sums[0] + np.int64(pattern)
            contexts[4] = 7 * np.minimum(sums[1], 5) + np.minimum(sums[2], 6) + np.int64(crowd)
        ones = int(rates.ones[everything])
        odds = rates.odds(ones + start[0], int(rates.total[everything]) - ones + start[1])
        features = gather(odds, contexts)
        features[1:] -= features[0]
        bits = stream.coins(None if given is None else given[line], mixer.predict(features))
        mixer.learn(bits)
        rates.learn(contexts, bits)
        done[line] = bits
        full[line] = bits.sum(dtype=np.int64)
    return done[:lines]


def _code_values(
    stream: Stream, values: NDArray[np.int32] | None, mask: Small, grid: Grid, head: int
) -> NDArray[np.int32]:
    """Send the integers that are not zero, in the order of the walk."""
    if not mask.any():
        return np.zeros(0, np.int32)
    padded = np.vstack([mask, np.zeros((1, mask.shape[1]), np.int8)])
    negative = code_signs(stream, None if values is None else (values < 0).astype(np.int8), padded, grid)
    rest = None if values is None else np.abs(values.astype(np.int64)) - 1
    size = code_magnitudes(stream, rest, padded, grid, head) + 1
    return np.where(negative, -size, size).astype(np.int32)


def code_signs(stream: Stream, negative: Small | None, mask: Small, grid: Grid) -> Bools:
    """Send signs line by line; the context is the signs of the neighbours."""
    lines, width = len(mask) - 1, mask.shape[1]
    done = np.zeros((lines + 1, width), np.int8)  # 1: negative, -1: positive, 0: no weight
    out = np.zeros(int(mask.sum(dtype=np.int64)), bool)
    near = grid.near.shape[1]
    weights = np.zeros((2, near + grid.far.shape[1]), np.int8)
    weights[0, :near] = 3 ** np.arange(near)
    weights[1, near:] = 1
    # Contexts: each place, patterns of near neighbours, sums over far ones, everything.
    pattern, crowd, everything = width, width + 81, width + 94
    rates = Rates(np.repeat(np.array([4, 4, 4, 1]), [width, 81, 13, 1]))
    mixer = Mixer([WEIGHT, 30000, 50000, 30000][: 4 if grid.lag else 2])
    start = 0
    for line in range(lines):
        places = np.flatnonzero(mask[line])
        if not len(places):
            continue
        contexts = np.empty((4 if grid.lag else 2, len(places)), np.int32)
        contexts[0] = everything
        contexts[1] = places
        if grid.lag:
            sums = weights @ done[grid.before[line, : weights.shape[1]]][:, places]
            contexts[2] = sums[0] + np.int64(pattern + int(weights[0].sum()))
            contexts[3] = sums[1] + np.int64(crowd + 6)
        ones = int(rates.ones[everything])
        features = gather(rates.odds(ones + 1, int(rates.total[everything]) - ones + 1), contexts)
        features[1:] -= features[0]
        end = start + len(places)
        bits = stream.coins(None if negative is None else negative[start:end], mixer.predict(features))
        mixer.learn(bits)
        rates.learn(contexts, bits)
        done[line, places] = 2 * bits - 1
        out[start:end] = bits
        start = end
    return out
