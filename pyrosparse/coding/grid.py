"""Lines of a matrix and the lines near them, by their positions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid"]

Ints = NDArray[np.int64]
Indices = NDArray[np.int32]


class Grid:
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
        self._near = near
        self.before = self._before((*near, *far, *farther))
        self.near, self.far = self.before[:, : len(near)], self.before[:, len(near) : len(near) + len(far)]

    @cached_property
    def around(self) -> Indices:
        """Index of the near lines on both sides of each line, shape ``(lines, offsets)``."""
        return self._before((*self._near, *(-o for o in self._near)))

    def _before(self, offsets: tuple[int, ...]) -> Indices:
        """Index of the line at each offset before each line, shape ``(lines, offsets)``."""
        count = len(self._positions)
        out = np.full((count, len(offsets)), count, np.int32)
        for i, offset in enumerate(offsets):
            wanted = self._positions - offset
            found = np.minimum(np.searchsorted(self._positions, wanted), max(count - 1, 0))
            there = self._positions[found] == wanted if offset else np.zeros(count, bool)
            out[there, i] = found[there]
        return out
