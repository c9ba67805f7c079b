"""Linear layers that read only some of their input features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn.complex_linear import ComplexLinear

__all__ = ["ComplexSelectLinear", "SelectLinear", "Selecting"]


class Selecting(nn.Module):
    """What linear layers that read some of their inputs have in common.

    :param index: features that are read, ``int64``, shape ``(k,)``, strictly increasing.
    :param original_features: size of the last axis of the input.
    :param at_most: whether that is an upper bound: files do not say how many units are left in front of a layer in a
        network of the user's own class.
    """

    index: Tensor
    original_features: int
    at_most: bool = False
    in_features: int
    out_features: int

    def _select(self, index: Tensor, original_features: int, device: torch.device | str | None) -> None:
        self.original_features = original_features
        self.register_buffer("index", index.to(device=device, dtype=torch.int64).clone())

    def _read(self, input: Tensor) -> Tensor:
        """Features that are read. An input of another size is refused: a lookup would not mind one that is too long."""
        width = input.shape[-1] if input.dim() else 0
        if not (width == self.original_features or (self.at_most and width < self.original_features)):
            raise NetworkError(
                f"{type(self).__name__} reads {self.in_features} of {self.original_features} features, and this input "
                f"has shape {tuple(input.shape)}: give (..., {self.original_features})"
            )
        return input.index_select(-1, self.index)

    def extra_repr(self) -> str:
        """Describe the layer with both input sizes."""
        return f"{self.in_features} of {self.original_features} features, {super().extra_repr()}"


class SelectLinear(Selecting, nn.Linear):
    """``y = W x[index] + b``: what is left of a linear layer when input features are dead.

    The layer still takes the original features, so that the smaller network is called with the same
    data as the original one; the ``k`` columns of ``weight`` belong to the features in ``index``.

    :param index: features that are read, ``int64``, shape ``(k,)``, strictly increasing.
    :param original_features: size of the last axis of the input.
    :param out_features: number of units.
    :param bias: whether there is a bias.
    """

    def __init__(
        self,
        index: Tensor,
        original_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(index.numel(), out_features, bias, device=device, dtype=dtype)
        self._select(index, original_features, device)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., original_features)`` to ``(..., out_features)``.

        :raises NetworkError: for an input of another size.
        """
        return super().forward(self._read(input))


class ComplexSelectLinear(Selecting, ComplexLinear):
    """:class:`SelectLinear` over the complex numbers: ``weight`` has shape (out, k, 2).

    :param index: features that are read, ``int64``, shape ``(k,)``, strictly increasing.
    :param original_features: size of the last axis of the input, which is complex.
    :param out_features: number of units.
    :param bias: whether there is a bias.
    """

    def __init__(
        self,
        index: Tensor,
        original_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(index.numel(), out_features, bias, device=device, dtype=dtype)
        self._select(index, original_features, device)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., original_features)`` to ``(..., out_features)``.

        :raises NetworkError: for an input of another size, that is not complex, or not of the weight's precision.
        """
        return super().forward(self._read(input))
