"""Coding of masks: which entries of a matrix are not zero.

Dead rows and columns are said once and leave the matrix; what remains is coded with one rate for the whole
matrix, or with one rate a row, in the orientation that is shorter.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.integers import COUNT_HEADS, code_counts
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest

__all__ = ["code_alive", "code_bits", "code_mask"]

Bools = NDArray[np.bool_]

ONE_RATE = -1  # otherwise: mantissa bits of each row's count


def code_bits(stream: Stream, bits: Bools | None, count: int, *, expected: int | None = None) -> Bools:
    """Send ``count`` bits with one rate, itself sent exactly; nothing follows if all are alike.

    :param expected: how many ones there must be, where a reader knows.
    """
    ones = stream.number(None if bits is None else int(bits.sum()))
    if expected not in (None, ones):
        raise DamagedStreamError("bits of which other than the expected number are ones")
    if ones > count:
        raise DamagedStreamError("more ones than bits")
    if ones in (0, count):
        return np.full(count, ones > 0)
    given = None if bits is None else bits.astype(np.int8).reshape(1, count)
    return stream.bernoulli(given, 1, count, np.array([ones], np.int64), count)[0].astype(bool)


def code_alive(stream: Stream, alive: Bools | None, count: int) -> Bools:
    """Which rows or columns have a weight at all: one bit when every one has."""
    if stream.flag(None if alive is None else bool(alive.all())):
        return np.ones(count, bool)
    return code_bits(stream, alive, count)


def _code_rows(stream: Stream, mask: Bools | None, rows: int, width: int, head: int) -> Bools:
    """One rate a row. A count of 0 is exact; R of w gives the rate (2R + 1) / (2w + 2)."""
    counts = code_counts(stream, None if mask is None else mask.sum(axis=1), rows, head=head)
    out = np.zeros((rows, width), bool)
    alive = np.flatnonzero(counts)
    ones = 2 * np.minimum(counts[alive], width) + 1
    given = None if mask is None else mask[alive].astype(np.int8)
    out[alive] = stream.bernoulli(given, len(alive), width, ones, 2 * width + 2).astype(bool)
    return out


def _code_oriented(stream: Stream, mask: Bools | None, rows: int, columns: int, head: int) -> Bools:
    alive = code_alive(stream, None if mask is None else np.any(mask, axis=0), columns)
    width = int(alive.sum())
    out = np.zeros((rows, columns), bool)
    inner = None if mask is None else mask[:, alive]
    by_row = stream.flag(head != ONE_RATE if mask is not None else None)
    if by_row:
        out[:, alive] = _code_rows(stream, inner, rows, width, head)
        return out
    live_rows = code_alive(stream, None if inner is None else np.any(inner, axis=1), rows)
    height = int(live_rows.sum())
    flat = code_bits(stream, None if inner is None else inner[live_rows].reshape(-1), height * width)
    out[np.ix_(live_rows, alive)] = flat.reshape(height, width)
    return out


def code_mask(stream: Stream, mask: Bools | None, rows: int, columns: int) -> Bools:
    """Send a matrix of bits ``(rows, columns)``; orientation and rates are chosen by trial."""
    if rows * columns == 0:
        return np.zeros((rows, columns), bool)
    if mask is None:
        if stream.flag(None):
            return _code_oriented(stream, None, columns, rows, ONE_RATE).T
        return _code_oriented(stream, None, rows, columns, ONE_RATE)
    choices = [(False, ONE_RATE), *((turned, head) for turned in (False, True) for head in COUNT_HEADS[:5])]
    turned, head = cheapest(choices, partial(_code_turned, mask))
    stream.flag(turned)
    _code_turned(mask, stream, (turned, head))
    return mask


def _code_turned(mask: Bools, stream: Stream, choice: tuple[bool, int]) -> None:
    turned, head = choice
    matrix = mask.T if turned else mask
    _code_oriented(stream, matrix, matrix.shape[0], matrix.shape[1], head)
