"""How a complex linear map is computed: for each operation the fastest form there is, chosen here alone.

Signatures are those of ``torch.nn.functional``, with complex tensors. An argument that overrides torch functions (an
undrawn weight) is handed to torch's own function, which asks it; a mode (a default device, ``torch.export``) changes
nothing.

Choice (``benchmarks/complex_forms.py``: one thread, forward and backward, median over shapes, relative to torch's
native complex operation): a linear map by three real products takes 1.8, by one product of real blocks 1.7, so the
native one stays; a convolution by real blocks takes 0.7 to 0.9, by three real convolutions 0.8 to 1.0. Of the three
products that a bilinear map can begin with, the one with the smallest result is the fastest, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.pairs import numbers_of

__all__ = [
    "FORMS",
    "as_complex",
    "bilinear",
    "channels_as_parts",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "linear",
    "on_parts",
    "parts_as_channels",
]

Form = Callable[..., Tensor]
_PLAIN = {Tensor, nn.Parameter, type(None)}


def _answers(*arguments: object) -> bool:
    """Whether one of them answers torch functions itself."""
    own = (getattr(type(x), "__torch_function__", None) for x in arguments if type(x) not in _PLAIN)
    return any(function not in {None, torch._C._disabled_torch_function_impl} for function in own)


def as_complex(pairs: Tensor) -> Tensor:
    """See real pairs (..., 2) as complex numbers (...)."""
    # of what is not drawn yet, it is for the weight itself to say how it is seen
    return torch.view_as_complex(pairs) if _answers(pairs) else numbers_of(pairs)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``, no conjugation; ``(..., in)``, ``(out, in)``, ``(out,)`` to ``(..., out)``."""
    if torch.onnx.is_in_onnx_export():
        return _real_products(input, weight, bias)
    return F.linear(input, weight, bias)


def _real_products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Linear map of real and imaginary parts: ONNX has no complex product."""
    real = F.linear(x.real, weight.real) - F.linear(x.imag, weight.imag)
    imaginary = F.linear(x.real, weight.imag) + F.linear(x.imag, weight.real)
    if bias is not None:
        real, imaginary = real + bias.real, imaginary + bias.imag
    return torch.complex(real, imaginary)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x1^T W_o x2 + b_o``, no conjugation; ``(..., in1)``, ``(..., in2)``, ``(out, in1, in2)`` to ``(..., out)``."""
    if _answers(input1, input2, weight, bias):
        return F.bilinear(input1, input2, weight, bias)
    out, in1, in2 = weight.shape
    if in1 * in2 <= out * min(in1, in2):
        return linear((input1.unsqueeze(-1) * input2.unsqueeze(-2)).flatten(-2), weight.flatten(1), bias)
    if in1 <= in2:
        matrices = linear(input2, weight.flatten(0, 1)).unflatten(-1, (out, in1)) * input1.unsqueeze(-2)
    else:
        matrices = linear(input1, weight.mT.flatten(0, 1)).unflatten(-1, (out, in2)) * input2.unsqueeze(-2)
    return matrices.sum(-1) if bias is None else matrices.sum(-1) + bias


def _pairs_first(conv: Form, spatial: int, block: Callable[[Tensor], Tensor]) -> Form:
    """Real convolution with twice the channels: each is followed by its imaginary part, so that groups stay whole.

    Complex numbers that lie in memory with their channels last are real ones that do, so that nothing is copied on
    the way in and out.
    """

    def product(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **options: Any) -> Tensor:
        if _answers(input, weight, bias):
            return conv(input, weight, bias, *args, **options)
        real_bias = None if bias is None else torch.view_as_real(bias.resolve_conj()).flatten()
        out = conv(parts_as_channels(input, spatial), block(weight), real_bias, *args, **options)
        return channels_as_parts(out, spatial)

    return product


def parts_as_channels(x: Tensor, spatial: int) -> Tensor:
    """Complex ``(N, C, *spatial)`` or ``(C, *spatial)`` to real with 2C channels, parts side by side, channels last."""
    channel = x.dim() - spatial - 1
    last = x.movedim(channel, -1).resolve_conj().contiguous()
    return torch.view_as_real(last).flatten(-2).movedim(-1, channel)


def channels_as_parts(x: Tensor, spatial: int) -> Tensor:
    """Undo :func:`parts_as_channels`."""
    channel = x.dim() - spatial - 1
    last = x.movedim(channel, -1).contiguous().unflatten(-1, (-1, 2))
    return numbers_of(last).movedim(-1, channel)


def on_parts(op: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an elementwise real operation to both parts, in the order in which the numbers lie in memory.

    The backward pass of ``torch.view_as_complex`` would bring gradients into another order first.
    """
    last = x if x.dim() < 3 or x.is_contiguous() else x.movedim(1, -1)  # noqa: PLR2004 - batch, channels, spatial
    out = torch.view_as_complex(op(torch.view_as_real(last.resolve_conj())))
    return out if last is x else out.movedim(-1, 1)


def _block(weight: Tensor) -> Tensor:
    """``[[a, -b], [b, a]]`` for each a + ib: ``(out, in, ...)`` to ``(2 out, 2 in, ...)``."""
    a, b = weight.real, weight.imag
    rows = torch.stack([torch.stack([a, -b], 2), torch.stack([b, a], 2)], 1)
    return rows.flatten(2, 3).flatten(0, 1)


def _transposed_block(weight: Tensor) -> Tensor:
    """``[[a, b], [-b, a]]``: the input channels of a transposed convolution come first."""
    a, b = weight.real, weight.imag
    rows = torch.stack([torch.stack([a, b], 2), torch.stack([-b, a], 2)], 1)
    return rows.flatten(2, 3).flatten(0, 1)


conv1d = _pairs_first(F.conv1d, 1, _block)
conv2d = _pairs_first(F.conv2d, 2, _block)
conv3d = _pairs_first(F.conv3d, 3, _block)
conv_transpose1d = _pairs_first(F.conv_transpose1d, 1, _transposed_block)
conv_transpose2d = _pairs_first(F.conv_transpose2d, 2, _transposed_block)
conv_transpose3d = _pairs_first(F.conv_transpose3d, 3, _transposed_block)

FORMS: Mapping[Form, Form] = {
    F.linear: linear,
    F.bilinear: bilinear,
    F.conv1d: conv1d,
    F.conv2d: conv2d,
    F.conv3d: conv3d,
    F.conv_transpose1d: conv_transpose1d,
    F.conv_transpose2d: conv_transpose2d,
    F.conv_transpose3d: conv_transpose3d,
}
"""Form of each torch function."""
