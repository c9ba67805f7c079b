"""Operations that act on every unit alone: what may stand between two layers whose units are removed."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

import pyrosparse.nn as psnn

__all__ = ["UNIT_TENSORS", "acts_on_units_alone", "asks_shape", "describe", "keeps_features", "per_unit", "set_units"]

# modules whose parameters and statistics have an entry for each unit, and what they call their number
_PER_UNIT: dict[type[nn.Module], str] = {
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "num_features"),
    **dict.fromkeys((psnn.ComplexBatchNorm1d, psnn.ComplexBatchNorm2d, psnn.ComplexBatchNorm3d), "num_features"),
    psnn.ModReLU: "num_parameters",
    nn.PReLU: "num_parameters",
}
UNIT_TENSORS = ("weight", "bias", "running_mean", "running_var", "running_covariance")
"""Names of what such modules have for each unit, along the first axis."""

_MODULES: tuple[type[nn.Module], ...] = (
    *_PER_UNIT,
    psnn.CReLU,
    psnn.ZReLU,
    psnn.Cardioid,
    psnn.ComplexDropout,
    psnn.ComplexDropout1d,
    psnn.ComplexDropout2d,
    psnn.ComplexDropout3d,
    psnn.RealPart,
    psnn.ImaginaryPart,
    psnn.Modulus,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
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
    nn.Hardshrink,
    nn.Softshrink,
    nn.Tanhshrink,
    nn.Threshold,
)
_FUNCTIONS: set[Any] = {
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.selu,
    F.celu,
    F.gelu,
    F.silu,
    F.mish,
    F.softplus,
    F.softsign,
    F.logsigmoid,
    F.hardtanh,
    F.hardswish,
    F.hardsigmoid,
    F.tanh,
    F.sigmoid,
}
_PARTS: set[Any] = {abs, torch.abs, torch.real, torch.imag, torch.conj}
_METHODS = {"relu", "tanh", "sigmoid", "contiguous", "abs", "conj"}
_RESHAPES = {"view", "reshape"}

# spatial axes that each pooling works on; with one axis less torch takes the batch for channels
_POOLS: dict[Any, int] = {
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d), 1),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d), 2),
    **dict.fromkeys((nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d), 3),
    **dict.fromkeys((psnn.ComplexAvgPool1d, psnn.ModulusMaxPool1d), 1),
    **dict.fromkeys((psnn.ComplexAvgPool2d, psnn.ModulusMaxPool2d), 2),
    **dict.fromkeys((psnn.ComplexAvgPool3d, psnn.ModulusMaxPool3d), 3),
    **dict.fromkeys((F.max_pool1d, F.avg_pool1d, F.adaptive_max_pool1d, F.adaptive_avg_pool1d), 1),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool2d), 2),
    **dict.fromkeys((F.max_pool3d, F.avg_pool3d, F.adaptive_max_pool3d, F.adaptive_avg_pool3d), 3),
}


def per_unit(module: nn.Module) -> int | None:
    """For how many units a module has parameters or statistics; None where all units share them."""
    name = next((name for kind, name in _PER_UNIT.items() if isinstance(module, kind)), None)
    shared = name is None or (isinstance(module, psnn.ModReLU | nn.PReLU) and module.num_parameters == 1)
    return None if shared else getattr(module, str(name))


def set_units(module: nn.Module, count: int) -> None:
    """Say for how many units a module has parameters, after they have been cut."""
    setattr(module, next(name for kind, name in _PER_UNIT.items() if isinstance(module, kind)), count)


def asks_shape(node: fx.Node) -> bool:
    """Whether a node only asks a tensor for its shape."""
    return (node.op == "call_method" and node.target in {"size", "dim"}) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in {"shape", "ndim"}
    )


def acts_on_units_alone(network: nn.Module, node: fx.Node, *, units_go: bool = True) -> bool:
    """Whether a node of a traced network gives each unit what depends on that unit alone.

    The nodes carry ``meta["shape"]`` of a run with a batch of one.

    :param units_go: whether units may be missing later: a ``view`` with their number written out would then fail.
    """
    source = _input_shape(node)
    kinds = {"call_module": _module_alone, "call_function": _function_alone, "call_method": _method_alone}
    if source is None or "shape" not in node.meta or node.op not in kinds:
        return False
    return kinds[node.op](network, node, source) and not (units_go and _writes_out_units(node))


def _module_alone(network: nn.Module, node: fx.Node, source: torch.Size) -> bool:
    module = network.get_submodule(str(node.target))
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1
    if type(module) in _POOLS:
        return len(source) == _POOLS[type(module)] + 2
    if isinstance(module, psnn.ToComplex | psnn.ToReal):
        return _cast_alone(module, len(source))
    if isinstance(module, psnn.PhaseShift):
        return module.phase.numel() == 1
    if isinstance(module, psnn.FourierFeatures2d):
        return len(source) == 4
    return isinstance(module, _MODULES)


def _cast_alone(cast: psnn.ToComplex | psnn.ToReal, dims: int) -> bool:
    """Whether the parts stand along positions, or those that a unit is split into stand side by side."""
    if cast.layout is psnn.ComplexLayout.REAL or cast.dim % dims > 1:
        return True
    split = isinstance(cast, psnn.ToReal) and cast.layout is psnn.ComplexLayout.INTERLEAVED
    return split and cast.dim % dims == 1


def _function_alone(network: nn.Module, node: fx.Node, source: torch.Size) -> bool:
    if node.target in _POOLS:
        return len(source) == _POOLS[node.target] + 2
    if node.target is F.dropout:
        return _argument(node, 2, "training", True) is False
    if node.target is torch.mean:
        return _averages_positions(node, source)
    if node.target is getattr:
        return node.args[1] in {"real", "imag"}
    return node.target in _FUNCTIONS | _PARTS or (node.target is torch.flatten and _flattens_from_units(node))


def _method_alone(network: nn.Module, node: fx.Node, source: torch.Size) -> bool:
    if node.target in _RESHAPES:
        shape = node.meta["shape"]
        return len(shape) == 2 and shape[0] == source[0]
    if node.target == "mean":
        return _averages_positions(node, source)
    return node.target in _METHODS or (node.target == "flatten" and _flattens_from_units(node))


def keeps_features(network: nn.Module, node: fx.Node) -> bool:
    """Whether a node changes shapes only, so that an input feature survives as itself."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        cast = isinstance(module, psnn.ToComplex) and module.layout is psnn.ComplexLayout.REAL
        return cast or isinstance(module, nn.Flatten | nn.Identity)
    return node.target in {torch.flatten, "flatten", "view", "reshape", "contiguous"}


