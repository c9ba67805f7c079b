"""Cutting units out of layers, posteriors and optimiser state together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pyrosparse.layers import axes
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.removal import LinkCut, Removal

__all__ = ["Cutter", "cut_network"]

TensorsOf = Callable[[str], Mapping[str, Tensor]]


class Cutter:
    """Takes rows and columns out of parameters in place, and out of their optimiser state with them.

    A parameter keeps its identity: the optimiser's groups stay as they are.

    :param optimizer: its state (Adam's moments) is cut along; None when there is none.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.optimizer = optimizer

    def take(self, tensor: Tensor, axis: int, index: Tensor) -> None:
        """Keep the entries ``index`` of ``tensor`` along ``axis``; one of length 1 belongs to all of them and stays."""
        before = tensor.shape
        if before[axis] == 1:
            return
        index = index.to(tensor.device)
        if self.optimizer is not None and tensor in self.optimizer.state:
            state = self.optimizer.state[tensor]
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == before:
                    state[key] = value.index_select(axis, index)
        with torch.no_grad():
            left = tensor.data.index_select(axis, index)
        if tensor.requires_grad:
            # Autograd keeps the old shape for as long as some graph of the past is alive, and a backward pass would
            # fail; a change of type makes it look again.
            other = torch.float32 if tensor.dtype == torch.float64 else torch.float64
            tensor.data = left.new_empty(0, dtype=other)
        tensor.data = left
        tensor.grad = None


def cut_network(
    network: nn.Module,
    removal: Removal,
    *,
    cutter: Cutter | None = None,
    posterior: TensorsOf | None = None,
) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Carry out a plan on a network, in place.

    :param network: its layers, biases and normalisations are cut.
    :param removal: the plan.
    :param cutter: does the cutting; one without an optimiser when None.
    :param posterior: layer → tensors with the axes of its weight, cut along with it.
    :returns: layer → (outputs that stay, inputs that stay), None where nothing was cut.
    """
    cutter = cutter or Cutter()
    taken: dict[str, tuple[Tensor | None, Tensor | None]] = {}
    for cut in removal.cuts:
        if cut.bias is not None:
            with torch.no_grad():
                network.get_submodule(cut.link.consumer).bias.add_(cut.bias)  # type: ignore[operator]
    for cut in removal.cuts:
        _cut_consumer(network, cut, cutter, posterior)
        outs, _ = taken.get(cut.link.consumer, (None, None))
        taken[cut.link.consumer] = (outs, cut.columns)
        if cut.link.producer is not None:
            _cut_producer(network, cut, cutter, posterior)
            _, ins = taken.get(cut.link.producer, (None, None))
            taken[cut.link.producer] = (cut.keep, ins)
    return taken


def _cut_consumer(network: nn.Module, cut: LinkCut, cutter: Cutter, posterior: TensorsOf | None) -> None:
    layer = cut.link.consumer
    module = network.get_submodule(layer)
    _, in_axis = axes(module)
    for tensor in _weights(module, layer, posterior):
        cutter.take(tensor, in_axis, cut.columns)
    if cut.link.producer is None:
        _replace(network, module, _selecting(module, cut.columns))
    elif isinstance(module, SelectLinear) or len(cut.columns) < len(cut.features):
        _replace(network, module, _reading(module, cut.index, len(cut.features)))
    elif isinstance(module, nn.Linear):
        module.in_features = len(cut.columns)
    else:
        module.in_channels = len(cut.columns)  # type: ignore[assignment]


def _cut_producer(network: nn.Module, cut: LinkCut, cutter: Cutter, posterior: TensorsOf | None) -> None:
    layer = cut.link.producer
    assert layer is not None
    module = network.get_submodule(layer)
    out_axis, _ = axes(module)
    for tensor in _weights(module, layer, posterior):
        cutter.take(tensor, out_axis, cut.keep)
    if isinstance(module.bias, Tensor):
        cutter.take(module.bias, 0, cut.keep)
    if isinstance(module, nn.Linear):
        module.out_features = len(cut.keep)
    else:
        module.out_channels = len(cut.keep)  # type: ignore[assignment]
    for name in cut.link.norms:
        norm = network.get_submodule(name)
        columns = cut.keep if norm.num_features == cut.units else cut.features
        for part in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(norm, part)
            if isinstance(value, Tensor):
                cutter.take(value, 0, columns)
        norm.num_features = len(columns)  # type: ignore[assignment]


def _weights(module: nn.Module, layer: str, posterior: TensorsOf | None) -> list[Tensor]:
    assert isinstance(module.weight, Tensor)
    return [module.weight, *(posterior(layer).values() if posterior else ())]


def _selecting(module: nn.Module, columns: Tensor) -> nn.Linear:
    """A linear layer that reads only some inputs, with the parameters of ``module`` themselves."""
    assert isinstance(module, nn.Linear)
    if isinstance(module, SelectLinear):
        return _reading(module, module.index[columns.to(module.index.device)], module.original_features)
    return _reading(module, columns, module.in_features)


def _reading(module: nn.Module, index: Tensor, original: int) -> nn.Linear:
    """A linear layer that reads the features ``index`` of ``original`` ones, with the parameters of ``module``.

    One that reads them all is a plain one again: the form depends on what is left, not on the way there.
    """
    assert isinstance(module, nn.Linear)
    small: nn.Linear
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and thrown away
        if len(index) == original:
            small = nn.Linear(original, module.out_features, module.bias is not None)
        else:
            small = SelectLinear(index.cpu(), original, module.out_features, module.bias is not None)
            small.index = small.index.to(module.weight.device)
    small.weight = module.weight
    small.bias = module.bias
    small.train(module.training)
    return small


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another one, wherever it is registered."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
