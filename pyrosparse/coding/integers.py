"""Coding of integers: histograms, coefficients, positions in a list.

Integers of unknown range are split as a floating-point format splits them: magnitudes below ``2^(m+1)``
stand for themselves, larger ones for their leading ``m + 1`` bits (the *class*), and the bits below follow
as they are. The class is a monotone index, so a histogram of classes is dense.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.stream import LARGEST_ALPHABET, DamagedStreamError, Meter, Stream, cheapest

__all__ = ["class_of", "code_coefficients", "code_counts", "first_of", "width_of"]

Ints = NDArray[np.int64]

HEADS = (0, 1, 2, 3, 4, 5, 6, 24)  # mantissa bits kept in a class of a coefficient
COUNT_HEADS = (0, 1, 2, 3, 5, 8)  # mantissa bits kept of a count
WIDEST = 40  # bits of a coefficient below its class


def bit_length(values: Ints) -> Ints:
    """Bits of each non-negative integer below 2^53; 0 for 0."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def class_of(values: Ints, head: int) -> Ints:
    """Class of non-negative integers when ``head`` bits after the leading one are kept."""
    drop = np.maximum(bit_length(values) - head - 1, 0)
    return (drop << head) + (values >> drop)


def width_of(classes: Ints, head: int) -> Ints:
    """How many low bits a class leaves open."""
    return np.maximum((classes >> head) - 1, 0)


def first_of(classes: Ints, head: int) -> Ints:
    """Smallest integer of each class."""
    drop = width_of(classes, head)
    return (classes - (drop << head)) << drop


def code_counts(stream: Stream, counts: Ints | None, size: int, *, head: int | None = None) -> Ints:
    """Send ``size`` counts to about ``head`` significant bits; returns the rounded counts.

    Zero stays zero and nothing else becomes zero. Costs ``size * log2(range of classes)`` bits.
    """
    if size == 0:
        return np.zeros(0, np.int64)
    wanted = None if counts is None else COUNT_HEADS.index(head or 0)
    kept = COUNT_HEADS[stream.choice(wanted, len(COUNT_HEADS))]
    classes = None if counts is None else class_of(counts, kept)
    low = stream.number(None if classes is None else int(classes.min()))
    span = stream.number(None if classes is None else int(classes.max()) - low)
    classes = stream.uniform(None if classes is None else classes - low, size, span + 1) + low
    if size and width_of(classes, kept).max() > 30:
        raise DamagedStreamError("a count out of range")
    width = width_of(classes, kept)
    return first_of(classes, kept) + np.where(width > 0, (1 << width) >> 1, 0)


def _code_histogram(stream: Stream, symbols: Ints | None, count: int, size: int) -> Ints:
    """Send a histogram at the resolution that pays, then the symbols."""
    if count == 0:
        return np.zeros(0, np.int64)
    if symbols is None:
        return stream.categorical(None, count, code_counts(stream, None, size))
    return stream.categorical(symbols, count, _send_histogram(stream, np.bincount(symbols, minlength=size)))


def _send_histogram(stream: Stream, exact: Ints) -> Ints:
    """Send a histogram at the resolution that pays; returns the weights of its symbols."""

    def cost(meter: Stream, head: int) -> None:
        meter.charge(_surprise(exact, code_counts(meter, exact, len(exact), head=head)))

    return code_counts(stream, exact, len(exact), head=cheapest(COUNT_HEADS, cost))


def _surprise(exact: Ints, weights: Ints) -> float:
    """Bits of symbols that occur so often, by the weights that a reader knows."""
    used = exact > 0
    return -float(exact[used] @ np.log2(weights[used] / weights.sum()))


def _code_coefficients(stream: Stream, values: Ints | None, count: int, head: int) -> Ints:
    classes = None
    magnitude = None
    if values is not None:
        magnitude = np.abs(values)
        classes = _classes(values, head)
    low = _code_signed(stream, None if classes is None else int(classes.min()))
    span = stream.number(None if classes is None else int(classes.max()) - low)
    if span >= _most_classes(count):
        raise DamagedStreamError("a histogram that is too long")
    symbols = _code_histogram(stream, None if classes is None else classes - low, count, span + 1)
    classes = symbols + low
    absolute = np.abs(classes)
    width = width_of(absolute, head)
    if width.max() > WIDEST:
        raise DamagedStreamError("a weight out of range")
    out = first_of(absolute, head)
    for size in np.unique(width[width > 0]):  # bits below the class, shortest first
        chosen = width == size
        rest = None if magnitude is None else magnitude[chosen] - out[chosen]
        out[chosen] += stream.raw(rest, int(chosen.sum()), int(size))
    return np.where(classes < 0, -out, out)


def _code_signed(stream: Stream, value: int | None) -> int:
    negative = stream.flag(None if value is None else value < 0)
    magnitude = stream.number(None if value is None else abs(value))
    return -magnitude if negative else magnitude


def _classes(values: Ints, head: int) -> Ints:
    return np.asarray(np.sign(values) * class_of(np.abs(values), head))


def _most_classes(count: int) -> int:
    """Length of the longest histogram for so many integers: a bound on the memory that a reader needs."""
    return min(LARGEST_ALPHABET, max(256, 4 * count))


def _alphabet(extremes: Ints, head: int) -> int:
    """Classes from the smallest to the largest integer: classes rise with the integers."""
    classes = _classes(extremes, head)
    return int(classes.max()) - int(classes.min()) + 1


def code_coefficients(stream: Stream, values: Ints | None, count: int) -> Ints:
    """Send ``count`` signed integers (magnitude below 2^40) with a static histogram of their classes.

    The number of mantissa bits in a class is chosen by trial: few for wide ranges, all for the handful of
    levels that a coarse posterior leaves.
    """
    if count == 0:
        return np.zeros(0, np.int64)
    if values is None:
        return _code_coefficients(stream, None, count, HEADS[stream.choice(None, len(HEADS))])
    values = values.astype(np.int64)
    extremes = np.array([values.min(), values.max()])
    allowed = [h for h in HEADS if _alphabet(extremes, h) <= _most_classes(count)]
    distinct, counts = np.unique(values, return_counts=True)
    head = cheapest(allowed, partial(_measure, distinct, counts))
    stream.choice(HEADS.index(head), len(HEADS))
    if isinstance(stream, Meter):
        _measure(distinct, counts, stream, head)
        return values
    return _code_coefficients(stream, values, count, head)


def _measure(distinct: Ints, counts: Ints, meter: Stream, head: int) -> None:
    """What :func:`_code_coefficients` costs, from the histogram of the integers alone."""
    classes = _classes(distinct, head)
    low = _code_signed(meter, int(classes.min()))
    span = meter.number(int(classes.max()) - low)
    exact = np.zeros(span + 1, np.int64)
    np.add.at(exact, classes - low, counts)
    weights = _send_histogram(meter, exact)
    meter.charge(_surprise(exact, weights) + float(counts @ width_of(np.abs(classes), head)))
