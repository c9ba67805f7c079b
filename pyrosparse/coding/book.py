"""Codebooks: the values that the weights of a tensor may have, and integers that stand for them.

Real centres are numbered outwards from 0, negative ones downwards, so that the coders of signs and magnitudes find in
the numbers what they find in multiples of a step. Complex centres are points of the plane, numbered from 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.halves import are_halves, fit_halves
from pyrosparse.coding.kmeans import centres_of
from pyrosparse.coding.stream import DamagedStreamError, Stream

__all__ = ["LARGEST_BOOK", "code_book", "look_up", "make_book"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

LARGEST_BOOK = 1 << 12


def make_book(weights: NDArray[np.float64], clusters: int, *, plane: bool) -> tuple[Floats, Ints]:
    """Cluster the weights that are not 0.

    Centres are float16 where its range allows it. Weights that have no more than ``clusters`` values keep them.

    :param weights: 0 where pruned; with ``plane`` the last axis has the two parts of each weight.
    :param clusters: centres, at most.
    :return: centres, shape ``(K, 1)`` or ``(K, 2)``, and the number of each weight's centre, 0 for none.
    """
    parts = 2 if plane else 1
    points = weights.reshape(*weights.shape[: weights.ndim - (parts - 1)], parts)
    alive = points.any(axis=-1)
    exact = np.unique(points[alive].astype(np.float32), axis=0)
    few = len(exact) <= clusters
    centres = exact if few else centres_of(points[alive], clusters).astype(np.float32)
    if not few or are_halves(centres):
        centres = _halved(centres)
    centres = np.unique(centres, axis=0)
    centres = centres[centres.any(axis=1)]
    book = centres if plane else np.concatenate([centres[centres < 0][::-1], centres[centres > 0]])[:, None]
    levels = np.zeros(alive.shape, np.int64)
    if len(book):
        numbers = np.arange(1, len(book) + 1)
        if not plane:
            below = int((book < 0).sum())
            numbers = np.where(book[:, 0] < 0, -numbers, numbers - below)
        levels[alive] = numbers[_nearest(points[alive], book.astype(np.float64))]
    return book, levels


def look_up(book: Floats, levels: Ints) -> Floats:
    """Weights of the numbers; of a book of points with a last axis of two."""
    if book.shape[1] == 2:
        return np.concatenate([np.zeros((1, 2), np.float32), book])[levels]
    below = int((book < 0).sum())
    line = np.concatenate([book[:below, 0][::-1], np.zeros(1, np.float32), book[below:, 0]])
    return np.asarray(line[levels + below])


def code_book(stream: Stream, book: Floats | None, *, plane: bool) -> Floats:
    """Send the centres as float16, or as float32 where one of them is none."""
    parts = 2 if plane else 1
    half = stream.flag(None if book is None else are_halves(book))
    count = stream.number(None if book is None else len(book))
    if count > LARGEST_BOOK:
        raise DamagedStreamError("a codebook that is too long")
    given: Ints | None = None
    if book is not None:
        halves = book.reshape(-1).astype(np.float16).view(np.uint16) if half else None
        given = (book.reshape(-1).view(np.uint32) if halves is None else halves).astype(np.int64)
    got = stream.raw(given, count * parts, 16 if half else 32)
    values = got.astype(np.uint16).view(np.float16) if half else got.astype(np.uint32).view(np.float32)
    centres = values.astype(np.float32).reshape(count, parts)
    if not np.isfinite(centres).all() or not (centres.any(axis=1)).all():
        raise DamagedStreamError("a codebook with NaN, Inf or 0")
    if not plane and (np.diff(np.sign(centres[:, 0])) < 0).any():
        raise DamagedStreamError("a codebook that is not in order")
    return centres


def _halved(centres: Floats) -> Floats:
    """Centres in float16 where its range allows it."""
    return centres.astype(np.float16).astype(np.float32) if fit_halves(centres) else centres


def _nearest(points: NDArray[np.float64], book: NDArray[np.float64]) -> Ints:
    """Index of the nearest centre of each point."""
    if book.shape[1] == 1:
        order = np.argsort(book[:, 0])
        line = book[order, 0]
        return np.asarray(order[np.searchsorted((line[1:] + line[:-1]) / 2, points[:, 0])])
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(book).query(points)[1], np.int64)
