"""How units flow through a network: which unit each channel of every tensor carries."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx, nn

from pyrosparse.layers import LINEAR_LAYERS, SPARSE_LAYERS, axes
from pyrosparse.nn import ComplexBilinear, Selecting
from pyrosparse.pruning.tracing import trace, used_twice
from pyrosparse.pruning.unitwise import acts_on_units_alone, describe, keeps_features, per_unit

__all__ = ["OUTPUTS", "Flow", "find_flow"]

OUTPUTS = "they are the network's outputs"
_TWICE = "used more than once"
_GROUPED = "grouped convolution"
_CHANNELS_OF_INPUT = "a convolution cannot choose channels of the network's input"
_TIES = {operator.add, operator.iadd, torch.add, "add", "add_", operator.sub, torch.sub, operator.mul, torch.mul}
_CATS = {torch.cat, torch.concat, torch.concatenate}


@dataclass(eq=False)
class Flow:
    """Which unit is where, by number.

    Channels that are added to each other carry one unit, and what is concatenated lies side by side; behind a
    flattening, several features are the same unit.

    :param reads: layer → unit of each feature (axis 1) of the tensor that it reads.
    :param gives: layer → unit of each of its outputs.
    :param norms: module with parameters for each unit (a normalisation, above all) → unit of each of its features.
    :param why: unit → number of the reason why it stays; −1 where it may go.
    :param reasons: in words.
    :param of_input: unit → whether it is a feature of the network's input, as one linear layer reads it.
    :param notes: layer → why its outputs are not followed.
    :param refused: what is not understood, in words.
    :param choosers: linear layers, which can leave single features unread.
    :param traced: the network as a graph.
    """

    reads: dict[str, Tensor]
    gives: dict[str, Tensor]
    norms: dict[str, Tensor]
    why: Tensor
    reasons: list[str]
    of_input: Tensor
    notes: dict[str, str]
    refused: list[str]
    choosers: set[str]
    traced: fx.GraphModule

    @property
    def stays(self) -> Tensor:
        """Which units stay whatever the weights are."""
        return self.why >= 0

    def columns(self, layer: str) -> Tensor:
        """Unit of each input column of a layer's weight."""
        module = self.traced.get_submodule(layer)
        return self.reads[layer][module.index] if isinstance(module, Selecting) else self.reads[layer]

    def constants(self, biases: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What every layer reads where all units are constant: layer → ``(features, positions)``.

        :param biases: layer → constant value of each of its outputs, shape ``(units,)``, complex for a complex
            layer; 0 for all others.
        """
        modes = {module: module.training for module in self.traced.modules()}
        self.traced.eval()
        seen: dict[str, Tensor] = {}
        try:
            with torch.no_grad():
                _Constant(self.traced, biases, seen).run(enable_io_processing=False)
        finally:
            for module, training in modes.items():
                module.training = training
        return seen


class _Constant(fx.Interpreter):
    """Runs a graph with the biases of its layers in place of what they compute."""

    def __init__(self, traced: fx.GraphModule, biases: Mapping[str, Tensor], seen: dict[str, Tensor]) -> None:
        super().__init__(traced)
        self.biases, self.seen = biases, seen
        self.device = next(traced.parameters()).device

    def run_node(self, n: fx.Node) -> Any:
        if "value" in n.meta:
            return n.meta["value"]
        layer = n.op == "call_module" and isinstance(self.fetch_attr(str(n.target)), SPARSE_LAYERS)
        if not layer and n.op != "placeholder":
            return super().run_node(n)
        name, shape = str(n.target), n.meta["shape"]
        if layer:
            (source,) = n.all_input_nodes
            x = self.env[source]
            self.seen[name] = x.reshape(x.shape[1], -1) if x.dim() > 1 else x[:, None]
        value = torch.zeros(shape, dtype=n.meta["dtype"], device=self.device)
        if layer and name in self.biases:
            value += self.biases[name].reshape(-1, *([1] * (len(shape) - 2)))
        return value


def find_flow(
    network: nn.Module, input_shape: torch.Size, layers: Collection[str] | None = None, *, complex_input: bool = False
) -> Flow:
    """Follow the units of a network through activations, pooling, normalisation, flattening, sums and concatenations.

    What is not understood costs no more than its own units: those that go in stay, and are numbered anew behind it.

    :param network: left as it is.
    :param input_shape: shape of one example.
    :param layers: whose units may go; all when None.
    :param complex_input: whether the network takes complex tensors.
    :raises Exception: whatever the network's forward raises under tracing.
    """
    return _Walk(network, trace(network, input_shape, complex_input=complex_input), layers).run()


@dataclass(eq=False)
class _Walk:
    network: nn.Module
    traced: fx.GraphModule
    layers: Collection[str] | None
    at: dict[fx.Node, Tensor] = field(default_factory=dict)
    ties: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    pins: list[tuple[Tensor, str]] = field(default_factory=list)
    reads: dict[str, Tensor] = field(default_factory=dict)
    gives: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    choosers: set[str] = field(default_factory=set)
    inputs: list[bool] = field(default_factory=list)

    def run(self) -> Flow:
        """Follow every node; then channels that are tied become one unit."""
        self.twice = used_twice(self.network, self.traced.graph)
        for node in self.traced.graph.nodes:
            if node.op == "output":
                for source in node.all_input_nodes:
                    self._pin(source, OUTPUTS)
            elif len(node.meta.get("shape", ())) > 1:
                self.at[node] = self._follow(node)
        device = next(self.network.parameters()).device
        label, reasons = self._components(), list(dict.fromkeys(reason for _, reason in self.pins))
        why = torch.full((int(label.max()) + 1 if len(label) else 0,), -1)
        for units, reason in reversed(self.pins):  # the first reason is the one that is said
            why[label[units]] = reasons.index(reason)
        of_input = torch.zeros_like(why, dtype=torch.bool)
        of_input[label[torch.tensor(self.inputs, dtype=torch.bool)]] = True

        def numbered(of: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: label[units].to(device) for name, units in of.items()}

        return Flow(
            numbered(self.reads), numbered(self.gives), numbered(self.norms), why.to(device), reasons,
            of_input.to(device), self.notes, self.refused, self.choosers, self.traced,
        )  # fmt: skip

    def _components(self) -> Tensor:
        """Number the units: channels that are tied, directly or through others, have the same number."""
        none = torch.empty(0, dtype=torch.int64)
        one = torch.cat([none, *(a for a, _ in self.ties)]).numpy()
        other = torch.cat([none, *(b for _, b in self.ties)]).numpy()
        graph = coo_array((torch.ones(len(one)).numpy(), (one, other)), shape=(len(self.inputs),) * 2)
        return torch.as_tensor(connected_components(graph, directed=False)[1], dtype=torch.int64)

    def _follow(self, node: fx.Node) -> Tensor:
        """Unit of each channel of a node's result."""
        shape = node.meta["shape"]
        if node.op == "placeholder":
            return self._new(shape[1], of_input=True)
        sources = [n for n in node.all_input_nodes if "shape" in n.meta]
        module = self.network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, SPARSE_LAYERS) and len(sources) == 1 and sources[0] in self.at:
            return self._layer(node, module, sources[0])
        if node.target in _CATS and (parts := self._along_channels(node)):
            return torch.cat(parts)
        if node.target in _TIES and len(sources) > 1 and all(n.meta["shape"][:2] == shape[:2] for n in sources):
            return self._tie(node, sources)
        if len(sources) == 1 and sources[0] in self.at:
            units = self.at[sources[0]]
            features = all(self.inputs[u] for u in units.tolist())
            if acts_on_units_alone(self.network, node, units_go=not features) or self._with_number(node):
                return self._alone(node, module, units, features=features)
        what = describe(self.network, node)
        shapes = " and ".join(str(tuple(n.meta["shape"])) for n in sources)
        self.refused.append(f"{what} of tensors of shapes {shapes}" if len(sources) > 1 else what)
        for source in sources:
            self._pin(source, f"{what} follows")
        return self._new(shape[1], reason=f"{what} stands before them")

    def _alone(self, node: fx.Node, module: nn.Module | None, units: Tensor, *, features: bool) -> Tensor:
        size = node.meta["shape"][1]
        if features and keeps_features(self.network, node):
            return units if size == len(units) else self._new(size, of_input=True)
        if features:
            self.pins.append((units, f"{describe(self.network, node)} stands before them"))
        units = units.repeat_interleave(size // len(units))
        if module is not None and per_unit(module) is not None:
            if str(node.target) in self.twice:
                self.pins.append((units, f"{node.target} is used more than once"))
            self.norms[str(node.target)] = units
        return units

    def _layer(self, node: fx.Node, module: nn.Module, source: fx.Node) -> Tensor:
        name, shape, units = str(node.target), node.meta["shape"], self.at[source]
        assert isinstance(module.weight, Tensor)
        linear = isinstance(module, LINEAR_LAYERS)
        size = module.original_features if isinstance(module, Selecting) else module.weight.shape[axes(module)[1]]
        if name in self.twice:
            self._pin(source, f"{name} is used more than once")
            return self._unfollowed(name, _TWICE, shape)
        if self.layers is not None and name not in self.layers:
            self._pin(source, f"{name} reads it and has no prior")
            return self._new(shape[1], reason=f"{name} gives it and has no prior")
        if isinstance(module, ComplexBilinear):
            for argument in node.all_input_nodes:
                self._pin(argument, f"{name} is bilinear")
            return self._unfollowed(name, "is bilinear", shape)
        if getattr(module, "groups", 1) != 1:
            self._pin(source, f"{name} is a grouped convolution")
            self.reads[name], self.gives[name] = units, self._unfollowed(name, _GROUPED, shape)
            return self.gives[name]
        if len(units) != size or (linear and len(shape) != 2):
            self._pin(source, f"{name} reads a tensor of shape {tuple(source.meta['shape'])}")
            return self._unfollowed(name, f"gives a tensor of shape {tuple(shape)}", shape)
        if linear:
            self.choosers.add(name)
            units = self._chosen(units, module)
        else:
            features = torch.tensor(self.inputs)[units]
            self.pins += [(units[features], _CHANNELS_OF_INPUT)] if bool(features.any()) else []
        self.reads[name], self.gives[name] = units, self._new(shape[1])
        return self.gives[name]

    def _unfollowed(self, name: str, reason: str, shape: torch.Size) -> Tensor:
        self.notes[name] = reason
        if reason != _GROUPED:
            self.refused.append(f"{name} is {reason}, and" if reason == _TWICE else f"{name} ({reason})")
        return self._new(shape[1], reason=f"{name} gives it: {reason}")

    def _chosen(self, units: Tensor, module: nn.Module) -> Tensor:
        """Features of the network's input: each linear layer chooses among them for itself."""
        pinned = {u for them, _ in self.pins for u in them.tolist()}
        free = torch.tensor([self.inputs[u] and u not in pinned for u in units.tolist()])
        if not bool(free.any()):
            return units
        units = units.clone()
        if isinstance(module, Selecting):
            read = torch.zeros_like(free)
            read[module.index.cpu()] = True
            units[free & ~read] = self._new(1, reason="nothing reads it")
            free &= read
        units[free] = self._new(int(free.sum()), of_input=True)
        return units

    def _tie(self, node: fx.Node, sources: list[fx.Node]) -> Tensor:
        """Channels that are added become one unit."""
        first, *others = (self.at[n] for n in sources)
        everything = torch.cat([first, *others])
        if any(self.inputs[u] for u in everything.tolist()):
            self.pins.append((everything, f"{node.name} adds the network's input to them"))
        self.ties += [(first, other) for other in others]
        return first

    def _along_channels(self, node: fx.Node) -> list[Tensor]:
        """Units of the parts of a concatenation along axis 1; none for any other."""
        parts, *rest = node.args or ((),)
        axis = rest[0] if rest else node.kwargs.get("dim", 0)
        if axis not in {1, 1 - len(node.meta["shape"])} or not isinstance(parts, list | tuple):
            return []
        followed = [n for n in parts if isinstance(n, fx.Node) and n in self.at]
        return [self.at[n] for n in followed] if len(followed) == len(parts) else []

    @staticmethod
    def _with_number(node: fx.Node) -> bool:
        """A tensor and a number that is written out: one that is computed may change with the units."""
        return node.target in _TIES and len(node.all_input_nodes) == 1

    def _pin(self, source: fx.Node, reason: str) -> None:
        if source in self.at:
            self.pins.append((self.at[source], reason))

    def _new(self, count: int, *, of_input: bool = False, reason: str = "") -> Tensor:
        units = torch.arange(len(self.inputs), len(self.inputs) + count)
        self.inputs += [of_input] * count
        if reason:
            self.pins.append((units, reason))
        return units
