"""Put the tensors of a file into a network of the original architecture."""

from __future__ import annotations

import copy
import os
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyrosparse.errors import NetworkError
from pyrosparse.nn.select import SelectLinear

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
    if type(layer) is not nn.Linear or not prefix:
        return
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < layer.in_features:
        raise NetworkError(f"{name} points beyond the {layer.in_features} input features of {prefix}")
    setattr(
        holder,
        leaf,
        SelectLinear(
            index, layer.in_features, layer.out_features, layer.bias is not None,
            device=layer.weight.device, dtype=layer.weight.dtype,
        ),
    )  # fmt: skip


def _fits(old: Tensor, new: Tensor) -> bool:
    """Whether ``new`` can be what pruning left of ``old``: channels may go, kernels stay."""
    if old.dim() != new.dim() or old.dtype != new.dtype:
        return False
    smaller = all(n <= o for n, o in zip(new.shape, old.shape, strict=True))
    return smaller and new.shape[2:] == old.shape[2:]


def _resize(name: str, module: nn.Module, path: Any) -> None:
    """Bring a layer's sizes in line with its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
        _check_bias(name, module.bias, module.out_features, path)
        if isinstance(module, SelectLinear) and module.index.numel() != module.in_features:
            raise NetworkError(f"{name}.index and {name}.weight of {path} have different numbers of inputs")
    elif isinstance(module, _ConvNd):
        first, second = module.weight.shape[:2]
        if module.groups > 1 and module.groups == module.in_channels:  # each channel by itself
            module.groups = first if second == module.weight.shape[1] else module.groups
        if isinstance(module, _ConvTransposeNd):
            module.in_channels, module.out_channels = first, second * module.groups
        else:
            module.in_channels, module.out_channels = second * module.groups, first
        _check_bias(name, module.bias, module.out_channels, path)
    elif isinstance(module, _NormBase) and module.weight is not None:
        module.num_features = module.weight.shape[0]


def _check_bias(name: str, bias: Tensor | None, units: int, path: Any) -> None:
    if bias is not None and bias.shape != (units,):
        raise NetworkError(f"{name}.bias of {path} has shape {tuple(bias.shape)} for {units} units")
