"""Complex convolutions and transposed convolutions in one, two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn import complex_forms as forms
from pyrosparse.nn.complex_forms import as_complex
from pyrosparse.nn.complex_weight import Device, check_channels, check_complex, pairs, reset_uniform

__all__ = [
    "ComplexConv1d",
    "ComplexConv2d",
    "ComplexConv3d",
    "ComplexConvTranspose1d",
    "ComplexConvTranspose2d",
    "ComplexConvTranspose3d",
]

Size = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(nn.Module):
    """Sizes and parameters that both kinds of convolution have."""

    spatial: ClassVar[int]
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        weight_channels: tuple[int, int],
        stride: Size,
        dilation: Size,
        groups: int,
        bias: bool,
        device: Device,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise NetworkError(
                f"{type(self).__name__}: groups={groups} does not divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = self._each("kernel_size", kernel_size)
        self.stride = self._each("stride", stride)
        self.dilation = self._each("dilation", dilation)
        self.weight = pairs(*weight_channels, *self.kernel_size, device=device, dtype=dtype)
        self.register_parameter("bias", pairs(out_channels, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values, with the variance of torch's own layers."""
        fan_in = self.weight.shape[1] * math.prod(self.kernel_size)
        reset_uniform(fan_in, self.weight, self.bias)

    def _each(self, name: str, size: Size) -> tuple[int, ...]:
        """One size for each spatial axis."""
        sizes = (size,) * self.spatial if isinstance(size, int) else tuple(size)
        if len(sizes) != self.spatial:
            raise NetworkError(f"{type(self).__name__}: {name} is {size!r}; give a number or {self.spatial} of them")
        return sizes

    def _parameters_seen(self) -> tuple[Tensor, Tensor | None]:
        return as_complex(self.weight), None if self.bias is None else as_complex(self.bias)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ones = (1,) * self.spatial
        text += f", dilation={self.dilation}" if self.dilation != ones else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        return text + ("" if self.bias is not None else ", bias=False")


