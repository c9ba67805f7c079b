"""Codecs: ways to send one tensor. A file names the codec of each tensor by one letter in its header.

=======  =====================================================================================
letter   what is sent
=======  =====================================================================================
``s``    sparse: a step, the mask of what is not zero, and integer multiples of the step
``a``    adaptive: the same, each line predicted from the lines before it
``p``    pairs: a step, the mask of complex weights that are not zero, and two integers for each of these
``u``    uniform: a step, the smallest and the largest integer, and integers between them
``h``    halves: float16 patterns
``x``    exact: the mask of what is not +0, and full float patterns
``i``    integers: an index map or a counter
=======  =====================================================================================

A new codec is one more function in :data:`CODECS`; files that name only known letters stay readable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pyrosparse.coding.adaptive import Walk, code_adaptive
from pyrosparse.coding.content import LARGEST_LEVEL, Content, matrix_shape, pattern_width, real_shape
from pyrosparse.coding.index import code_index
from pyrosparse.coding.integers import code_coefficients
from pyrosparse.coding.mask import code_mask
from pyrosparse.coding.pairs import code_pairs
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest
from pyrosparse.coding.walk import find_walk

__all__ = ["CODECS", "LARGEST_STEP", "column_positions", "fetch", "index_of", "round_step", "send", "shortest"]

Ints = NDArray[np.int64]

LARGEST_STEP = 2.0**100  # times the largest level, still a finite float32


def round_step(step: float) -> float:
    """Round a positive step up to eight significant bits, so that it travels in 16 bits."""
    mantissa, exponent = math.frexp(step)  # mantissa in [1/2, 1)
    return math.ldexp(math.ceil(mantissa * 256), exponent - 8)


def _code_step(stream: Stream, step: float | None) -> float:
    bits = None
    if step is not None:
        bits = np.array([np.float32(step).view(np.uint32) >> 16], np.int64)
    pattern = int(stream.raw(bits, 1, 16)[0])
    value = float(np.uint32(pattern << 16).view(np.float32))
    if not 0 < value <= LARGEST_STEP:
        raise DamagedStreamError("a quantisation step that is not a positive number")
    return value


def _sparse(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    name = stream.name
    stream.section(f"{name} mask")
    step = _code_step(stream, None if content is None else content.step)
    rows, columns = matrix_shape(shape)
    levels = None if content is None else content.levels.reshape(rows, columns)
    mask = code_mask(stream, None if levels is None else levels != 0, rows, columns)
    stream.section(f"{name} values")
    values = code_coefficients(stream, None if levels is None else levels[mask], int(mask.sum()))
    if content is not None:
        return content
    if np.abs(values).max(initial=0) > LARGEST_LEVEL:
        raise DamagedStreamError("a weight out of range")
    out = np.zeros((rows, columns), np.int32)
    out[mask] = values
    return Content("s", dtype, out.reshape(shape), step)


def _adaptive(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    sections = (f"{stream.name} mask", f"{stream.name} values")
    stream.section(sections[0])
    step = _code_step(stream, None if content is None else content.step)
    matrix = matrix_shape(shape)
    levels = None if content is None else content.levels.reshape(matrix).astype(np.int32)
    walk = None if content is None else content.walk or Walk()
    places = column_positions(stream.places, matrix[1])
    got = code_adaptive(stream, levels, matrix, walk, places=places, sections=sections)
    if content is not None:
        return content
    if np.abs(got).max(initial=0) > LARGEST_LEVEL:
        raise DamagedStreamError("a weight out of range")
    return Content("a", dtype, got.reshape(shape), step)


def _pairs(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    """One bit of the mask for both parts of a complex weight, static or adaptive, then the pairs of integers."""
    if shape[-1:] != (2,):
        raise DamagedStreamError("pairs without an axis of two")
    stream.section(f"{stream.name} mask")
    step = _code_step(stream, None if content is None else content.step)
    matrix = matrix_shape(shape[:-1])
    levels = None if content is None else content.levels.reshape(*matrix, 2).astype(np.int64)
    alive = None if levels is None else np.asarray(levels.any(axis=2))
    if stream.flag(None if content is None else content.walk is not None):
        mask = _adaptive_mask(stream, alive, matrix, None if content is None else content.walk)
    else:
        mask = code_mask(stream, alive, *matrix)
    stream.section(f"{stream.name} values")
    pairs = code_pairs(stream, None if levels is None else levels[mask], int(mask.sum()))
    if content is not None:
        return content
    if np.abs(pairs).max(initial=0) > LARGEST_LEVEL:
        raise DamagedStreamError("a weight out of range")
    out = np.zeros((*matrix, 2), np.int32)
    out[mask] = pairs
    return Content("p", dtype, out.reshape(shape), step)


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


def _uniform(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    stream.section(stream.name)
    step = _code_step(stream, None if content is None else content.step)
    levels = None if content is None else content.levels.reshape(-1)
    count = math.prod(shape)
    below = stream.number(None if levels is None else max(0, -int(levels.min(initial=0))))
    above = stream.number(None if levels is None else max(0, int(levels.max(initial=0))))
    got = stream.uniform(None if levels is None else levels + below, count, below + above + 1) - below
    return content or Content("u", dtype, got.reshape(shape), step)


def _halves(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    stream.section(stream.name)
    levels = stream.raw(None if content is None else content.levels.reshape(-1), math.prod(shape), 16)
    return content or Content("h", dtype, levels.reshape(shape))


def _exact(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    name = stream.name
    stream.section(f"{name} mask")
    rows, columns = matrix_shape(shape)
    levels = None if content is None else content.levels.reshape(rows, columns)
    mask = code_mask(stream, None if levels is None else levels != 0, rows, columns)
    stream.section(f"{name} values")
    values = stream.raw(None if levels is None else levels[mask], int(mask.sum()), pattern_width(dtype))
    if content is not None:
        return content
    out = np.zeros((rows, columns), np.int64)
    out[mask] = values
    return Content("x", dtype, out.reshape(shape))


def _integers(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    stream.section(stream.name)
    count = math.prod(shape)
    levels = None if content is None else content.levels.reshape(-1)
    got = code_index(stream, levels, count)
    return content or Content("i", dtype, got.reshape(shape))


def index_of(name: str) -> str:
    """Name of the index map, if there is one, of the layer that has a weight of this name."""
    return f"{name[: -len('weight')]}index" if name.endswith("weight") else ""


Code = Callable[[Stream, Content | None, tuple[int, ...], torch.dtype], Content]
CODECS: dict[str, Code] = {
    "s": _sparse, "a": _adaptive, "p": _pairs, "u": _uniform, "h": _halves, "x": _exact, "i": _integers,
}  # fmt: skip


def send(stream: Stream, name: str, content: Content, *, places: Ints | None = None) -> None:
    """Send one tensor; ``places`` are the original positions of a weight's inputs, if a reader has them."""
    stream.name, stream.places = name, places
    CODECS[content.codec](stream, content, content.levels.shape, content.dtype)


def fetch(
    stream: Stream,
    name: str,
    codec: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    places: Ints | None = None,
) -> Content:
    """Fetch one tensor of a shape in the network (not counting the axis of complex numbers)."""
    stream.name, stream.places = name, places
    return CODECS[codec](stream, None, real_shape(shape, dtype), dtype)


def shortest(name: str, content: Content, *, places: Ints | None = None) -> Content:
    """Return sparse content with the codec, ``s`` or ``a``, that is shorter; other content as it is.

    For pairs the same choice is between a static and an adaptive mask.
    """
    if content.codec not in {"s", "p"} or content.levels.ndim < 2 or not content.levels.any():
        return content
    levels = content.levels if content.codec == "s" else content.levels.any(axis=-1).astype(np.int32)
    matrix = matrix_shape(levels.shape)
    walk = find_walk(levels.reshape(matrix), places=column_positions(places, matrix[1]))
    if walk is None:
        return content

    def measure(stream: Stream, choice: Content) -> None:
        send(stream, name, choice, places=places)

    return cheapest([content, replace(content, codec="a" if content.codec == "s" else "p", walk=walk)], measure)
