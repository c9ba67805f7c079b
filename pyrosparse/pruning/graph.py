"""How units flow through a network: which layer's outputs are which layer's inputs."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from pyrosparse.layers import SPARSE_LAYERS, axes
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.unitwise import NORMS, acts_on_units_alone, asks_shape, describe, keeps_features

__all__ = ["Links", "UnitLink", "find_links", "trace", "used_twice"]


@dataclass
class UnitLink:
    """The units of one layer are the inputs of another.

    :param producer: layer whose outputs they are; None for the input of the network.
    :param consumer: layer that reads them.
    :param spread: columns of the consumer that one unit fills: 1, or H·W behind a flattening.
    :param between: runs what stands between the two, in evaluation mode.
    :param norms: normalisation layers between the two; their parameters go with the units.
    :param spatial: spatial shape of the producer's output, without batch and channels.
    :param index: for a consumer that reads some features only, which ones; None when it reads all of them.
    """

    producer: str | None
    consumer: str
    spread: int
    between: fx.GraphModule | None = None
    norms: list[str] = field(default_factory=list)
    spatial: torch.Size = torch.Size()
    index: Tensor | None = None

    @property
    def selects(self) -> bool:
        """Whether single features of a unit can go: behind a flattening they can be left unread."""
        return self.producer is not None and (self.spread > 1 or self.index is not None)

    def features(self, units: int) -> Tensor:
        """Which of the ``units × spread`` features each column of the consumer reads."""
        return torch.arange(units * self.spread) if self.index is None else self.index

    def __str__(self) -> str:
        spread = f" (×{self.spread})" if self.spread > 1 else ""
        return f"{self.producer or 'input'} → {self.consumer}{spread}"

    def constants(self, bias: Tensor) -> Tensor:
        """What the consumer sees of units that are constant: ``(units, spread or spatial positions)``.

        :param bias: constant value of each unit at the producer's output, shape ``(units,)``.
        """
        assert self.between is not None
        value = bias.detach().reshape(1, -1, *([1] * len(self.spatial))).expand(1, -1, *self.spatial)
        training = [m for m in self.between.modules() if m.training]
        self.between.eval()
        try:
            with torch.no_grad():
                # a copy: an activation may work in place
                seen = self.between(value.clone(memory_format=torch.contiguous_format))
        finally:
            for module in training:
                module.training = True
        return seen.reshape(bias.numel(), -1)


@dataclass
class Links:
    """Every place where units can be removed, and why others cannot.

    :param links: in the order of the data's way through the network.
    :param notes: one line for each layer whose units stay, with the reason.
    """

    links: list[UnitLink] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([*(str(link) for link in self.links), *self.notes])


def find_links(network: nn.Module, layers: Iterable[str], input_shape: torch.Size | None) -> Links:
    """Follow each layer's output to the one layer that reads it.

    A unit can be removed where its output goes to exactly one layer, through operations that treat every
    unit alone (activations, pooling, batch normalisation, dropout, flattening). Branches, sums and
    concatenations are left alone and named in the notes.

    :param network: any module; one that ``torch.fx`` cannot trace gets no links and one note.
    :param layers: names of the layers whose weights are pruned: only their units are considered.
    :param input_shape: shape of one example.
    """
    found = Links()
    if input_shape is None:
        found.notes.append("the shape of the input is not known (the model has not been run): no unit is removed")
        return found
    modes = {module: module.training for module in network.modules()}
    try:
        traced = trace(network.eval(), input_shape)
    except Exception as error:  # a user's forward may raise anything under tracing
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        found.notes.append(f"the network cannot be traced ({type(error).__name__}: {reason}): no unit is removed")
        return found
    finally:
        # the traced module shares its leaves with the network
        for module, training in modes.items():
            module.training = training
    follower = _Follower(network, traced, set(layers))
    for start in traced.graph.nodes:
        if "shape" not in start.meta:
            continue
        if start.op != "placeholder" and not (start.op == "call_module" and str(start.target) in follower.wanted):
            continue
        try:
            link = follower.follow(start)
        except _Stays as reason:
            note = f"{'the input' if start.op == 'placeholder' else start.target}: {reason}; its units stay"
            if note not in found.notes:
                found.notes.append(note)
        else:
            found.links += [link] if link is not None else []
    return found


class _Stays(Exception):
    """Units stay, and why."""


class _Tracer(fx.Tracer):
    """Sees every layer that can have a prior as one call, also those that are not torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SPARSE_LAYERS) or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Writes down what each node gives: the shape of a tensor, the value of anything else."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = result.shape
        else:
            n.meta["value"] = tuple(result) if isinstance(result, torch.Size) else result
        return result


