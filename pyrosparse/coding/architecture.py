"""Networks as small JSON trees, and back.

A layer is ``[kind, arguments that have no default, {other arguments that differ from it}]``, a
``torch.nn.Sequential`` is ``["Q", children]`` whose children carry their name in front, unless it is their
position. LeNet-300-100 reads ``["Q", ["flatten", "F"], ["fc1", "L", 784, 300], ["relu1", "R"], ...]``.
Nothing in such a tree is executed: an unknown kind is refused, and kinds are the table below.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import nn

import pyrosparse.nn as psnn
from pyrosparse.nn import Selecting, SelectLinear

__all__ = ["Kind", "UnknownLayerError", "build", "describe", "register"]

SEQUENTIAL = "Q"
DEEPEST = 32  # nested Sequentials
MOST_LAYERS = 2048  # lists and objects of a tree
SIZES = {"kernel_size", "stride", "padding", "dilation", "output_padding", "output_size"}
LEFT_OUT = ("device", "dtype", "min_value", "max_value")  # the last two are deprecated names of Hardtanh's
MISSING = inspect.Parameter.empty


class UnknownLayerError(Exception):
    """A layer that is not in the table, or arguments that it does not take."""


@dataclass(frozen=True)
class Kind:
    """How layers of one class are written: letters, class, arguments without a default, and the others."""

    code: str
    cls: type[nn.Module]
    required: tuple[str, ...]
    optional: dict[str, Any] = field(default_factory=dict)


KINDS: dict[str, Kind] = {}
_CLASSES: dict[type[nn.Module], Kind] = {}


def register(code: str, cls: type[nn.Module], *, leave_out: tuple[str, ...] = LEFT_OUT) -> None:
    """Make a layer class known to files under ``code``; its arguments must be attributes of the same name.

    :raises ValueError: if the code is taken by another class.
    """
    if code == SEQUENTIAL or KINDS.get(code, Kind(code, cls, ())).cls is not cls:
        raise ValueError(f"the code {code!r} belongs to another layer class")
    required, optional = [], {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in leave_out or parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
            continue
        if parameter.default is MISSING:
            required.append(name)
        else:
            default = parameter.default
            optional[name] = default.value if isinstance(default, Enum) else default
    KINDS[code] = _CLASSES[cls] = Kind(code, cls, tuple(required), optional)


def describe(network: nn.Module) -> list[Any] | None:
    """Return the tree of a network, or ``None`` if a part of it is not known.

    Exact classes count: a subclass may do anything in ``forward``. Hooks and layers that occur twice also give
    ``None``; of parameters that do the tree says nothing.
    """
    modules = [m for _, m in network.named_modules(remove_duplicate=False)]
    if len(set(map(id, modules))) != len(modules):
        return None
    try:
        tree = _describe(network)
        rebuilt = build(tree)
        if _describe(rebuilt) != tree:
            return None
    except UnknownLayerError:
        return None
    mine, its = network.state_dict(), rebuilt.state_dict()
    same = list(mine) == list(its) and all(mine[name].shape == its[name].shape for name in mine)
    return tree if same else None


def build(tree: Any) -> nn.Module:
    """Build the network of a tree on the ``meta`` device: shapes without memory.

    :raises UnknownLayerError: if the tree is not one that :func:`describe` writes.
    """
    if _lists_in(tree) > MOST_LAYERS:
        raise UnknownLayerError("too many layers")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about layers without weights
        return _build(tree, 0)


def _lists_in(tree: Any) -> int:
    """How many lists and objects a tree is made of.

    :raises UnknownLayerError: if they are nested too deep for what follows, which recurs.
    """
    found, level = 0, [tree]
    for _ in range(DEEPEST + 4):  # Sequentials, a layer, its arguments, a list among these
        level = [node for node in level if isinstance(node, list | dict)]
        if not level:
            return found
        found += len(level)
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
    raise UnknownLayerError("lists that are nested too deep")


def _describe(module: nn.Module) -> list[Any]:
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise UnknownLayerError("hooks cannot be stored")
    if type(module) is nn.Sequential:
        tree: list[Any] = [SEQUENTIAL]
        for position, (name, child) in enumerate(module.named_children()):
            node = _describe(child)
            tree.append(node if name == str(position) else [name, *node])
        return tree
    kind = _CLASSES.get(type(module))
    if kind is None:
        raise UnknownLayerError(type(module).__name__)
    node = [kind.code, *(_argument(module, name) for name in kind.required)]
    other = {}
    for name, default in kind.optional.items():
        if name == "bias" and not _has_scale(module):
            continue
        value = _argument(module, name)
        pooling = name == "stride" and default is None  # the stride is the kernel's size
        if value != _shorten(name, module.kernel_size if pooling else default):
            other[name] = value
    return [*node, other] if other else node


def _has_scale(module: nn.Module) -> bool:
    """Whether a bias makes sense: a normalisation without a scale has none."""
    return bool(getattr(module, "affine", getattr(module, "elementwise_affine", True)))


def _argument(module: nn.Module, name: str) -> Any:
    """Value that a constructor argument must have had, in JSON's terms."""
    if isinstance(module, Selecting) and name == "index":
        return module.index.numel()
    value = getattr(module, name, MISSING)
    if name == "bias":
        return value is not MISSING and value is not None
    if value is MISSING:
        raise UnknownLayerError(f"{type(module).__name__} does not say its {name}")
    return _shorten(name, value)


def _shorten(name: str, value: Any) -> Any:
    """JSON form of an argument; a size that is the same along all axes becomes one integer."""
    if isinstance(value, tuple | list | torch.Size):
        items = [_shorten("", v) for v in value]
        same = name in SIZES and all(type(v) is int and v == items[0] for v in items)
        return items[0] if same and items else items
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UnknownLayerError(f"an argument of type {type(value).__name__}")


