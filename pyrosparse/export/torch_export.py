"""``.pt2`` files: ``torch.export`` programs, exact, complex networks too."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyrosparse.coding.container import write
from pyrosparse.errors import ExportError
from pyrosparse.export.files import Exported, compare, on_cpu

if TYPE_CHECKING:
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["export_torch"]


def export_torch(
    network: Pruned | nn.Module, path: str | os.PathLike[str], example: Tensor, *, check: bool = True
) -> Exported:
    """Write a network as a ``torch.export`` program with a free batch axis.

    Read it with ``torch.export.load(path).module()``.

    :param network: a network with one tensor in, real or complex, or what :func:`pyrosparse.prune` gave.
    :param path: the file.
    :param example: a batch as the network takes it, shape ``(B, ...)``.
    :param check: run the exported program on the example and on one row of it, and compare.
    :return: the file, its size, and the largest absolute difference of the outputs.
    :raises ExportError: if the network cannot be traced, the outputs differ, or the file cannot be written.
    """
    path = Path(path)
    module, example = on_cpu(network, example)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                module, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
            )
            torch.export.save(program, buffer)
    except Exception as error:  # tracing runs the network's own code
        raise ExportError(f"{path}: torch.export cannot trace the network: {error}") from error
    difference = None
    if check:
        exported = program.module()
        difference = 0.0
        for batch in (example, example[:1]):
            with torch.no_grad():
                difference = max(difference, compare(module(batch), exported(batch), path))
    data = buffer.getvalue()
    write(path, data)
    return Exported(path, len(data), difference)
