"""Cutting units out of layers, posteriors and optimiser state together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pyrosparse.layers import LINEAR_LAYERS, axes
from pyrosparse.nn import ComplexLinear, ComplexSelectLinear, Selecting, SelectLinear
from pyrosparse.pruning.removal import Removal, UnitCut
from pyrosparse.pruning.unitwise import UNIT_TENSORS, set_units

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
    flow = removal.flow
    if not removal or flow is None:
        return {}
    cutter = cutter or Cutter()
    for cut in removal.cuts:
        for layer, fold in cut.folds.items() if isinstance(cut, UnitCut) else ():
            with torch.no_grad():
                fold = torch.view_as_real(fold) if fold.is_complex() else fold  # noqa: PLW2901 - as the bias has it
                network.get_submodule(layer).bias.add_(fold)  # type: ignore[operator]
    taken = {}
    for layer in flow.reads:
        outs, ins = _cut_layer(network, removal, layer, cutter, posterior)
        if outs is not None or ins is not None:
            taken[layer] = outs, ins
    stay = removal.staying
    for name, units in flow.norms.items():
        _cut_norm(network.get_submodule(name), stay[units], cutter)
    return taken


def _cut_layer(
    network: nn.Module, removal: Removal, layer: str, cutter: Cutter, posterior: TensorsOf | None
) -> tuple[Tensor | None, Tensor | None]:
    """Take rows and columns out of a layer; returns the indices of those that stay, None where nothing was cut."""
    flow, stay, module = removal.flow, removal.staying, network.get_submodule(layer)
    assert flow is not None
    assert isinstance(module.weight, Tensor)
    linear = isinstance(module, LINEAR_LAYERS)
    taken: list[Tensor | None] = []
    for side, keep in enumerate((stay[flow.gives[layer]], removal.columns(layer))):
        if bool(keep.all()):
            taken.append(None)
            continue
        index = keep.nonzero().flatten()
        for tensor in (module.weight, *(posterior(layer).values() if posterior else ())):
            cutter.take(tensor, axes(module)[side], index)
        if side == 0 and isinstance(module.bias, Tensor):
            cutter.take(module.bias, 0, index)
        setattr(module, ("out_", "in_")[side] + ("features" if linear else "channels"), len(index))
        taken.append(index)
    if linear:
        # what is still there to be read: the network's input is handed in as it was
        there = (stay | flow.of_input)[flow.reads[layer]]
        _choose(network, module, there, removal.columns(layer))
    outs, ins = taken
    return outs, ins


def _cut_norm(norm: nn.Module, keep: Tensor, cutter: Cutter) -> None:
    if bool(keep.all()):
        return
    for part in UNIT_TENSORS:
        value = getattr(norm, part, None)
        if isinstance(value, Tensor):
            cutter.take(value, 0, keep.nonzero().flatten())
    set_units(norm, int(keep.sum()))


def _choose(network: nn.Module, module: nn.Module, there: Tensor, keep: Tensor) -> None:
    """Let a linear layer read those of its columns that stay, in the places where their features are now.

    One that reads all that is there is a plain one: the form depends on what is left, not on the way there.

    :param there: which of the features that it was handed are still there, a mask.
    :param keep: which of its columns stay, a mask.
    """
    assert isinstance(module, nn.Linear | ComplexLinear)
    if bool(there.all()) and bool(keep.all()):
        return
    index = (module.index if isinstance(module, Selecting) else torch.arange(len(keep), device=keep.device))[keep]
    index, original = (there.cumsum(0) - 1)[index], int(there.sum())
    if not isinstance(module, Selecting) and len(index) == original:
        return
    whole, some = (nn.Linear, SelectLinear) if isinstance(module, nn.Linear) else (ComplexLinear, ComplexSelectLinear)
    small: nn.Linear | ComplexLinear
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and thrown away
        if len(index) == original:
            small = whole(original, module.out_features, module.bias is not None)
        else:
            small = some(index.cpu(), original, module.out_features, module.bias is not None)
            small.index = small.index.to(module.weight.device)
    small.weight = module.weight
    small.bias = module.bias
    small.train(module.training)
    _replace(network, module, small)


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another one, wherever it is registered."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
