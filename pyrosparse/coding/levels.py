"""Ways to send a tensor of integers that are mostly 0: static, adaptive, and in pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.adaptive import Walk, code_adaptive
from pyrosparse.coding.content import LARGEST_LEVEL, matrix_shape
from pyrosparse.coding.integers import code_coefficients
from pyrosparse.coding.mask import code_mask
from pyrosparse.coding.pairs import code_pairs
from pyrosparse.coding.stream import DamagedStreamError, Stream

__all__ = ["code_either_mask", "code_levels", "column_positions"]

Ints = NDArray[np.int64]


def code_levels(
    stream: Stream, codec: str, levels: NDArray[Any] | None, shape: tuple[int, ...], *, walk: Walk | None
) -> NDArray[Any]:
    """Send integers of a shape: ``s`` static, ``a`` adaptive, ``p`` in pairs along the last axis.

    :param walk: of ``a`` (a default one when None), and of ``p`` where its mask is sent adaptively.
    """
    got = {"s": _static, "a": _adaptive, "p": _pairs}[codec](stream, levels, shape, walk)
    if levels is not None:
        return levels
    if np.abs(got).max(initial=0) > LARGEST_LEVEL:
        raise DamagedStreamError("a weight out of range")
    return got.reshape(shape)


def _static(stream: Stream, levels: NDArray[Any] | None, shape: tuple[int, ...], walk: Walk | None) -> NDArray[Any]:
    rows, columns = matrix_shape(shape)
    matrix = None if levels is None else levels.reshape(rows, columns)
    stream.section(f"{stream.name} mask")
    mask = code_mask(stream, None if matrix is None else matrix != 0, rows, columns)
    stream.section(f"{stream.name} values")
    values = code_coefficients(stream, None if matrix is None else matrix[mask], int(mask.sum()))
    out = np.zeros((rows, columns), np.int32)
    if levels is None:
        if np.abs(values).max(initial=0) > LARGEST_LEVEL:
            raise DamagedStreamError("a weight out of range")
        out[mask] = values
    return out


def _adaptive(stream: Stream, levels: NDArray[Any] | None, shape: tuple[int, ...], walk: Walk | None) -> NDArray[Any]:
    matrix = matrix_shape(shape)
    given = None if levels is None else levels.reshape(matrix).astype(np.int32)
    walk = None if levels is None else walk or Walk()
    places = column_positions(stream.places, matrix[1])
    sections = (f"{stream.name} mask", f"{stream.name} values")
    return code_adaptive(stream, given, matrix, walk, places=places, sections=sections)


def _pairs(stream: Stream, levels: NDArray[Any] | None, shape: tuple[int, ...], walk: Walk | None) -> NDArray[Any]:
    """One bit of the mask for both parts of a complex weight, static or adaptive, then the pairs of integers."""
    if shape[-1:] != (2,):
        raise DamagedStreamError("pairs without an axis of two")
    matrix = matrix_shape(shape[:-1])
    given = None if levels is None else levels.reshape(*matrix, 2).astype(np.int64)
    alive = None if given is None else np.asarray(given.any(axis=2))
    stream.section(f"{stream.name} mask")
    mask = code_either_mask(stream, alive, matrix, walk)
    stream.section(f"{stream.name} values")
    pairs = code_pairs(stream, None if given is None else given[mask], int(mask.sum()))
    out = np.zeros((*matrix, 2), np.int32)
    if levels is None:
        if np.abs(pairs).max(initial=0) > LARGEST_LEVEL:
            raise DamagedStreamError("a weight out of range")
        out[mask] = pairs
    return out


def code_either_mask(
    stream: Stream, mask: NDArray[np.bool_] | None, matrix: tuple[int, int], walk: Walk | None
) -> NDArray[np.bool_]:
    """Send a mask by itself: static, or adaptive where there is a walk."""
    if stream.flag(None if mask is None else walk is not None):
        return _adaptive_mask(stream, mask, matrix, walk)
    return code_mask(stream, mask, *matrix)


def _adaptive_mask(
    stream: Stream, mask: NDArray[np.bool_] | None, matrix: tuple[int, int], walk: Walk | None
) -> NDArray[np.bool_]:
    """Send a mask as a matrix of zeros and ones."""
    ones = None if mask is None else mask.astype(np.int32)
    section = f"{stream.name} mask"
    places = column_positions(stream.places, matrix[1])
    got = code_adaptive(stream, ones, matrix, walk, places=places, sections=(section, section))
    if ((got != 0) & (got != 1)).any():
        raise DamagedStreamError("a mask of other things than zeros and ones")
    return got != 0


def column_positions(places: Ints | None, columns: int) -> Ints | None:
    """Positions of the columns of a weight whose inputs stand at ``places``; None if they say nothing."""
    if places is None or not len(places) or columns % len(places) or (np.diff(places, prepend=-1) <= 0).any():
        return None
    each = columns // len(places)  # two for complex weights
    return (places[:, None] * each + np.arange(each)).reshape(-1)