def trace(network: nn.Module, input_shape: torch.Size) -> fx.GraphModule:
    """Trace a network in evaluation mode and run it on a batch of one; random generators stay as they are."""
    first = next(network.parameters())
    # arguments beyond the input keep their defaults
    parameters = inspect.signature(network.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is None or isinstance(p.default, bool | int | float)}
    devices = [first.device] if first.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        graph = _Tracer().trace(network, concrete_args=defaults or None)
        traced = fx.GraphModule(network, graph)
        example = torch.zeros((1, *input_shape), dtype=first.dtype, device=first.device)
        recorder = _Recorder(traced)
        recorder.extra_traceback = False  # an error becomes one line of a note
        recorder.run(example, enable_io_processing=False)
    return traced


def used_twice(network: nn.Module, graph: fx.Graph) -> set[str]:
    """Modules that are called more than once, or whose parameters something else uses as well."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    owners: dict[int, list[str]] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    shared = {name for names in owners.values() if len(names) > 1 for name in names}
    return {name for name, count in calls.items() if count > 1} | shared | read


class _Follower:
    """Follows the outputs of a traced network's layers."""

    def __init__(self, network: nn.Module, traced: fx.GraphModule, wanted: set[str]) -> None:
        self.network = network
        self.traced = traced
        self.wanted = wanted
        self.twice = used_twice(network, traced.graph)

    def follow(self, start: fx.Node) -> UnitLink | None:
        """Follow one output; None for the network's own output, and for an input that is not read as features.

        :raises _Stays: with the reason, if the units cannot be removed.
        """
        is_input = start.op == "placeholder"
        if not is_input:
            self._check_producer(start)
        node = start
        path: list[fx.Node] = []
        while True:
            users = [u for u in node.users if not asks_shape(u)]
            if len(users) != 1:
                raise _Stays(f"its output goes to {len(users)} places")
            node = users[0]
            if node.op == "output":
                return None
            if node.op == "call_module" and isinstance(self._module(node), SPARSE_LAYERS):
                break
            alone = acts_on_units_alone(self.network, node, units_go=not is_input)
            if not alone or not _reads_only(node, path[-1] if path else start):
                raise _Stays(f"{describe(self.network, node)} follows")
            path.append(node)
        consumer = str(node.target)
        if consumer not in self.wanted:
            raise _Stays(f"{consumer} reads it and has no prior")
        if consumer in self.twice or getattr(self._module(node), "groups", 1) != 1:
            raise _Stays(f"{consumer} is grouped or used more than once")
        if not is_input:
            return self._link(start, path, node)
        features_survive = all(keeps_features(self.network, n) for n in path)
        linear = isinstance(self._module(node), nn.Linear)
        return UnitLink(None, consumer, 1) if features_survive and linear else None

    def _check_producer(self, start: fx.Node) -> None:
        name, shape = str(start.target), start.meta["shape"]
        producer = self.network.get_submodule(name)
        if name in self.twice:
            raise _Stays("used more than once")
        if getattr(producer, "groups", 1) != 1:
            raise _Stays("grouped convolution")
        if isinstance(producer, nn.Linear) and len(shape) != 2:
            raise _Stays(f"gives a tensor of shape {tuple(shape)}")

    def _link(self, start: fx.Node, path: list[fx.Node], node: fx.Node) -> UnitLink:
        """Link a layer to the one that reads it, if the reader's inputs are its units one after the other."""
        name, consumer_name = str(start.target), str(node.target)
        consumer = self._module(node)
        units = start.meta["shape"][1]
        shape = (path[-1] if path else start).meta["shape"]
        assert isinstance(consumer.weight, Tensor)
        selects = isinstance(consumer, SelectLinear)
        columns = consumer.original_features if selects else consumer.weight.shape[axes(consumer)[1]]
        linear = isinstance(consumer, nn.Linear)
        fits = shape[1] == columns and columns % units == 0
        if not fits or (len(shape) != 2 if linear else columns != units):
            raise _Stays(f"{consumer_name} reads a tensor of shape {tuple(shape)}")
        norms = [str(n.target) for n in path if n.op == "call_module" and isinstance(self._module(n), NORMS)]
        for norm in norms:
            if norm in self.twice or self.network.get_submodule(norm).num_features not in {units, columns}:
                raise _Stays(f"{norm} follows and is used elsewhere or across units")
        between = _between(self.traced, start, path)
        index = consumer.index if isinstance(consumer, SelectLinear) else None
        return UnitLink(name, consumer_name, columns // units, between, norms, start.meta["shape"][2:], index)

    def _module(self, node: fx.Node) -> nn.Module:
        return self.network.get_submodule(str(node.target))


def _reads_only(node: fx.Node, source: fx.Node) -> bool:
    """Whether a node reads one tensor; shapes and numbers beside it do no harm."""
    return all(n is source or "value" in n.meta for n in node.all_input_nodes)


def _between(traced: fx.GraphModule, start: fx.Node, path: list[fx.Node]) -> fx.GraphModule:
    """What stands between two layers, as a module that shares its parts with the network.

    Numbers that the operations read, such as the size of the batch, are those of a batch of one.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {start: graph.placeholder("units")}
    for node in path:
        copies[node] = graph.node_copy(node, lambda n: copies[n] if n in copies else n.meta["value"])
    graph.output(copies[path[-1] if path else start])
    return fx.GraphModule(traced, graph)
