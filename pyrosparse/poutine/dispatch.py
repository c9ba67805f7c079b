"""What every tensor that is not drawn yet needs of ``__torch_function__``: questions of form, and layers' arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["METADATA", "getter", "layer_arguments"]


def getter(attribute: str) -> Any:
    """Name under which ``__torch_function__`` hears of an attribute."""
    return getattr(Tensor, attribute).__get__


def layer_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...] = ("input", "weight", "bias")
) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]:
    """Arguments of a layer's function by name, then the positional ones after these, and the other keywords."""
    given = dict(zip(names, args, strict=False)) | {k: v for k, v in kwargs.items() if k in names}
    return given, args[len(names) :], {k: v for k, v in kwargs.items() if k not in names}


_ATTRIBUTES = (
    "device", "dtype", "is_cuda", "is_meta", "is_nested", "is_quantized", "is_sparse", "itemsize", "layout",
    "nbytes", "ndim", "shape",
)  # fmt: skip

METADATA: set[Any] = {
    *map(getter, _ATTRIBUTES),
    Tensor.element_size,
    Tensor.is_signed,
    Tensor.__hash__,
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.nelement,
    Tensor.is_complex,
    Tensor.is_floating_point,
    torch.is_complex,
    torch.is_floating_point,
    torch.numel,
    Tensor.__len__,
}
