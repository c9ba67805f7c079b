"""Complex networks and the real ones that they are compared with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from numbers import Integral

import torch
from torch import nn

import pyrosparse.nn as psnn
from pyrosparse.errors import ConfigError
from pyrosparse.text import nearest

__all__ = ["COMPLEX", "REAL", "Kind", "Twin", "check_sizes", "twin_network"]


@dataclass(frozen=True)
class Kind:
    """The modules that a network is made of: those of torch, or their complex counterparts.

    :param is_complex: whether they are complex.
    """

    is_complex: bool
    linear: Callable[..., nn.Module]
    conv1d: Callable[..., nn.Module]
    conv2d: Callable[..., nn.Module]
    norm1d: Callable[..., nn.Module]
    norm2d: Callable[..., nn.Module]
    pool1d: Callable[..., nn.Module]
    pool2d: Callable[..., nn.Module]
    activation: Callable[..., nn.Module]

    def inputs(self, count: int, *, complex_input: bool) -> int:
        """Input channels or features: a real network reads the parts of complex ones one beside the other."""
        return 2 * count if complex_input and not self.is_complex else count

    def start(self, *, complex_input: bool, fourier: bool) -> OrderedDict[str, nn.Module]:
        """What stands before the first layer: the Fourier transform, if asked for, and a cast."""
        layers: OrderedDict[str, nn.Module] = (
            OrderedDict(fourier=psnn.FourierFeatures2d()) if fourier else OrderedDict()
        )
        if self.is_complex:
            layers["cast"] = psnn.ToComplex()
        elif complex_input or fourier:
            layers["cast"] = psnn.ToReal(dim=1)
        return layers

    def end(self) -> OrderedDict[str, nn.Module]:
        """What stands after the last layer: the logits are real parts."""
        return OrderedDict(real=psnn.RealPart()) if self.is_complex else OrderedDict()


COMPLEX = Kind(
    True, psnn.ComplexLinear, psnn.ComplexConv1d, psnn.ComplexConv2d, psnn.ComplexBatchNorm1d,
    psnn.ComplexBatchNorm2d, psnn.ComplexAvgPool1d, psnn.ComplexAvgPool2d, psnn.CReLU,
)  # fmt: skip
REAL = Kind(
    False, nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool1d, nn.AvgPool2d, nn.ReLU
)  # fmt: skip


class Twin(StrEnum):
    """The four networks of a comparison at equal size and at equal number of parameters.

    A complex layer between n and m units has 2nm numbers, a real one nm.
    """

    COMPLEX = "C"
    """The complex network."""

    HALF_COMPLEX = "½C"
    """The complex network made narrower, until it has as many numbers as R."""

    REAL = "R"
    """The real network of the same size: as many units in each layer."""

    DOUBLE_REAL = "2R"
    """The real network made wider, until it has as many numbers as C."""


Build = Callable[[Kind, float], nn.Sequential]


def check_sizes(network: str, **sizes: int | Sequence[int]) -> None:
    """See that every size is a whole number of at least 1: a factor on widths would make 1 of anything smaller.

    :param network: its name, for messages.
    :param sizes: numbers of units by the names of their parameters, one each or several.
    :raises ConfigError: naming the one that is not.
    """
    for name, value in sizes.items():
        for size in value if isinstance(value, Sequence) else [value]:
            if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
                raise ConfigError(f"{network}: {name} is {value!r}; give whole numbers of at least 1")


def twin_network(name: str, twin: Twin | str, build: Build) -> nn.Sequential:
    """Build one of the four networks of a comparison.

    :param name: of the network, for messages.
    :param twin: which one.
    :param build: makes a network of a kind of modules and a factor on its hidden units.
    :raises ConfigError: for another twin, with the nearest one.
    """
    if twin not in list(Twin):
        raise ConfigError(f"{name}: twin={twin!r} is unknown{nearest(str(twin), [t.value for t in Twin])}")
    if twin == Twin.COMPLEX:
        return build(COMPLEX, 1.0)
    if twin == Twin.REAL:
        return build(REAL, 1.0)
    kind, like = (COMPLEX, REAL) if twin == Twin.HALF_COMPLEX else (REAL, COMPLEX)
    return build(kind, _factor(build, kind, _numbers(build, like, 1.0)))


def _numbers(build: Build, kind: Kind, factor: float) -> int:
    """Parameters of a network, without making them."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(kind, factor).parameters())


def _factor(build: Build, kind: Kind, wanted: int) -> float:
    """Factor on the hidden units with which a network comes nearest to a number of parameters, by bisection."""
    low, high = 0.25, 4.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _numbers(build, kind, middle) < wanted else (low, middle)
    return min((low, high), key=lambda factor: abs(_numbers(build, kind, factor) - wanted))
