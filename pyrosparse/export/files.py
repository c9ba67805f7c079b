"""What the exporters share: what they return, and how they see a network."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyrosparse.errors import ExportError

if TYPE_CHECKING:
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["Exported"]

TOLERANCE = 1e-4  # of the largest output, for float32


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    :param path: the file.
    :param bytes: its size on disk.
    :param difference: largest absolute difference between its outputs and the network's on the example;
        None if it was not run.
    """

    path: Path
    bytes: int
    difference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON types."""
        return {"path": str(self.path), "bytes": self.bytes, "difference": self.difference}


def module_of(network: Pruned | nn.Module) -> nn.Module:
    """Return the module of what :func:`pyrosparse.prune` has returned; a module is its own.

    :raises ExportError: for anything else.
    """
    found = network if isinstance(network, nn.Module) else getattr(network, "network", None)
    if not isinstance(found, nn.Module):
        raise ExportError(
            f"network is a {type(network).__name__}: give a torch.nn.Module, or what pyrosparse.prune gave"
        )
    return found


def on_cpu(network: Pruned | nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """Return a copy in evaluation mode and the example, both on the CPU, with at least two rows."""
    if not isinstance(example, Tensor) or example.dim() == 0 or example.shape[0] == 0:
        raise ExportError("the example must be a batch as the network takes it: a tensor with a row or more")
    example = example.detach().cpu()
    if example.shape[0] == 1:  # a batch of one would be taken for a constant
        example = torch.cat([example, example])
    return copy.deepcopy(module_of(network)).cpu().eval(), example


def compare(expected: Tensor, actual: Tensor, path: Path) -> float:
    """Largest absolute difference of the outputs.

    :raises ExportError: if it is more than rounding explains.
    """
    if expected.shape != actual.shape:
        raise ExportError(
            f"{path}: the exported network gives shape {tuple(actual.shape)} where the network gives "
            f"{tuple(expected.shape)}"
        )
    if expected.numel() == 0:
        return 0.0
    difference = float((expected - actual).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ExportError(f"{path}: the outputs of the exported network are off by {difference:.2g}")
    return difference
