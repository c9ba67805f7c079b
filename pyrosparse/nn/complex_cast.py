"""From real tensors to complex ones and back, and turns of the phase."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from pyrosparse.errors import DataError, NetworkError
from pyrosparse.nn.complex_weight import Device, check_complex, in_a_complex_precision, with_phase
from pyrosparse.pairs import numbers_of

__all__ = ["ComplexLayout", "ImaginaryPart", "Modulus", "PhaseShift", "RealPart", "ToComplex", "ToReal"]


class ComplexLayout(StrEnum):
    """Where the parts of complex numbers stand in a real tensor."""

    REAL = "real"
    """There are real parts only; the imaginary ones are 0."""

    INTERLEAVED = "interleaved"
    """Each real part is followed by its imaginary part."""

    CONCATENATED = "concatenated"
    """All real parts, then all imaginary parts."""


class _Cast(nn.Module):
    """Where the parts stand."""

    def __init__(self, layout: ComplexLayout | str, dim: int) -> None:
        super().__init__()
        if layout not in set(ComplexLayout):
            names = ", ".join(repr(known.value) for known in ComplexLayout)
            raise NetworkError(f"{type(self).__name__}: layout={layout!r} is unknown; choose one of {names}")
        self.layout, self.dim = ComplexLayout(layout), dim

    def _axis(self, input: Tensor) -> int:
        """The axis that holds both parts, counted from the front."""
        if not -input.dim() <= self.dim < input.dim():
            raise DataError(f"{type(self).__name__}: a tensor of shape {tuple(input.shape)} has no axis {self.dim}")
        return self.dim % input.dim()

    def extra_repr(self) -> str:
        """Describe the layer."""
        return repr(self.layout.value) + ("" if self.layout is ComplexLayout.REAL else f", dim={self.dim}")


class ToComplex(_Cast):
    """Make complex tensors of real ones.

    :param layout: :class:`ComplexLayout` or its value.
    :param dim: axis that holds both parts, twice as long as in the result (not for ``"real"``).
    :raises NetworkError: for an unknown layout.
    """

    def __init__(self, layout: ComplexLayout | str = ComplexLayout.REAL, *, dim: int = -1) -> None:
        super().__init__(layout, dim)

    def forward(self, input: Tensor) -> Tensor:
        """Make complex; complex tensors pass unchanged under ``"real"``. Of bfloat16 they are made in float32.

        :raises DataError: for integers, an axis that is not there, or one of odd length.
        """
        if self.layout is ComplexLayout.REAL and input.is_complex():
            return input
        if not input.is_floating_point():
            raise DataError(f"ToComplex({self.layout.value!r}) takes floating-point tensors, not {input.dtype}")
        input = in_a_complex_precision(input)
        if self.layout is ComplexLayout.REAL:
            return torch.complex(input, torch.zeros_like(input))
        dim = self._axis(input)
        if input.shape[dim] % 2:
            raise DataError(
                f"ToComplex: axis {self.dim} of a tensor of shape {tuple(input.shape)} cannot hold both parts: its "
                "length is odd"
            )
        if self.layout is ComplexLayout.CONCATENATED:
            return torch.complex(*input.chunk(2, dim))
        return numbers_of(input.unflatten(dim, (-1, 2)).movedim(dim + 1, -1))


class ToReal(_Cast):
    """Make real tensors of complex ones, with both parts in them: undoes :class:`ToComplex`.

    ``ToReal(dim=1)`` gives a real network the parts of an image as twice as many channels.

    :param layout: :class:`ComplexLayout` or its value; ``"real"`` takes the real parts alone.
    :param dim: axis along which the parts stand, twice as long as in the input.
    :raises NetworkError: for an unknown layout.
    """

    def __init__(self, layout: ComplexLayout | str = ComplexLayout.CONCATENATED, *, dim: int = -1) -> None:
        super().__init__(layout, dim)

    def forward(self, input: Tensor) -> Tensor:
        """Separate the parts.

        :raises NetworkError: for an input that is not complex.
        :raises DataError: for an axis that is not there.
        """
        check_complex(self, input)
        return self.parts(input.real, input.imag)

    def parts(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Put the parts where they belong."""
        if self.layout is ComplexLayout.REAL:
            return real
        dim = self._axis(real)
        if self.layout is ComplexLayout.CONCATENATED:
            return torch.cat([real, imaginary], dim)
        return torch.stack([real, imaginary], dim + 1).flatten(dim, dim + 1)


class RealPart(nn.Module):
    """``Re z``."""

    def forward(self, input: Tensor) -> Tensor:
        """Take the part of each number.

        :raises NetworkError: for an input that is not complex.
        """
        check_complex(self, input)
        return input.real


class ImaginaryPart(nn.Module):
    """``Im z``."""

    def forward(self, input: Tensor) -> Tensor:
        """Take the part of each number.

        :raises NetworkError: for an input that is not complex.
        """
        check_complex(self, input)
        return input.imag


class Modulus(nn.Module):
    """``|z|``, with gradient 0 at 0."""

    def forward(self, input: Tensor) -> Tensor:
        """Take the modulus of each number.

        :raises NetworkError: for an input that is not complex.
        """
        check_complex(self, input)
        return with_phase(input).abs()


class PhaseShift(nn.Module):
    r"""``exp(i phase) z`` with trained phases.

    :param shape: shape of the phases; it broadcasts with the last axes of the input, as in ``torch.nn.LayerNorm``
        (``(C, 1, 1)`` for one phase a channel of an image).
    :param device: of the phases.
    :param dtype: of the phases, real or complex.
    """

    def __init__(self, shape: int | Sequence[int], device: Device = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        real = None if dtype is None else dtype.to_real()
        self.phase = nn.Parameter(torch.empty(self.shape, device=device, dtype=real))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the phases to 0."""
        nn.init.zeros_(self.phase)

    def forward(self, input: Tensor) -> Tensor:
        """Turn each number.

        :raises NetworkError: for an input that is not complex, not of the phases' precision, or of another shape.
        """
        check_complex(self, input, self.phase)
        last = input.shape[max(input.dim() - len(self.shape), 0) :]
        if len(last) != len(self.shape) or not all(n in (1, m) for n, m in zip(self.shape, last, strict=True)):
            raise NetworkError(
                f"PhaseShift has phases of shape {self.shape}, which do not broadcast to the last axes of a tensor of "
                f"shape {tuple(input.shape)}"
            )
        return input * torch.complex(self.phase.cos(), self.phase.sin())

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"{self.shape}"
