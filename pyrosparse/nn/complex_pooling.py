"""Pooling of complex numbers: averages, and the number of largest modulus."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.distributions.complex_kl import squared_modulus

__all__ = [
    "ComplexAvgPool1d",
    "ComplexAvgPool2d",
    "ComplexAvgPool3d",
    "ModulusMaxPool1d",
    "ModulusMaxPool2d",
    "ModulusMaxPool3d",
]


class ComplexAvgPool1d(nn.AvgPool1d):
    """``torch.nn.AvgPool1d`` of real and imaginary parts."""

    def forward(self, input: Tensor) -> Tensor:
        """Average over windows."""
        return torch.complex(super().forward(input.real), super().forward(input.imag))


class ComplexAvgPool2d(nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` of real and imaginary parts."""

    def forward(self, input: Tensor) -> Tensor:
        """Average over windows."""
        return torch.complex(super().forward(input.real), super().forward(input.imag))


class ComplexAvgPool3d(nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` of real and imaginary parts."""

    def forward(self, input: Tensor) -> Tensor:
        """Average over windows."""
        return torch.complex(super().forward(input.real), super().forward(input.imag))


class _ModulusMaxPool(nn.modules.pooling._MaxPoolNd):
    """The number of largest modulus in each window; see :class:`ModulusMaxPool2d`."""

    spatial: ClassVar[int]
    pool: ClassVar[Callable[..., tuple[Tensor, Tensor]]]

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Take one number of each window, and with ``return_indices`` say which."""
        modulus = squared_modulus(torch.view_as_real(input.detach().resolve_conj()))
        _, where = type(self).pool(
            modulus, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, return_indices=True
        )
        first = input.dim() - self.spatial
        out = input.flatten(first).gather(-1, where.flatten(first)).reshape(where.shape)
        return (out, where) if self.return_indices else out


class ModulusMaxPool1d(_ModulusMaxPool):
    """The number of largest modulus in each window of ``(N, C, L)``; signature of ``torch.nn.MaxPool1d``."""

    spatial, pool = 1, F.max_pool1d_with_indices


class ModulusMaxPool2d(_ModulusMaxPool):
    """The number of largest modulus in each window of ``(N, C, H, W)``; signature of ``torch.nn.MaxPool2d``."""

    spatial, pool = 2, F.max_pool2d_with_indices


class ModulusMaxPool3d(_ModulusMaxPool):
    """The number of largest modulus in each window of ``(N, C, D, H, W)``; signature of ``torch.nn.MaxPool3d``."""

    spatial, pool = 3, F.max_pool3d_with_indices
