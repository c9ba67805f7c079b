"""A network as a graph of operations with the shape of every tensor."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn

from pyrosparse.layers import SPARSE_LAYERS, blank

__all__ = ["follow", "trace", "used_twice"]


class _Tracer(fx.Tracer):
    """Sees every layer that can have a prior as one call, and every module of :mod:`pyrosparse.nn`."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("pyrosparse.nn.")
        return ours or isinstance(m, SPARSE_LAYERS) or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Writes down what each node gives: shape and type of a tensor, the value of anything else."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"], n.meta["dtype"] = result.shape, result.dtype
        else:
            n.meta["value"] = tuple(result) if isinstance(result, torch.Size) else result
        return result


def follow(network: nn.Module) -> fx.GraphModule:
    """Trace a network without running it; layers and modules of :mod:`pyrosparse.nn` stay whole.

    :param network: takes one input; arguments beyond it keep their defaults.
    :raises Exception: whatever the network's forward raises under tracing.
    """
    parameters = inspect.signature(network.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is None or isinstance(p.default, bool | int | float)}
    return fx.GraphModule(network, _Tracer().trace(network, concrete_args=defaults or None))


def trace(network: nn.Module, input_shape: torch.Size, *, complex_input: bool = False) -> fx.GraphModule:
    """Trace a network in evaluation mode and run it on a batch of one.

    Modes and random generators stay as they are. The graph shares its layers with the network.

    :param network: takes one input; arguments beyond it keep their defaults.
    :param input_shape: shape of one example.
    :param complex_input: whether the network takes complex tensors.
    :returns: a graph whose nodes have ``meta["shape"]`` and ``meta["dtype"]``, and for what is no tensor
        ``meta["value"]``.
    :raises Exception: whatever the network's forward raises under tracing.
    """
    modes = {module: module.training for module in network.modules()}
    first = next(network.parameters())
    devices = [first.device] if first.device.type == "cuda" else []
    try:
        network.eval()
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            traced = follow(network)
            example = blank(network, input_shape, complex_input=complex_input)
            recorder = _Recorder(traced)
            recorder.extra_traceback = False  # an error becomes one line of a note
            recorder.run(example, enable_io_processing=False)
    finally:
        for module, training in modes.items():
            module.training = training
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
