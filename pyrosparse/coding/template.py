"""Put the tensors of a file into a network of the original architecture."""

from __future__ import annotations

import copy
import os
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pyrosparse.errors import NetworkError
from pyrosparse.layers import LINEAR_LAYERS, SPARSE_LAYERS, axes, parts_of
from pyrosparse.nn import ComplexBilinear, ComplexLinear, ComplexSelectLinear, Selecting, SelectLinear
from pyrosparse.pruning.unitwise import per_unit, set_units

__all__ = ["fill"]


def fill(network: nn.Module, state: dict[str, Tensor], path: str | os.PathLike[str]) -> nn.Module:
    """Return a copy of ``network`` whose tensors, and whose layers' sizes, are those of ``state``.

    Layers may only have become smaller. A linear layer for which the file has an index map becomes a
    :class:`~pyrosparse.nn.SelectLinear`; a layer without a bias gets one if the file has it.

    :raises NetworkError: naming the parameter that does not fit.
    """
    network = copy.deepcopy(network)
    for name in [n for n in state if n.rpartition(".")[2] == "index"]:
        _select(network, name, state[name])
    known = network.state_dict(keep_vars=True)
    for name in known:
        if name not in state:
            raise NetworkError(f"{path} has no tensor for {name!r} of the network that was passed")
    for name, value in state.items():
        owner, leaf = _owner(network, name, path)
        old = known.get(name)
        if old is None and not (leaf in owner._parameters or leaf in owner._buffers):
            raise NetworkError(f"{path} has a tensor {name!r}, the network that was passed does not")
        if old is not None and not _fits(old, value):
            raise NetworkError(
                f"{name} has shape {tuple(value.shape)} and type {value.dtype} in {path}, which cannot be a "
                f"smaller form of {tuple(old.shape)}, {old.dtype} in the network that was passed"
            )
        new = value if old is None else value.to(old.device)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(new, requires_grad=old is None or old.requires_grad)
        else:
            owner._buffers[leaf] = new
    for name, module in network.named_modules():
        _resize(name, module, path)
    return network.eval()


def _owner(network: nn.Module, name: str, path: Any) -> tuple[nn.Module, str]:
    prefix, _, leaf = name.rpartition(".")
    try:
        return network.get_submodule(prefix), leaf
    except AttributeError as error:
        raise NetworkError(
            f"{path} has a tensor {name!r}, but the network that was passed has no layer {prefix!r}"
        ) from error


def _select(network: nn.Module, name: str, index: Tensor) -> None:
    """Replace a linear layer by one that reads only the features in ``index``."""
    prefix = name.rpartition(".")[0]
    parent, _, leaf = prefix.rpartition(".")
    try:
        layer = network.get_submodule(prefix)
        holder = network.get_submodule(parent)
    except AttributeError:
        return
    kinds = {nn.Linear: SelectLinear, ComplexLinear: ComplexSelectLinear}
    if type(layer) not in kinds or not prefix or "index" in layer._buffers:  # one of its own, of another meaning
        return
    assert isinstance(layer, nn.Linear | ComplexLinear)
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < layer.in_features:
        raise NetworkError(f"{name} points beyond the {layer.in_features} input features of {prefix}")
    reader = kinds[type(layer)](
        index, layer.in_features, layer.out_features, layer.bias is not None,
        device=layer.weight.device, dtype=layer.weight.dtype,
    )  # fmt: skip
    reader.at_most = True  # the units in front may have become fewer
    setattr(holder, leaf, reader)


def _fits(old: Tensor, new: Tensor) -> bool:
    """Whether ``new`` can be what pruning left of ``old``: channels may go, kernels stay."""
    if old.dim() != new.dim() or old.dtype != new.dtype:
        return False
    smaller = all(n <= o for n, o in zip(new.shape, old.shape, strict=True))
    return smaller and new.shape[2:] == old.shape[2:]


def _resize(name: str, module: nn.Module, path: Any) -> None:
    """Bring a layer's sizes in line with its tensors."""
    resized: Any = module
    if isinstance(module, LINEAR_LAYERS):
        resized.out_features, resized.in_features = resized.weight.shape[:2]
        _check_bias(name, module, resized.out_features, path)
        if isinstance(module, Selecting) and module.index.numel() != module.in_features:
            raise NetworkError(f"{name}.index and {name}.weight of {path} have different numbers of inputs")
    elif isinstance(module, ComplexBilinear):
        resized.out_features, resized.in1_features, resized.in2_features = resized.weight.shape[:3]
        _check_bias(name, module, resized.out_features, path)
    elif isinstance(module, SPARSE_LAYERS):
        first, second = resized.weight.shape[:2]
        if resized.groups > 1 and resized.groups == resized.in_channels:  # each channel by itself
            resized.groups = first
        if axes(module) == (1, 0):
            resized.in_channels, resized.out_channels = first, second * resized.groups
        else:
            resized.in_channels, resized.out_channels = second * resized.groups, first
        _check_bias(name, module, resized.out_channels, path)
    elif isinstance(module, _NormBase) and module.weight is not None:
        module.num_features = module.weight.shape[0]
    elif per_unit(module) is not None and isinstance(module.bias, Tensor):
        set_units(module, len(module.bias))


def _check_bias(name: str, module: nn.Module, units: int, path: Any) -> None:
    bias, expected = module.bias, (units, 2) if parts_of(module) == 2 else (units,)
    if isinstance(bias, Tensor) and bias.shape != expected:
        raise NetworkError(f"{name}.bias of {path} has shape {tuple(bias.shape)} for {units} units")
