"""Activations of complex numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn.complex_forms import on_parts
from pyrosparse.nn.complex_weight import Device, check_complex, with_phase

__all__ = ["CReLU", "Cardioid", "ModReLU", "ZReLU"]


class CReLU(nn.Module):
    """``relu(Re z) + i relu(Im z)``, Trabelsi et al. (2018)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to each number.

        :raises NetworkError: for an input that is not complex.
        """
        check_complex(self, input)
        return on_parts(torch.relu, input)


class ZReLU(nn.Module):
    """``z`` where both parts are positive, else 0; Guberman (2016)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to each number.

        :raises NetworkError: for an input that is not complex.
        """
        check_complex(self, input)
        return torch.where((input.real > 0) & (input.imag > 0), input, 0.0)


class Cardioid(nn.Module):
    r"""``(1 + cos arg z)/2 z``, Virtue, Yu & Lustig (2017): the rectifier on the real line, and 0 at 0."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to each number.

        :raises NetworkError: for an input that is not complex.
        """
        check_complex(self, input)
        return 0.5 * (input + input.real * with_phase(input).sgn())


class ModReLU(nn.Module):
    """``relu(|z| + b) z/|z|`` with trained thresholds b, Arjovsky, Shah & Bengio (2016); 0 at 0.

    Numbers of modulus below ``-b`` vanish; the phase stays.

    :param num_parameters: 1, or the number of channels (axis 1 of the input, or its only one), as in
        ``torch.nn.PReLU``.
    :param init: initial b; at 0 the activation does nothing.
    :param device: of b.
    :param dtype: of b, real or complex.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = -0.1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        real = None if dtype is None else dtype.to_real()
        self.bias = nn.Parameter(torch.empty(num_parameters, device=device, dtype=real))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set b to its initial value."""
        nn.init.constant_(self.bias, self.init)

    def forward(self, input: Tensor) -> Tensor:
        """Apply to each number.

        :raises NetworkError: for an input that is not complex, not of the thresholds' precision, or with another number
            of channels.
        """
        check_complex(self, input, self.bias)
        if self.bias.numel() == 1:
            b = self.bias.reshape(())
        elif input.dim() > 0 and input.shape[min(1, input.dim() - 1)] == self.num_parameters:
            b = self.bias.reshape(-1, *[1] * max(input.dim() - 2, 0))
        else:
            raise NetworkError(
                f"ModReLU has thresholds for {self.num_parameters} channels, and this tensor of shape "
                f"{tuple(input.shape)} has another number of them along axis 1"
            )
        z = with_phase(input)
        return torch.relu(z.abs() + b) * z.sgn()

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"num_parameters={self.num_parameters}"
