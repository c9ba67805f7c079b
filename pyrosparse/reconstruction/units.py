"""Which layers read and give the same units, so that they must keep and lose them together."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, fx, nn

from pyrosparse.errors import NetworkError
from pyrosparse.layers import SPARSE_LAYERS
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.graph import trace, used_twice
from pyrosparse.pruning.unitwise import NORMS, acts_on_units_alone, asks_shape, describe, keeps_features

__all__ = ["Structure", "Units", "column_groups", "find_units"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}


@dataclass(eq=False)
class Units:
    """Units that stand or fall together.

    :param count: how many there are.
    :param producers: layers whose outputs they are; none for features of the network's input.
    :param consumers: layers that read them, and how many columns (linear) or channels a unit is there.
    :param norms: normalisations that they pass, likewise.
    :param pinned: why they must all stay; empty when they need not.
    """

    count: int
    producers: list[str] = field(default_factory=list)
    consumers: dict[str, int] = field(default_factory=dict)
    norms: dict[str, int] = field(default_factory=dict)
    pinned: str = ""

    @property
    def of_input(self) -> bool:
        """Whether they are features of the network's input."""
        return not self.producers

    def __str__(self) -> str:
        return f"{' + '.join(self.producers) or 'input'} → {', '.join(self.consumers) or 'output'}"


@dataclass(frozen=True, eq=False)
class Structure:
    """How units flow through a network.

    :param units: in the order in which the data meet their first readers.
    :param layers: the layers that read them, in the order of their calls.
    """

    units: list[Units]
    layers: list[str]


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
    modes = {module: module.training for module in network.modules()}
    try:
        traced = trace(network.eval(), input_shape)
    except Exception as error:  # a user's forward may raise anything under tracing
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise NetworkError(
            f"the network cannot be traced ({type(error).__name__}: {reason}): reconstruction needs a network "
            "without branches that depend on the data, and examples that fit it"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    return _Spaces(network, traced).walk()


class _Spaces:
    """The units on axis 1 of every tensor of a traced network."""

    def __init__(self, network: nn.Module, traced: fx.GraphModule) -> None:
        self.network, self.graph = network, traced.graph
        self.twice = used_twice(network, traced.graph)
        self.at: dict[fx.Node, tuple[Units, int]] = {}
        self.found: list[Units] = []

    def walk(self) -> Structure:
        """Follow every node; the layers are called in the graph's order."""
        for node in self.graph.nodes:
            if node.op == "output":
                for source in node.all_input_nodes:
                    self._pin(source, "they are the network's outputs")
            elif "shape" in node.meta and not asks_shape(node):
                self.at[node] = self._follow(node)
        read = [u for u in self.found if u.consumers]
        readers = {layer for u in read for layer in u.consumers}
        layers = [str(n.target) for n in self.graph.nodes if n.op == "call_module" and str(n.target) in readers]
        return Structure(sorted(read, key=lambda u: min(map(layers.index, u.consumers))), layers)

    def _follow(self, node: fx.Node) -> tuple[Units, int]:
        shape = node.meta["shape"]
        if node.op == "placeholder":
            return self._new(shape[1] if len(shape) > 1 else 1, []), 1
        sources = [n for n in node.all_input_nodes if n in self.at]
        module = self.network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, SPARSE_LAYERS) and len(sources) == 1:
            return self._layer(node, module, *self.at[sources[0]])
        if node.target in _SUMS and sources:
            return self._sum(node, sources)
        if len(sources) != 1 or not acts_on_units_alone(self.network, node):
            raise NetworkError(
                f"{describe(self.network, node)} cannot be reconstructed through: a network for reconstruction is "
                "made of linear layers, convolutions, batch normalisation, pooling, flattening, elementwise "
                "activations and sums"
            )
        units, spread = self.at[sources[0]]
        if units.of_input and keeps_features(self.network, node):
            return (units, spread) if shape[1] == units.count else (self._new(shape[1], []), 1)
        if isinstance(module, NORMS):
            if str(node.target) in self.twice:
                raise NetworkError(f"{node.target} is used more than once: give each use a normalisation of its own")
            units.norms[str(node.target)] = shape[1] // units.count
        if units.of_input:
            units.pinned = f"{describe(self.network, node)} stands before them"
        return units, shape[1] // units.count

    def _layer(self, node: fx.Node, module: nn.Module, units: Units, spread: int) -> tuple[Units, int]:
        name, shape = str(node.target), node.meta["shape"]
        if name in self.twice:
            raise NetworkError(f"{name} is used more than once: give each use a layer of its own")
        if not isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            kind = type(module).__name__
            raise NetworkError(f"{name} ({kind}) cannot be reconstructed: only linear layers and Conv1d to Conv3d can")
        if isinstance(module, nn.Linear) and len(shape) != 2:
            raise NetworkError(f"{name} gives a tensor of shape {tuple(shape)}: linear layers must read (B, features)")
        if isinstance(module, SelectLinear):
            if not units.of_input:
                raise NetworkError(f"{name} (SelectLinear) reads another layer: it can only read the network's input")
            units, spread = self._new(module.in_features, []), 1
        elif units.of_input and isinstance(module, nn.Linear):
            units = self._new(units.count, [], pinned=units.pinned)  # each reader chooses features for itself
        units.consumers[name] = spread
        given = self._new(shape[1], [name])
        if getattr(module, "groups", 1) != 1:
            units.pinned = given.pinned = f"{name} is a grouped convolution"
        if units.of_input and isinstance(module, _CONVOLUTIONS):
            units.pinned = "a convolution cannot choose channels of the network's input"
        return given, 1

    def _sum(self, node: fx.Node, sources: list[fx.Node]) -> tuple[Units, int]:
        """A sum ties the units of its parts together."""
        shape = node.meta["shape"]
        if any(n.meta["shape"] != shape for n in sources):
            shapes = ", ".join(str(tuple(n.meta["shape"])) for n in sources)
            raise NetworkError(f"{node.name} adds tensors of shapes {shapes}: only equal shapes can be followed")
        first, spread = self.at[sources[0]]
        for other in sources[1:]:
            second, second_spread = self.at[other]
            if second is first:
                continue
            if second_spread != spread:
                raise NetworkError(f"{node.name} adds units that were flattened differently")
            if first.of_input or second.of_input:
                first.pinned = first.pinned or f"{node.name} adds the network's input to them"
            self._unite(first, second)
        return first, spread

    def _unite(self, first: Units, second: Units) -> None:
        first.producers += second.producers
        first.consumers |= second.consumers
        first.norms |= second.norms
        first.pinned = first.pinned or second.pinned
        self.found.remove(second)
        self.at = {n: (first if u is second else u, s) for n, (u, s) in self.at.items()}

    def _pin(self, node: fx.Node, why: str) -> None:
        if node in self.at:
            self.at[node][0].pinned = why

    def _new(self, count: int, producers: list[str], *, pinned: str = "") -> Units:
        self.found.append(Units(count, producers, pinned=pinned))
        return self.found[-1]
