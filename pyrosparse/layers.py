"""The layers whose weights can have a prior, which axis of a weight is which, and how many numbers a weight has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyrosparse.nn import (
    ComplexBilinear,
    ComplexConv1d,
    ComplexConv2d,
    ComplexConv3d,
    ComplexConvTranspose1d,
    ComplexConvTranspose2d,
    ComplexConvTranspose3d,
    ComplexLinear,
)

__all__ = [
    "COMPLEX_LAYERS",
    "LINEAR_LAYERS",
    "SPARSE_LAYERS",
    "Site",
    "axes",
    "blank",
    "everything",
    "frozen_layers",
    "not_zero",
    "over_parts",
    "parts_of",
    "sparse_layers",
    "weight_name",
    "weight_shape",
    "whole_layers",
]

_COMPLEX_TRANSPOSED = (ComplexConvTranspose1d, ComplexConvTranspose2d, ComplexConvTranspose3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, *_COMPLEX_TRANSPOSED)
COMPLEX_LAYERS: tuple[type[nn.Module], ...] = (
    ComplexLinear, ComplexBilinear, ComplexConv1d, ComplexConv2d, ComplexConv3d, *_COMPLEX_TRANSPOSED,
)  # fmt: skip
LINEAR_LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, ComplexLinear)
SPARSE_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED[:3], *COMPLEX_LAYERS,
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """One weight tensor with a prior.

    :param name: name of the parameter that the draw replaces (``fc1.weight``).
    :param layer: name of the module that owns it (``fc1``).
    :param shape: shape in the network as it was handed in, without the axis of the two parts of complex weights.
    :param out_axis: axis of the output units.
    :param in_axis: axis of the input units.
    :param parts: numbers of one weight: 1, or 2 for the real and imaginary part of a complex one. The parameter has
        the shape ``shape`` or ``(*shape, 2)``.
    """

    name: str
    layer: str
    shape: torch.Size
    out_axis: int
    in_axis: int
    parts: int = 1

    @property
    def total(self) -> int:
        """Number of weights; a complex one counts as two numbers."""
        return self.parts * self.shape.numel()

    def index(self, outs: Tensor, ins: Tensor) -> tuple[Tensor, ...]:
        """Where a cut weight lies in the original: indices along each axis, kernel axes whole."""
        along = [torch.arange(n) for n in self.shape]
        along[self.out_axis], along[self.in_axis] = outs, ins
        return tuple(along)


def axes(module: nn.Module) -> tuple[int, int]:
    """Output and input axis of a layer's weight: torch stores transposed convolutions the other way round."""
    return (1, 0) if isinstance(module, _TRANSPOSED) else (0, 1)


def parts_of(module: nn.Module) -> int:
    """Numbers of one weight of a layer: 2 for complex layers, whose parameters are real pairs, else 1."""
    return 2 if isinstance(module, COMPLEX_LAYERS) else 1


def weight_shape(module: nn.Module) -> torch.Size:
    """Shape of a layer's weight, without the axis of the two parts of complex weights."""
    assert isinstance(module.weight, Tensor)
    return module.weight.shape[: module.weight.dim() + 1 - parts_of(module)]


def everything(module: nn.Module) -> Tensor:
    """Mask that keeps every weight of a layer."""
    assert isinstance(module.weight, Tensor)
    return torch.ones(weight_shape(module), dtype=torch.bool, device=module.weight.device)


def over_parts(values: Tensor, numbers: Tensor) -> Tensor:
    """Let values of weights (a mask, say) broadcast with the numbers of these: both parts of complex ones get them."""
    return values.unsqueeze(-1) if values.dim() < numbers.dim() else values


def not_zero(numbers: Tensor, parts: int) -> Tensor:
    """Which weights are not zero: of complex ones those with a part that is not."""
    return numbers != 0 if parts == 1 else (numbers != 0).any(-1)


def blank(network: nn.Module, shape: torch.Size, *, complex_input: bool = False) -> Tensor:
    """Make an input of zeros, a batch of one.

    :param network: its parameters say type and device.
    :param shape: shape of one example.
    :param complex_input: whether the network takes complex tensors.
    """
    like = next(network.parameters())
    dtype = like.dtype.to_complex() if complex_input else like.dtype
    return torch.zeros((1, *shape), dtype=dtype, device=like.device)


def sparse_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every layer of ``network`` whose weight can have a prior, by name, in the order of definition."""
    return {name: m for name, m in network.named_modules() if isinstance(m, SPARSE_LAYERS)}


def frozen_layers(layers: Mapping[str, nn.Module]) -> list[str]:
    """Names of the layers whose own weight, of floating-point numbers, is not to be trained."""
    weights = {name: module._parameters.get("weight") for name, module in layers.items()}
    return [n for n, w in weights.items() if w is not None and w.is_floating_point() and not w.requires_grad]


def weight_name(layer: str) -> str:
    """Name of a layer's weight: ``fc1.weight``."""
    return f"{layer}.weight" if layer else "weight"


def whole_layers(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Indices of all outputs and inputs of each layer that has a weight of its own: what is there before any cut."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in sparse_layers(network).items():
        weight = module._parameters.get("weight")
        if weight is not None and not isinstance(weight, nn.UninitializedParameter):
            out_axis, in_axis = axes(module)
            found[name] = torch.arange(weight.shape[out_axis]), torch.arange(weight.shape[in_axis])
    return found