def _lengthen(value: Any) -> Any:
    return tuple(_lengthen(v) for v in value) if isinstance(value, list) else value


def _build(tree: Any, depth: int) -> nn.Module:
    if not isinstance(tree, list) or not tree or not isinstance(tree[0], str) or depth > DEEPEST:
        raise UnknownLayerError("a tree of layers was expected")
    code, *arguments = tree
    if code == SEQUENTIAL:
        return _build_sequential(arguments, depth)
    kind = KINDS.get(code)
    if kind is None:
        raise UnknownLayerError(
            f"layers of kind {code!r} are not known; call pyrosparse.coding.register if they are your own"
        )
    named = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
    if len(arguments) != len(kind.required) or not set(named) <= set(kind.optional):
        raise UnknownLayerError(f"wrong arguments for {kind.cls.__name__}")
    for value in arguments:  # all of them are sizes
        if type(value) is not int and (issubclass(kind.cls, Selecting) or not isinstance(value, list)):
            raise UnknownLayerError(f"wrong arguments for {kind.cls.__name__}: {value!r}")
        _check(kind, value, 0)
    for name, value in named.items():
        _check(kind, value, kind.optional[name])
    values = {**dict(zip(kind.required, map(_lengthen, arguments), strict=True))}
    values |= {name: _lengthen(value) for name, value in named.items()}
    try:
        if issubclass(kind.cls, Selecting):
            values["index"] = torch.empty(values["index"], dtype=torch.int64)
        return kind.cls(**values)
    except Exception as error:  # whatever a constructor says to arguments from outside
        raise UnknownLayerError(f"wrong arguments for {kind.cls.__name__}: {error}") from error


def _check(kind: Kind, value: Any, default: Any) -> None:
    """Refuse an argument whose type is not that of the default (sizes: integers, lists of them, or words)."""
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        items = value if isinstance(value, list) else [value]
        fits = all(type(v) is int or v is None for v in items) or isinstance(value, str)
    elif isinstance(default, float):
        fits = type(value) in {int, float}
    else:
        fits = default is None or isinstance(value, type(default))
    if not fits:
        raise UnknownLayerError(f"wrong arguments for {kind.cls.__name__}: {value!r}")


def _build_sequential(children: list[Any], depth: int) -> nn.Module:
    network = nn.Sequential()
    for position, child in enumerate(children):
        if not isinstance(child, list) or not child:
            raise UnknownLayerError("a tree of layers was expected")
        # ["fc1", "L", ...] has two strings in front; an unnamed child has one (or is a Sequential).
        named = len(child) > 1 and isinstance(child[1], str)
        name = child[0] if named else str(position)
        if not isinstance(name, str) or not name or "." in name or name in network._modules:
            raise UnknownLayerError("a layer has no name, or one that is taken")
        try:
            network.add_module(name, _build(child[1:] if named else child, depth + 1))
        except KeyError as error:  # a name that nn.Sequential itself uses
            raise UnknownLayerError(f"a layer cannot be called {name!r}") from error
    return network


def _register_torch() -> None:
    for code, name in {
        "L": "Linear", "R": "ReLU", "F": "Flatten", "I": "Identity", "T": "Tanh", "G": "Sigmoid",
        "D": "Dropout", "LR": "LeakyReLU", "GE": "GELU", "SP": "Softplus", "SI": "SiLU", "EL": "ELU",
        "R6": "ReLU6", "SM": "Softmax", "LS": "LogSoftmax", "U": "Unflatten", "LN": "LayerNorm",
        "SE": "SELU", "CE": "CELU", "MI": "Mish", "HT": "Hardtanh", "SS": "Softsign", "LG": "LogSigmoid",
        "HW": "Hardswish", "HG": "Hardsigmoid", "PR": "PReLU", "HS": "Hardshrink", "SO": "Softshrink",
        "TS": "Tanhshrink",
    }.items():  # fmt: skip
        register(code, getattr(nn, name))
    stems = {
        "C": "Conv", "CT": "ConvTranspose", "B": "BatchNorm", "M": "MaxPool", "A": "AvgPool",
        "AA": "AdaptiveAvgPool", "AM": "AdaptiveMaxPool", "D": "Dropout",
    }  # fmt: skip
    for code, stem in stems.items():
        for axes in (1, 2, 3):
            register(f"{code}{axes}", getattr(nn, f"{stem}{axes}d"))
    register("S", SelectLinear)


def _register_complex() -> None:
    for code, name in {
        "ZL": "ComplexLinear", "ZS": "ComplexSelectLinear", "ZR": "CReLU", "ZM": "ModReLU", "ZQ": "ZReLU",
        "ZK": "Cardioid", "ZD": "ComplexDropout", "ZP": "PhaseShift", "ZI": "ToComplex", "ZF": "FourierFeatures2d",
        "ZO": "ToReal", "RE": "RealPart", "IM": "ImaginaryPart", "AB": "Modulus",
    }.items():  # fmt: skip
        register(code, getattr(psnn, name))
    # the window is a tensor of the state
    register("ZW", psnn.ShortTimeFourier, leave_out=(*LEFT_OUT, "window"))
    stems = {
        "ZC": "ComplexConv", "ZT": "ComplexConvTranspose", "ZB": "ComplexBatchNorm", "ZA": "ComplexAvgPool",
        "ZX": "ModulusMaxPool", "ZD": "ComplexDropout",
    }  # fmt: skip
    for code, stem in stems.items():
        for axes in (1, 2, 3):
            register(f"{code}{axes}", getattr(psnn, f"{stem}{axes}d"))


_register_torch()
_register_complex()
