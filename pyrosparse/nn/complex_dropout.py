"""Dropout of whole complex numbers."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn.complex_weight import check_complex

__all__ = ["ComplexDropout", "ComplexDropout1d", "ComplexDropout2d", "ComplexDropout3d"]


class ComplexDropout(nn.Dropout):
    """Set complex numbers to 0 with probability p, and scale the others by 1/(1 - p).

    Both parts go together. The signature is that of ``torch.nn.Dropout``, which does not take complex tensors.
    """

    spatial: ClassVar[int] = 0

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training, pass in evaluation.

        :raises NetworkError: for an input that is not complex, or has the wrong number of axes.
        """
        check_complex(self, input)
        if self.spatial and input.dim() not in {self.spatial + 1, self.spatial + 2}:
            raise NetworkError(
                f"{type(self).__name__} takes tensors of {self.spatial + 1} or {self.spatial + 2} axes, and this one "
                f"has shape {tuple(input.shape)}"
            )
        if not self.training or self.p == 0.0:
            return input
        shape = (*input.shape[: input.dim() - self.spatial], *[1] * self.spatial)
        kept = F.dropout(input.real.new_ones(shape), self.p)
        return input.mul_(kept) if self.inplace else input * kept


class ComplexDropout1d(ComplexDropout):
    """Drop whole channels of ``(N, C, L)`` or ``(C, L)``; else as :class:`ComplexDropout`."""

    spatial = 1


class ComplexDropout2d(ComplexDropout):
    """Drop whole channels of ``(N, C, H, W)`` or ``(C, H, W)``; else as :class:`ComplexDropout`."""

    spatial = 2


class ComplexDropout3d(ComplexDropout):
    """Drop whole channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; else as :class:`ComplexDropout`."""

    spatial = 3
