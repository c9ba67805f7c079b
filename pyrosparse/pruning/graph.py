"""How units flow through a network: which layer's outputs are which layer's inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from pyrosparse.layers import SPARSE_LAYERS

__all__ = ["Links", "UnitLink", "find_links"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# what may stand between two layers: each acts on every unit alone
_MODULES: tuple[type[nn.Module], ...] = (
    *NORMS,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.LogSigmoid,
)
_FUNCTIONS: set[Any] = {
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    torch.flatten,
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.selu,
    F.gelu,
    F.silu,
    F.mish,
    F.softplus,
    F.hardtanh,
    F.hardswish,
    F.tanh,
    F.sigmoid,
    F.dropout,
    F.max_pool1d,
    F.max_pool2d,
    F.max_pool3d,
    F.avg_pool1d,
    F.avg_pool2d,
    F.avg_pool3d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    F.adaptive_avg_pool3d,
}
_METHODS = {"relu", "tanh", "sigmoid", "flatten", "contiguous"}
_RESHAPES = {"view", "reshape"}
# of these an input feature survives as itself: no arithmetic
_SHAPE_ONLY = (nn.Flatten, nn.Identity)


@dataclass
class UnitLink:
    """The units of one layer are the inputs of another.

    :param producer: layer whose outputs they are; None for the input of the network.
    :param consumer: layer that reads them.
    :param spread: columns of the consumer that one unit fills: 1, or H·W behind a flattening.
    :param between: runs what stands between the two, in evaluation mode.
    :param norms: normalisation layers between the two; their parameters go with the units.
    :param spatial: spatial shape of the producer's output, without batch and channels.
    """

    producer: str | None
    consumer: str
    spread: int
    between: fx.GraphModule | None = None
    norms: list[str] = field(default_factory=list)
    spatial: torch.Size = torch.Size()

    def __str__(self) -> str:
        spread = f" (×{self.spread})" if self.spread > 1 else ""
        return f"{self.producer or 'input'} → {self.consumer}{spread}"

    def constants(self, bias: Tensor) -> Tensor:
        """What the consumer sees of units that are constant: ``(units, spread or spatial positions)``.

        :param bias: constant value of each unit at the producer's output, shape ``(units,)``.
        """
        assert self.between is not None
        value = bias.reshape(1, -1, *([1] * len(self.spatial))).expand(1, -1, *self.spatial)
        training = [m for m in self.between.modules() if m.training]
        self.between.eval()
        with torch.no_grad():
            seen = self.between(value.contiguous())
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


class _Tracer(fx.Tracer):
    """Sees every layer that can have a prior as one call, also those that are not torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SPARSE_LAYERS) or super().is_leaf_module(m, module_qualified_name)


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
        tracer = _Tracer()
        traced = fx.GraphModule(network, tracer.trace(network))
        first = next(network.parameters())
        example = torch.zeros((1, *input_shape), dtype=first.dtype, device=first.device)
        with torch.no_grad():
            ShapeProp(traced.eval()).propagate(example)
    except Exception as error:  # noqa: BLE001  (a user's forward may raise anything under tracing)
        found.notes.append(f"the network cannot be traced ({type(error).__name__}: {error}): no unit is removed")
        return found
    finally:
        # the traced module shares its leaves with the network
        for module, training in modes.items():
            module.training = training
    calls: dict[str, list[fx.Node]] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    wanted = set(layers)
    starts = [n for n in traced.graph.nodes if n.op == "placeholder" or str(n.target) in wanted]
    for start in starts:
        if start.op not in {"placeholder", "call_module"}:
            continue
        link = _follow(network, traced, start, calls, wanted)
        if isinstance(link, UnitLink):
            found.links.append(link)
        elif link:
            found.notes.append(link)
    return found


