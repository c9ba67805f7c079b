"""Removal is proved: the smaller network must give what the masked one gives."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.pruning.removal import Removal
from pyrosparse.pruning.surgery import cut_network

__all__ = ["difference", "proved", "reference_input"]

# of the largest output: room for another order of summation in float32, and for nothing else
_TOLERANCE = 1e-4


@torch.no_grad()
def difference(masked: nn.Module, small: nn.Module, x: Tensor) -> float:
    """Largest difference between the outputs of two networks, relative to the largest output of the first.

    Of several outputs (a tuple, list or dictionary of tensors) the worst.
    """
    ours, theirs = _tensors(masked(x)), _tensors(small(x))
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return float("inf")
    pairs = zip(ours, theirs, strict=True)
    found = [float((a - b).abs().max()) / max(1e-12, float(a.abs().max())) for a, b in pairs]
    return max(found, key=lambda d: (isnan(d), d))


def _tensors(output: Any) -> list[Tensor]:
    """Return the tensors of an output, in their order."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output
    return [tensor for part in parts for tensor in _tensors(part)]


def proved(masked: nn.Module, plan: Removal, x: Tensor) -> Removal:
    """Keep those cuts of a plan that do not change the outputs.

    When the plan as a whole does change them, each cut is tried alone, and those that are at fault are undone
    and named in the notes.

    :param masked: the network with its masks applied; left as it is.
    :param plan: what is to be cut.
    :param x: inputs to compare on.
    """
    if not plan or _agrees(masked, plan, x):
        return plan
    good = Removal(plan.flow, notes=list(plan.notes))
    for cut in plan.cuts:
        if _agrees(masked, Removal(plan.flow, [*good.cuts, cut]), x):
            good.cuts.append(cut)
        else:
            good.notes.append(f"{cut}: removing {int((~cut.keep).sum())} units changes the outputs; they stay, masked")
    return good


def _agrees(masked: nn.Module, plan: Removal, x: Tensor) -> bool:
    small = deepcopy(masked)
    try:
        cut_network(small, plan)
        return difference(masked, small, x) <= _TOLERANCE
    except Exception:  # shapes that do not fit: a user's forward may raise anything then
        return False


def reference_input(shape: torch.Size, like: Tensor, count: int = 16, *, complex_input: bool = False) -> Tensor:
    """Random inputs of a known shape, the same at every call, to compare networks on."""
    generator = torch.Generator().manual_seed(0)
    kind, dtype = (torch.complex64, like.dtype.to_complex()) if complex_input else (torch.float32, like.dtype)
    x = torch.randn((count, *shape), generator=generator, dtype=kind)
    return x.to(device=like.device, dtype=dtype)
