"""Cutting units that nothing reads any more out of every layer that has them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyrosparse.layers import axes
from pyrosparse.pruning.graph import UnitLink
from pyrosparse.pruning.removal import LinkCut, Removal
from pyrosparse.pruning.surgery import Cutter, cut_network
from pyrosparse.reconstruction.units import Units

__all__ = ["cut_units", "spread_out"]


def spread_out(kept: Tensor, spread: int) -> Tensor:
    """Indices of the columns of kept units, each ``spread`` of them."""
    return kept.repeat_interleave(spread).nonzero().flatten()


def cut_units(network: nn.Module, kept: Mapping[Units, Tensor]) -> None:
    """Cut units in place: inputs of their readers, outputs of their givers, normalisations between them.

    :param network: its readers' weights are 0 where units go.
    :param kept: which units stay, boolean.
    """
    cutter = Cutter()
    for units, mask in kept.items():
        if bool(mask.all()):
            continue
        if units.of_input:
            (layer,) = units.consumers
            link = UnitLink(None, layer, 1)
            cut_network(network, Removal([LinkCut(link, spread_out(mask, 1), units.count)]), cutter=cutter)
            continue
        for layer, spread in units.consumers.items():
            module = network.get_submodule(layer)
            columns = spread_out(mask, spread)
            _take(cutter, module, "weight", axes(module)[1], columns)
            _resize(module, ("in_features", "in_channels"), len(columns))
        for layer in units.producers:
            module = network.get_submodule(layer)
            index = spread_out(mask, 1)
            _take(cutter, module, "weight", axes(module)[0], index)
            _take(cutter, module, "bias", 0, index)
            _resize(module, ("out_features", "out_channels"), len(index))
        for layer, spread in units.norms.items():
            module = network.get_submodule(layer)
            index = spread_out(mask, spread)
            for part in ("weight", "bias", "running_mean", "running_var"):
                _take(cutter, module, part, 0, index)
            _resize(module, ("num_features",), len(index))


def _take(cutter: Cutter, module: nn.Module, part: str, axis: int, index: Tensor) -> None:
    value = getattr(module, part)
    if isinstance(value, Tensor):
        cutter.take(value, axis, index.to(torch.int64))


def _resize(module: nn.Module, names: tuple[str, ...], size: int) -> None:
    for name in names:
        if hasattr(module, name):
            setattr(module, name, size)
