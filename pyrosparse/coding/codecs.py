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
``g``    groups: a step, a power of √2 for each row or each column, and integers as ``s``, ``a`` or ``p``
``k``    codebook: centres, and the number of each weight's own as ``s`` or ``a``
``r``    random code: a step, the mask, and for each block of weights the number of a draw
``w``    nothing: the tensor is that of another layer, see :mod:`pyrosparse.coding.sharing`
=======  =====================================================================================

A new codec is one more function in :data:`CODECS`; files that name only known letters stay readable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyrosparse.coding.adaptive import Walk
from pyrosparse.coding.book import code_book
from pyrosparse.coding.content import Content, matrix_shape, pattern_width, real_shape
from pyrosparse.coding.draws import code_indices
from pyrosparse.coding.groups import code_groups
from pyrosparse.coding.index import code_index
from pyrosparse.coding.levels import code_either_mask, code_levels, column_positions
from pyrosparse.coding.mask import code_mask
from pyrosparse.coding.steps import LARGEST_STEP, code_step
from pyrosparse.coding.stream import DamagedStreamError, Stream, cheapest
from pyrosparse.coding.walk import find_walk

__all__ = ["CODECS", "fetch", "index_of", "send", "shortest"]

Ints = NDArray[np.int64]

INNER = "sap"
TENSOR = 256  # symbols that take the time of a tensor of one number


def _sparse(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    return _multiples("s", stream, content, shape, dtype)


def _adaptive(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    return _multiples("a", stream, content, shape, dtype)


def _pairs(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    return _multiples("p", stream, content, shape, dtype)


def _multiples(
    codec: str, stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype
) -> Content:
    """A step, and integers."""
    if codec == "p" and shape[-1:] != (2,):
        raise DamagedStreamError("pairs without an axis of two")
    stream.section(f"{stream.name} mask")
    step = code_step(stream, None if content is None else content.step)
    got = code_levels(stream, codec, _levels(content), shape, walk=_walk(content))
    return content or Content(codec, dtype, got, step)


def _grouped(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    """A step, a power of √2 for each row or column, and integers by an inner codec."""
    stream.section(f"{stream.name} steps")
    step = code_step(stream, None if content is None else content.step)
    groups = code_groups(stream, None if content is None else content.groups, shape)
    if step * groups.factors(len(shape)).max(initial=0.0) > LARGEST_STEP:
        raise DamagedStreamError("a step of a group out of range")
    inner = INNER[stream.choice(None if content is None else INNER.index(content.inner), len(INNER))]
    got = code_levels(stream, inner, _levels(content), shape, walk=_walk(content))
    return content or Content("g", dtype, got, step, groups=groups, inner=inner)


def _random(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    """The mask, static or adaptive, then the random code of what it has left."""
    stream.section(f"{stream.name} mask")
    step = code_step(stream, None if content is None else content.step)
    matrix = matrix_shape(shape)
    levels = None if content is None else content.levels.reshape(matrix)
    mask = code_either_mask(stream, None if levels is None else levels != 0, matrix, _walk(content))
    stream.section(f"{stream.name} values")
    code, values = code_indices(stream, None if content is None else content.code, int(mask.sum()))
    if content is not None:
        return content
    out = np.zeros(matrix, np.int32)
    out[mask] = values
    return Content("r", dtype, out.reshape(shape), step, code=code)


def _codebook(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    """The centres, and for each weight the number of its own by an inner codec."""
    stream.section(f"{stream.name} codebook")
    plane = stream.flag(None if content is None else content.plane)
    if plane and shape[-1:] != (2,):
        raise DamagedStreamError("points without an axis of two")
    book = code_book(stream, None if content is None else content.book, plane=plane)
    inner = INNER[stream.choice(None if content is None else INNER.index(content.inner), 2)]
    got = code_levels(stream, inner, _levels(content), shape[:-1] if plane else shape, walk=_walk(content))
    least = 0 if plane else -int((book < 0).sum())
    if got.size and not least <= int(got.min()) <= int(got.max()) <= len(book) + least:
        raise DamagedStreamError("a weight beyond the codebook")
    return content or Content("k", dtype, got, book=book, inner=inner)


def _levels(content: Content | None) -> NDArray[Any] | None:
    return None if content is None else content.levels


def _walk(content: Content | None) -> Walk | None:
    return None if content is None else content.walk


def _uniform(stream: Stream, content: Content | None, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
    stream.section(stream.name)
    step = code_step(stream, None if content is None else content.step)
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
    width = pattern_width(dtype)
    wider = stream.version < 3 and width == 16  # as float32
    given = None if levels is None else levels[mask]
    values = stream.raw(given, int(mask.sum()), 32 if wider else width)
    if content is not None:
        return content
    values = values >> 16 if wider else values
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
    "g": _grouped, "k": _codebook, "r": _random,
}  # fmt: skip


def _begin(stream: Stream, name: str, places: Ints | None) -> None:
    stream.admit(TENSOR)
    stream.name, stream.places = name, places


def send(stream: Stream, name: str, content: Content, *, places: Ints | None = None) -> None:
    """Send one tensor; ``places`` are the original positions of a weight's inputs, if a reader has them."""
    _begin(stream, name, places)
    CODECS[content.codec](stream, content, content.shape, content.dtype)


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
    _begin(stream, name, places)
    return CODECS[codec](stream, None, real_shape(shape, dtype), dtype)


def shortest(name: str, content: Content, *, places: Ints | None = None) -> Content:
    """Return sparse content with the codec of its integers, ``s`` or ``a``, that is shorter; other content as it is.

    For pairs and random codes the same choice is between a static and an adaptive mask.
    """
    body = content.body
    ready = content.walk is not None or content.levels.ndim < 2
    if body not in {"s", "p", "r"} or ready or not content.levels.any():
        return content
    levels = content.levels
    if body != "s":
        levels = np.asarray(levels.any(axis=-1) if body == "p" else levels != 0).astype(np.int32)
    matrix = matrix_shape(levels.shape)
    walk = find_walk(levels.reshape(matrix), places=column_positions(places, matrix[1]))
    if walk is None:
        return content

    def measure(stream: Stream, choice: Content) -> None:
        send(stream, name, choice, places=places)

    codec, inner = ("a" if letter == "s" else letter for letter in (content.codec, content.inner))
    return cheapest([content, replace(content, codec=codec, inner=inner, walk=walk)], measure)