def describe(network: nn.Module, node: fx.Node) -> str:
    """Name a node for a note."""
    if node.op == "call_module":
        return f"{node.target} ({type(network.get_submodule(str(node.target))).__name__})"
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node) and "shape" not in node.args[0].meta:
        return f"a part of what {describe(network, node.args[0])} gives"
    if _writes_out_units(node):
        return f"{node.target} with the number of units written out (flatten(1) would do)"
    return str(getattr(node.target, "__name__", node.target))


def _input_shape(node: fx.Node) -> torch.Size | None:
    source = node.args[0] if node.args else node.kwargs.get("input")
    return source.meta.get("shape") if isinstance(source, fx.Node) else None


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _flattens_from_units(node: fx.Node) -> bool:
    return bool(_argument(node, 1, "start_dim", 0) == 1)


def _averages_positions(node: fx.Node, source: torch.Size) -> bool:
    """Whether a mean goes over spatial axes alone."""
    over = _argument(node, 1, "dim", None)
    over = (over,) if isinstance(over, int) else over
    return isinstance(over, tuple | list) and all(isinstance(d, int) and d % len(source) > 1 for d in over)


def _writes_out_units(node: fx.Node) -> bool:
    """Whether a reshape has the number of its columns as a number in the code."""
    if node.op != "call_method" or node.target not in _RESHAPES:
        return False
    sizes = node.args[1:] or node.kwargs.get("shape") or node.kwargs.get("size") or ()
    while isinstance(sizes, tuple | list) and sizes:
        sizes = sizes[-1]
    return isinstance(sizes, int) and sizes != -1
