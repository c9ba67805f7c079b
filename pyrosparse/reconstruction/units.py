"""Which layers read and give the same units, so that they must keep and lose them together."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.flow import Flow, find_flow
from pyrosparse.pruning.graph import Units, units_of

__all__ = ["Structure", "Units", "column_groups", "find_units"]

_MADE_OF = (
    "a network for reconstruction is made of linear layers, convolutions, batch normalisation, pooling, flattening, "
    "elementwise activations and sums"
)


@dataclass(frozen=True, eq=False)
class Structure:
    """How units flow through a network.

    :param units: in the order in which the data meet their first readers.
    :param layers: the layers that read them, in the order of their calls.
    :param flow: which unit is where.
    """

    units: list[Units]
    layers: list[str]
    flow: Flow


def column_groups(layer: nn.Module, spread: int) -> Tensor:
    """Unit of each column of ``weight.flatten(1)``: k·k columns a channel, H·W columns behind a flattening."""
    assert isinstance(layer.weight, Tensor)
    columns = prod(layer.weight.shape[1:])
    size = prod(layer.weight.shape[2:]) * spread
    return torch.arange(columns, device=layer.weight.device) // size


def find_units(network: nn.Module, input_shape: torch.Size) -> Structure:
    """Follow all units of a network, through sums of residual blocks as well.

    :param network: made of linear layers, convolutions, batch normalisation, pooling, flattening, elementwise
        activations and sums; run in evaluation mode, and left as it is.
    :param input_shape: shape of one example.
    :raises NetworkError: for any other part, by its name.
    """
    try:
        flow = find_flow(network, input_shape)
    except Exception as error:  # a user's forward may raise anything under tracing
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise NetworkError(
            f"the network cannot be traced ({type(error).__name__}: {reason}): reconstruction needs a network "
            "without branches that depend on the data, and examples that fit it"
        ) from error
    if flow.refused:
        raise NetworkError(f"{flow.refused[0]} cannot be reconstructed through: {_MADE_OF}")
    if not flow.reads:
        raise NetworkError(f"no linear layer or convolution reads what can be followed: {_MADE_OF}")
    units = [u for u in units_of(flow) if u.consumers]
    reader = {layer: u for u in units for layer in u.consumers}
    for layer, features in flow.reads.items():
        module = network.get_submodule(layer)
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            kind = type(module).__name__
            raise NetworkError(f"{layer} ({kind}) cannot be reconstructed: only linear layers and Conv1d to Conv3d can")
        if not isinstance(module._parameters.get("weight"), nn.Parameter):
            raise NetworkError(
                f"{layer} computes its weight from other parameters, and cannot be reconstructed: make it a plain "
                "parameter first (torch.nn.utils.parametrize.remove_parametrizations, or prune.remove)"
            )
        u = reader[layer]
        if isinstance(module, SelectLinear):
            if not u.of_input:
                raise NetworkError(f"{layer} (SelectLinear) reads another layer: it can only read the network's input")
        elif not torch.equal(features, u.ids.repeat_interleave(u.consumers[layer])):
            raise NetworkError(f"{layer} reads a concatenation, and cannot be reconstructed: {_MADE_OF}")
    return Structure(units, list(flow.reads), flow)
