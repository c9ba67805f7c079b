"""Safetensors files: the bare tensors by name, readable by anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pyrosparse.coding.container import write
from pyrosparse.errors import ExportError
from pyrosparse.export.files import Exported, module_of

if TYPE_CHECKING:
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["export_safetensors"]


def export_safetensors(network: Pruned | nn.Module | Mapping[str, Tensor], path: str | os.PathLike[str]) -> Exported:
    """Write a network's tensors, uncompressed.

    :param network: a network, what :func:`pyrosparse.prune` gave, or tensors by name (what
        :func:`pyrosparse.coding.read_tensors` returns).
    :param path: the file.
    :return: the file and its size.
    :raises ExportError: if a type has no place in the format, or the file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    state = network if isinstance(network, Mapping) else module_of(network).state_dict()
    # Each tensor on its own: the format refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    try:
        data = save(tensors, metadata={"format": "pt"})
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: safetensors cannot hold a tensor of this network: {error}") from error
    write(path, data)
    return Exported(path, len(data))
