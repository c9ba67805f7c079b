"""Bytes that a layer costs when some of its units are gone."""

from __future__ import annotations

from math import log2, prod

from torch import Tensor, nn

from pyrosparse.nn import SelectLinear

__all__ = ["index_bytes", "layer_bytes", "network_bytes", "own_bytes"]


def index_bytes(kept: int, total: int) -> float:
    """Say which ``kept`` of ``total`` inputs are read, as a bitmap or a list: min(d, r·log₂ d) bits."""
    return 0.0 if kept == total else min(total, kept * log2(total)) / 8


def layer_bytes(layer: nn.Module, outputs: int, inputs: int, spread: int, *, features: int = 0) -> float:
    """Float32 bytes of weights and biases, and those of the index of kept features.

    :param layer: as it was.
    :param outputs: units that it gives.
    :param inputs: units that it reads, each ``spread`` columns or channels.
    :param features: for a layer that chooses features of the network's input: how many there are.
    """
    assert isinstance(layer.weight, Tensor)
    groups = getattr(layer, "groups", 1)
    taps = prod(layer.weight.shape[2:])
    # what goes leaves its mean in a bias, also where there was none
    biased = layer.bias is not None or groups == 1
    numbers = outputs * (inputs * spread // groups) * taps + (outputs if biased else 0)
    return 4.0 * numbers + (index_bytes(inputs, features) if features else 0.0)


def network_bytes(network: nn.Module) -> float:
    """Float32 bytes of every parameter and running statistic, and of the indices of kept features."""
    return own_bytes(network) + 4.0 * sum(b.numel() for b in network.buffers() if b.is_floating_point())


def own_bytes(module: nn.Module) -> float:
    """Float32 bytes of every parameter, and of the indices of kept features."""
    total = 4.0 * sum(p.numel() for p in module.parameters())
    for part in module.modules():
        if isinstance(part, SelectLinear):
            total += index_bytes(part.in_features, part.original_features)
    return total
