"""Pooling of complex numbers: averages, and the number of largest modulus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.nn.complex_forms import channels_as_parts, parts_as_channels
from pyrosparse.nn.complex_weight import check_channels, check_complex
from pyrosparse.pairs import squared_modulus

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
        """Average over windows.

        :raises NetworkError: for an input that is not complex, or has other axes.
        """
        check_complex(self, input)
        check_channels(self, input, 1)
        return channels_as_parts(super().forward(parts_as_channels(input, 1)), 1)


class ComplexAvgPool2d(nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` of real and imaginary parts."""

    def forward(self, input: Tensor) -> Tensor:
        """Average over windows.

        :raises NetworkError: for an input that is not complex, or has other axes.
        """
        check_complex(self, input)
        check_channels(self, input, 2)
        return channels_as_parts(super().forward(parts_as_channels(input, 2)), 2)


class ComplexAvgPool3d(nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` of real and imaginary parts."""

    def forward(self, input: Tensor) -> Tensor:
        """Average over windows.

        :raises NetworkError: for an input that is not complex, or has other axes.
        """
        check_complex(self, input)
        check_channels(self, input, 3)
        return channels_as_parts(super().forward(parts_as_channels(input, 3)), 3)


class ModulusMaxPool1d(nn.MaxPool1d):
    """The number of largest modulus in each window of ``(N, C, L)``; signature of ``torch.nn.MaxPool1d``.

    Of equals the first one, as in ``torch.nn.MaxPool1d``; gradients flow into the number that was taken alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Take one number of each window; with ``return_indices`` also say which.

        :raises NetworkError: for an input that is not complex, or has other axes.
        """
        return _largest(self, F.max_pool1d_with_indices, input, 1)


class ModulusMaxPool2d(nn.MaxPool2d):
    """The number of largest modulus in each window of ``(N, C, H, W)``; signature of ``torch.nn.MaxPool2d``."""

    def forward(self, input: Tensor) -> Tensor:
        """Take one number of each window; with ``return_indices`` also say which.

        :raises NetworkError: for an input that is not complex, or has other axes.
        """
        return _largest(self, F.max_pool2d_with_indices, input, 2)


class ModulusMaxPool3d(nn.MaxPool3d):
    """The number of largest modulus in each window of ``(N, C, D, H, W)``; signature of ``torch.nn.MaxPool3d``."""

    def forward(self, input: Tensor) -> Tensor:
        """Take one number of each window; with ``return_indices`` also say which.

        :raises NetworkError: for an input that is not complex, or has other axes.
        """
        return _largest(self, F.max_pool3d_with_indices, input, 3)


MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d


def _largest(module: MaxPool, pool: Callable[..., tuple[Tensor, Tensor]], input: Tensor, spatial: int) -> Any:
    check_complex(module, input)
    check_channels(module, input, spatial)
    modulus = squared_modulus(torch.view_as_real(input.detach().resolve_conj()))
    _, where = pool(
        modulus,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        return_indices=True,
    )
    first = input.dim() - spatial
    out = input.flatten(first).gather(-1, where.flatten(first)).reshape(where.shape)
    return (out, where) if module.return_indices else out