class _ComplexConv(_Convolution):
    """Complex convolution; see :class:`ComplexConv2d`."""

    form: ClassVar[Callable[..., Tensor]]

    def __init__(  # noqa: PLR0917 - torch's signature
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            weight_channels=(out_channels, in_channels // max(groups, 1)),
            stride=stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        if padding_mode not in PADDING_MODES:
            raise NetworkError(f"{type(self).__name__}: padding_mode={padding_mode!r}; choose one of {PADDING_MODES}")
        if isinstance(padding, str):
            if padding not in {"same", "valid"}:
                raise NetworkError(f"{type(self).__name__}: padding={padding!r}; choose a number, 'same' or 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise NetworkError(f"{type(self).__name__}: padding='same' needs a stride of 1, not {self.stride}")
        self.padding = padding if isinstance(padding, str) else self._each("padding", padding)
        self.padding_mode = padding_mode

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(N, in, *spatial)`` or ``(in, *spatial)`` to the same with ``out`` channels.

        :raises NetworkError: for an input that is not complex, not of the weight's precision, or of another shape.
        """
        check_complex(self, input, self.weight)
        check_channels(self, input, self.spatial, self.in_channels)
        weight, bias = self._parameters_seen()
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._border(), mode=self.padding_mode), 0
        return type(self).form(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _border(self) -> list[int]:
        """Padding of each side, last axis first, as ``F.pad`` takes it."""
        border: list[int] = []
        for axis in reversed(range(self.spatial)):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1) if self.padding == "same" else 0
                border += [total // 2, total - total // 2]
            else:
                border += [self.padding[axis]] * 2
        return border

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        padded = self.padding not in {"valid", (0,) * self.spatial}
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}"
        return super().extra_repr() + (f", padding={self.padding}" if padded else "") + mode


class _ComplexConvTranspose(_Convolution):
    """Complex transposed convolution; see :class:`ComplexConvTranspose2d`."""

    form: ClassVar[Callable[..., Tensor]]

    def __init__(  # noqa: PLR0917 - torch's signature
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            weight_channels=(in_channels, out_channels // max(groups, 1)),
            stride=stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        if padding_mode != "zeros":
            raise NetworkError(f"{type(self).__name__}: padding_mode={padding_mode!r}; only 'zeros' exists")
        self.padding = self._each("padding", padding)
        self.output_padding = self._each("output_padding", output_padding)
        self.padding_mode = padding_mode

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Map ``(N, in, *spatial)`` or ``(in, *spatial)`` to the same with ``out`` channels.

        :param input: complex tensor.
        :param output_size: spatial shape of the output, where the stride leaves a choice.
        :raises NetworkError: for an input that is not complex, not of the weight's precision, or of another shape, or
            an output size out of reach.
        """
        check_complex(self, input, self.weight)
        check_channels(self, input, self.spatial, self.in_channels)
        weight, bias = self._parameters_seen()
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return type(self).form(input, weight, bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """Output padding that gives an output of this size."""
        wanted = tuple(output_size)[-self.spatial :]
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-self.spatial :], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        extra = tuple(w - n for w, n in zip(wanted, least, strict=False))
        room = [max(s, d) - 1 for s, d in zip(self.stride, self.dilation, strict=True)]
        if len(extra) != self.spatial or any(not 0 <= e <= r for e, r in zip(extra, room, strict=True)):
            most = [n + r for n, r in zip(least, room, strict=True)]
            raise NetworkError(
                f"{type(self).__name__}: output_size {tuple(output_size)} is out of reach: between {tuple(least)} and "
                f"{tuple(most)}"
            )
        return extra

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        none = (0,) * self.spatial
        text = f", padding={self.padding}" if self.padding != none else ""
        text += f", output_padding={self.output_padding}" if self.output_padding != none else ""
        return super().extra_repr() + text


class ComplexConv1d(_ComplexConv):
    """Complex convolution over ``(N, in, L)``; ``weight`` (out, in/groups, k, 2). Else as :class:`ComplexConv2d`."""

    spatial, form = 1, forms.conv1d


class ComplexConv2d(_ComplexConv):
    r"""Complex convolution over ``(N, in, H, W)``, complex tensors in and out, no conjugation.

    .. math:: y_o = b_o + \sum_c W_{oc} \star x_c, \qquad
        W \star x = (A \star u - B \star v) + i (A \star v + B \star u), \quad W = A + iB, \; x = u + iv

    where :math:`\star` is torch's convolution (Trabelsi et al., *Deep Complex Networks*, 2018, section 3.2).
    ``weight`` has shape (out, in/groups, k, k, 2) and ``bias`` (out, 2): real pairs. The signature is that of
    ``torch.nn.Conv2d``, and so is the variance of the initial values.

    :raises NetworkError: if groups do not divide the channels, or a size has the wrong number of axes.
    """

    spatial, form = 2, forms.conv2d


class ComplexConv3d(_ComplexConv):
    """Complex convolution over ``(N, in, D, H, W)``; ``weight`` (out, in/groups, k, k, k, 2).

    Else as :class:`ComplexConv2d`.
    """

    spatial, form = 3, forms.conv3d


class ComplexConvTranspose1d(_ComplexConvTranspose):
    """Complex transposed convolution over ``(N, in, L)``; ``weight`` (in, out/groups, k, 2).

    Else as :class:`ComplexConvTranspose2d`.
    """

    spatial, form = 1, forms.conv_transpose1d


class ComplexConvTranspose2d(_ComplexConvTranspose):
    r"""Complex transposed convolution over ``(N, in, H, W)``, complex tensors in and out, no conjugation.

    The transpose (not the adjoint) of :class:`ComplexConv2d` as a map: with :math:`\star` for torch's transposed
    convolution, :math:`y = (A \star u - B \star v) + i (A \star v + B \star u) + b` for :math:`W = A + iB, x = u + iv`.
    ``weight`` has shape (in, out/groups, k, k, 2): as in torch the inputs come first. ``bias`` has shape (out, 2).
    The signature is that of ``torch.nn.ConvTranspose2d``.

    :raises NetworkError: if groups do not divide the channels, or a size has the wrong number of axes.
    """

    spatial, form = 2, forms.conv_transpose2d


class ComplexConvTranspose3d(_ComplexConvTranspose):
    """Complex transposed convolution over ``(N, in, D, H, W)``; ``weight`` (in, out/groups, k, k, k, 2).

    Else as :class:`ComplexConvTranspose2d`.
    """

    spatial, form = 3, forms.conv_transpose3d
