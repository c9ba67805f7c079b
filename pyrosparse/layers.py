"""The layers whose weights can have a prior, and which axis of a weight is which."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["SPARSE_LAYERS", "Site", "axes", "sparse_layers", "weight_name", "whole_layers"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SPARSE_LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


@dataclass(frozen=True)
class Site:
    """One weight with a prior.

    :param name: name of the parameter that the draw replaces (``fc1.weight``).
    :param layer: name of the module that owns it (``fc1``).
    :param shape: shape in the network as it was handed in.
    :param out_axis: axis of the output units.
    :param in_axis: axis of the input units.
    """

    name: str
    layer: str
    shape: torch.Size
    out_axis: int
    in_axis: int

    @property
    def total(self) -> int:
        """Number of weights."""
        return self.shape.numel()

    def index(self, outs: Tensor, ins: Tensor) -> tuple[Tensor, ...]:
        """Where a cut weight lies in the original: indices along each axis, kernel axes whole."""
        along = [torch.arange(n) for n in self.shape]
        along[self.out_axis], along[self.in_axis] = outs, ins
        return tuple(along)


def axes(module: nn.Module) -> tuple[int, int]:
    """Output and input axis of a layer's weight: torch stores transposed convolutions the other way round."""
    return (1, 0) if isinstance(module, _TRANSPOSED) else (0, 1)


def sparse_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every layer of ``network`` whose weight can have a prior, by name, in the order of definition."""
    return {name: m for name, m in network.named_modules() if isinstance(m, SPARSE_LAYERS)}


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
