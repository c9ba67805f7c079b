"""How many axes a tensor of a network has when pairs of numbers count as complex numbers."""

from __future__ import annotations

from torch import nn

from pyrosparse.layers import COMPLEX_LAYERS
from pyrosparse.nn import ComplexBatchNorm1d, ComplexBatchNorm2d, ComplexBatchNorm3d

__all__ = ["axes_of"]


def axes_of(network: nn.Module) -> dict[str, int]:
    """Axes of each tensor of a network's state; that of the two parts of complex numbers does not count.

    Of a complex normalisation everything counts as a vector, with a small matrix for each feature, but for the
    covariance: its inverse root forgives no rounding.
    """
    found = {name: value.dim() for name, value in network.state_dict().items()}
    for prefix, module in network.named_modules():
        norm = isinstance(module, ComplexBatchNorm1d | ComplexBatchNorm2d | ComplexBatchNorm3d)
        if not (norm or isinstance(module, COMPLEX_LAYERS)):
            continue
        for leaf in ("weight", "bias", "running_mean"):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if name in found:
                found[name] = 1 if norm else found[name] - 1
    return found
