"""What a file holds of one tensor: integers, and how they become the tensor again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrosparse.coding.adaptive import Walk
from pyrosparse.coding.book import look_up
from pyrosparse.coding.draws import RandomCode
from pyrosparse.coding.groups import Groups

__all__ = ["DTYPES", "LARGEST_LEVEL", "Content", "matrix_shape", "pattern_width", "patterns", "real_shape", "size_of"]

Ints = NDArray[np.int64]

DTYPES: dict[str, torch.dtype] = {
    "f": torch.float32,
    "d": torch.float64,
    "h": torch.float16,
    "b": torch.bfloat16,
    "c": torch.complex64,
    "z": torch.complex128,
    "i": torch.int64,
    "j": torch.int32,
    "u": torch.uint8,
    "t": torch.bool,
}
ROUNDED = "sapugk"
LARGEST_LEVEL = (1 << 24) - 1  # integers that float32 holds exactly


@dataclass(frozen=True)
class Content:
    """One tensor on its way to or from a file.

    ``levels`` are integers in the tensor's (real) shape: multiples of ``step`` for ``s``, ``a``, ``p``, ``u`` and
    ``r``, bit patterns for ``h`` and ``x``, the numbers themselves for ``i``; for ``g`` multiples of ``step`` times
    the factors of ``groups``, for ``k`` numbers of the centres in ``book`` (of complex weights one for both parts). The
    integers of ``g`` and ``k`` are sent as the codec ``inner`` sends them. ``walk`` is for ``a``, and for ``p`` and
    ``r`` where the mask is sent adaptively. ``code`` is for ``r``: the levels follow from it.
    """

    codec: str
    dtype: torch.dtype
    levels: NDArray[Any]
    step: float = 0.0
    walk: Walk | None = None
    groups: Groups | None = None
    book: NDArray[np.float32] | None = None
    inner: str = ""
    code: RandomCode | None = None

    @property
    def body(self) -> str:
        """Codec of the integers: ``s``, ``a`` or ``p`` of what is multiplied or looked up, else the codec itself."""
        return self.inner or self.codec

    @property
    def plane(self) -> bool:
        """Whether one integer stands for both parts of a complex weight."""
        return self.book is not None and self.book.shape[1] == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor as reals."""
        return (*self.levels.shape, 2) if self.plane else self.levels.shape

    @property
    def rounded(self) -> bool:
        """Whether the tensor was quantised."""
        return self.codec in ROUNDED

    def tensor(self) -> Tensor:
        """Return the tensor: where there is a step, by one correctly rounded float32 product a weight."""
        levels, dtype = np.ascontiguousarray(self.levels).reshape(self.levels.shape), self.dtype
        if self.codec == "i":
            return torch.from_numpy(levels).to(dtype)
        if self.codec == "h":
            real = torch.from_numpy(levels.astype(np.uint16).view(np.float16).astype(np.float32))
        elif self.codec == "x":
            real = torch.from_numpy(_floats(levels, dtype))
        elif self.book is not None:
            real = torch.from_numpy(np.ascontiguousarray(look_up(self.book, levels)))
        else:
            weights = levels.astype(np.float32)
            if self.groups is not None:
                weights *= (self.step * self.groups.factors(weights.ndim)).astype(np.float32)  # exact
            else:
                weights *= np.float32(self.step)
            real = torch.from_numpy(weights)
        if dtype.is_complex:
            part = torch.float64 if dtype == torch.complex128 else torch.float32
            real = real.to(part)
            return torch.complex(real[..., 0], real[..., 1])  # view_as_complex stumbles over empty tensors
        return real.to(dtype)


def real_shape(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[int, ...]:
    """Shape of a tensor as reals: complex numbers become a last axis of two."""
    return (*shape, 2) if dtype.is_complex else shape


def size_of(shape: tuple[int, ...]) -> int:
    """What a tensor of a real shape counts for where size is limited; an axis of 0 makes the others no smaller."""
    return math.prod(max(1, n) for n in shape)


def patterns(tensor: Tensor) -> Ints:
    """Bit patterns of a float tensor (of doubles and bfloat16 their own, float32 otherwise)."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    if real.dtype == torch.float64:
        return real.contiguous().numpy().view(np.int64)
    wide = real.to(torch.float32).contiguous().numpy().view(np.uint32).astype(np.int64)
    return wide >> 16 if tensor.dtype == torch.bfloat16 else wide


def _floats(levels: Ints, dtype: torch.dtype) -> NDArray[np.floating]:
    if pattern_width(dtype) == 64:
        return levels.view(np.float64)
    wide = levels << 16 if dtype == torch.bfloat16 else levels
    return wide.astype(np.uint32).view(np.float32)


def pattern_width(dtype: torch.dtype) -> int:
    """Bits of the pattern of one real number."""
    if dtype == torch.bfloat16:
        return 16
    return 64 if dtype in {torch.float64, torch.complex128} else 32


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor: the first axis against the others."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)
