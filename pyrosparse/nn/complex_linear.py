"""Complex linear and bilinear layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn import complex_forms as forms
from pyrosparse.nn.complex_forms import as_complex
from pyrosparse.nn.complex_weight import Device, check_complex, pairs, reset_uniform

__all__ = ["ComplexBilinear", "ComplexLinear"]


class ComplexLinear(nn.Module):
    """``y = x W^T + b`` over the complex numbers; no conjugation.

    ``weight`` has shape (out, in, 2) and ``bias`` (out, 2): real pairs, so that every optimiser and file format that
    knows real parameters can serve them. As in ``torch.nn.Linear``, ``E|w|^2 = 1/(3 in)`` at the start.

    :param in_features: size of the last axis of the input, which is complex.
    :param out_features: size of the last axis of the output.
    :param bias: whether there is a bias.
    :param device: of the parameters.
    :param dtype: of the parameters, real or complex (float64 and complex128 mean the same).
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = pairs(out_features, in_features, device=device, dtype=dtype)
        self.register_parameter("bias", pairs(out_features, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        reset_uniform(self.in_features, self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``.

        :raises NetworkError: for an input that is not complex, not of the weight's precision, or of another size.
        """
        check_complex(self, input, self.weight)
        if input.shape[-1:] != (self.in_features,):
            raise NetworkError(
                f"{type(self).__name__} takes (..., {self.in_features}), and this tensor has shape {tuple(input.shape)}"
            )
        bias = None if self.bias is None else as_complex(self.bias)
        return forms.linear(input, as_complex(self.weight), bias)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class ComplexBilinear(nn.Module):
    """``y_o = x1^T W_o x2 + b_o`` over the complex numbers; no conjugation.

    ``weight`` has shape (out, in1, in2, 2) and ``bias`` (out, 2).

    :param in1_features: size of the last axis of the first input.
    :param in2_features: size of the last axis of the second input.
    :param out_features: size of the last axis of the output.
    :param bias: whether there is a bias.
    :param device: of the parameters.
    :param dtype: of the parameters, real or complex.
    """

    bias: nn.Parameter | None

    def __init__(  # noqa: PLR0917 - torch's signature
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = pairs(out_features, in1_features, in2_features, device=device, dtype=dtype)
        self.register_parameter("bias", pairs(out_features, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values: as ``torch.nn.Bilinear``, ``E|w|^2 = 1/(3 in1)``."""
        reset_uniform(self.in1_features, self.weight, self.bias)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Map ``(..., in1)`` and ``(..., in2)`` to ``(..., out)``.

        :raises NetworkError: for an input that is not complex, not of the weight's precision, or of another size, and
            for inputs of which the leading axes differ.
        """
        check_complex(self, input1, self.weight)
        check_complex(self, input2, self.weight)
        for place, x, size in (("first", input1, self.in1_features), ("second", input2, self.in2_features)):
            if x.shape[-1:] != (size,):
                raise NetworkError(f"ComplexBilinear: the {place} input has shape {tuple(x.shape)}; give (..., {size})")
        if input1.shape[:-1] != input2.shape[:-1]:
            raise NetworkError(
                f"ComplexBilinear: inputs of shape {tuple(input1.shape)} and {tuple(input2.shape)} must have the same "
                "leading axes"
            )
        bias = None if self.bias is None else as_complex(self.bias)
        return forms.bilinear(input1, input2, as_complex(self.weight), bias)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        features = f"in1_features={self.in1_features}, in2_features={self.in2_features}"
        return f"{features}, out_features={self.out_features}, bias={self.bias is not None}"