def _follow(
    network: nn.Module,
    traced: fx.GraphModule,
    start: fx.Node,
    calls: dict[str, list[fx.Node]],
    wanted: set[str],
) -> UnitLink | str:
    """Follow one output; a string says why there is no link ('' for the network's own output)."""
    is_input = start.op == "placeholder"
    name = "the input" if is_input else str(start.target)
    if not is_input:
        producer = network.get_submodule(name)
        if len(calls[name]) > 1:
            return f"{name}: used more than once; its units stay"
        if getattr(producer, "groups", 1) != 1:
            return f"{name}: grouped convolution; its units stay"
    node, path = start, []
    while True:
        users = [u for u in node.users if not _asks_shape(u)]
        if len(users) != 1:
            return f"{name}: its output goes to {len(users)} places; its units stay"
        node = users[0]
        if node.op == "output":
            return ""
        if node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), SPARSE_LAYERS):
            break
        if not _acts_on_units_alone(network, node):
            return f"{name}: {_describe(network, node)} follows; its units stay"
        path.append(node)
    consumer_name = str(node.target)
    consumer = network.get_submodule(consumer_name)
    if consumer_name not in wanted:
        return f"{name}: {consumer_name} reads it and has no prior; its units stay"
    if len(calls[consumer_name]) > 1 or getattr(consumer, "groups", 1) != 1:
        return f"{name}: {consumer_name} is grouped or used more than once; its units stay"
    source = path[-1] if path else start
    units = start.meta["tensor_meta"].shape[1] if len(start.meta["tensor_meta"].shape) > 1 else 0
    if is_input:
        modules = [network.get_submodule(str(n.target)) for n in path if n.op == "call_module"]
        only_shape = all(isinstance(m, _SHAPE_ONLY) for m in modules) and all(
            n.op == "call_module" or n.target in {torch.flatten, "flatten", "view", "reshape"} for n in path
        )
        if not only_shape or not isinstance(consumer, nn.Linear):
            return ""
        return UnitLink(None, consumer_name, 1)
    shape = source.meta["tensor_meta"].shape
    if isinstance(consumer, nn.Linear):
        if len(shape) != 2 or shape[1] % units:  # noqa: PLR2004
            return f"{name}: {consumer_name} reads a tensor of shape {tuple(shape)}; its units stay"
        spread = shape[1] // units
    else:
        spread = 1
    return UnitLink(
        name,
        consumer_name,
        spread,
        _between(traced, start, path),
        [
            str(n.target)
            for n in path
            if n.op == "call_module" and isinstance(network.get_submodule(str(n.target)), NORMS)
        ],
        start.meta["tensor_meta"].shape[2:],
    )


def _asks_shape(node: fx.Node) -> bool:
    return (node.op == "call_method" and node.target in {"size", "dim"}) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in {"shape", "ndim"}
    )


def _acts_on_units_alone(network: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        if isinstance(module, nn.Flatten):
            return module.start_dim == 1
        return isinstance(module, _MODULES)
    if node.op == "call_function":
        return node.target in _FUNCTIONS and (node.target is not torch.flatten or _from_channels(node))
    if node.op == "call_method":
        if node.target in _RESHAPES:
            shape = node.meta["tensor_meta"].shape
            source = node.args[0].meta["tensor_meta"].shape  # type: ignore[union-attr]
            return len(shape) == 2 and shape[0] == source[0]  # noqa: PLR2004
        return node.target in _METHODS and (node.target != "flatten" or _from_channels(node))
    return False


def _from_channels(node: fx.Node) -> bool:
    start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
    return start == 1


def _describe(network: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(network.get_submodule(str(node.target))).__name__})"
    return str(getattr(node.target, "__name__", node.target))


def _between(traced: fx.GraphModule, start: fx.Node, path: list[fx.Node]) -> fx.GraphModule:
    """What stands between two layers, as a module that shares its parts with the network."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {start: graph.placeholder("units")}

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:
            for source in node.all_input_nodes:
                copy(source)
            copies[node] = graph.node_copy(node, lambda n: copies[n])
        return copies[node]

    for node in path:
        copy(node)
    graph.output(copies[path[-1] if path else start])
    return fx.GraphModule(traced, graph)
