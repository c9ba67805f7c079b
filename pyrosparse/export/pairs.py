"""Complex networks in real arithmetic: every complex tensor becomes its real and its imaginary part.

For formats that know no complex numbers. Each module of :mod:`pyrosparse.nn` has its form here, once; the operations
between them are followed by ``torch.fx``.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import pyrosparse.nn as psnn
from pyrosparse.errors import ExportError
from pyrosparse.export.pair import ATTRIBUTES, EACH, FUNCTIONS, MAKERS, METHODS, Pair
from pyrosparse.nn.complex_norm import inverse_root
from pyrosparse.pairs import numbers_of
from pyrosparse.pruning.tracing import follow

__all__ = ["RealPairs", "is_complex_network"]


Form = Callable[..., Any]


class RealPairs(nn.Module):
    """A complex network that takes and gives real tensors; complex ones become pairs, with a last axis of two.

    :param network: made of modules of torch and of :mod:`pyrosparse.nn`; it is used as it is, in evaluation mode.
    :param complex_input: whether the network takes complex tensors; then this one takes pairs ``(B, …, 2)``.
    :raises ExportError: if ``torch.fx`` cannot follow the network. A module without a real form is named when it is
        run.
    """

    def __init__(self, network: nn.Module, *, complex_input: bool) -> None:
        super().__init__()
        try:
            self.graph = follow(network)
        except Exception as error:  # a user's forward may raise anything under tracing
            raise ExportError(f"the network cannot be followed, and it has complex layers: {error}") from error
        self.complex_input = complex_input

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        start: Any = Pair(x[..., 0], x[..., 1]) if self.complex_input else x
        out: Any = _Run(self.graph).run(start, enable_io_processing=False)
        return torch.stack(list(out), -1) if isinstance(out, Pair) else out


def is_complex_network(network: nn.Module) -> bool:
    """Whether some module of a network works on complex tensors."""
    return any(isinstance(module, tuple(_FORMS)) for module in network.modules())


class _Run(fx.Interpreter):
    """Runs a graph with pairs in the place of complex tensors."""

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = super().get_attr(target, args, kwargs)
        if not (isinstance(value, Tensor) and value.is_complex()):
            return value
        numbers = value.detach().cpu().numpy()  # a trace would hold the complex tensor that the parts are taken from
        return Pair(*(torch.from_numpy(part.copy()).to(value.device) for part in (numbers.real, numbers.imag)))

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        given = inspect.signature(module.forward).bind(*args, **kwargs)  # as the module's own forward would take them
        args, kwargs = given.args, given.kwargs
        form = next((form for kind, form in _FORMS.items() if isinstance(module, kind)), None)
        if form is not None:
            return form(module, *args, **kwargs)
        if not any(isinstance(z, Pair) for z in (*args, *kwargs.values())):
            return super().call_module(target, args, kwargs)
        if isinstance(module, nn.Flatten | nn.Unflatten | nn.Identity | nn.Dropout):
            return args[0].each(module)
        raise ExportError(f"{target} ({type(module).__name__}) has no form in real arithmetic")

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in MAKERS and not kwargs:
            return MAKERS[target](*args)
        listed = args[0] if args and isinstance(args[0], list | tuple) else ()
        if not any(isinstance(z, Pair | complex) for z in (*args, *listed)):
            return super().call_function(target, args, kwargs)
        if target is operator.getitem and not isinstance(args[0], Pair):
            return super().call_function(target, args, kwargs)  # one of a list
        if target in FUNCTIONS and kwargs.keys() <= {"dim"}:
            return FUNCTIONS[target](*args, **kwargs)
        first, *rest = args
        if target in EACH:
            return first.each(lambda x: target(x, *rest, **kwargs))
        if target is getattr and rest[0] in ATTRIBUTES:
            return ATTRIBUTES[rest[0]](first)
        raise ExportError(f"{getattr(target, '__name__', target)} of complex tensors has no form in real arithmetic")

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pair, *rest = args
        if not any(isinstance(z, Pair) for z in args):
            return super().call_method(target, args, kwargs)
        if target in METHODS and not kwargs:
            return METHODS[target](*args)
        if target in EACH:
            return pair.each(lambda x: getattr(x, target)(*rest, **kwargs))
        if target in {"size", "dim"}:
            return getattr(pair.re, target)(*rest, **kwargs)
        raise ExportError(f"{target} of complex tensors has no form in real arithmetic")


def _product(module: Any, z: Pair, operation: Callable[[Tensor, Tensor, Tensor | None], Tensor]) -> Pair:
    """Four real products: ``(a + ib)(x + iy)``."""
    a, b = module.weight[..., 0], module.weight[..., 1]
    re, im = (None, None) if module.bias is None else (module.bias[..., 0], module.bias[..., 1])
    return Pair(
        operation(z.re, a, re) - operation(z.im, b, None),
        operation(z.re, b, im) + operation(z.im, a, None),
    )


def _linear(module: psnn.ComplexLinear, z: Pair) -> Pair:
    if isinstance(module, psnn.Selecting):
        z = z.each(lambda x: x.index_select(-1, module.index))
    return _product(module, z, _affine)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # without a bias it would become another operator, for which the weight is stored once more, transposed
    return F.linear(x, weight, torch.zeros(len(weight), dtype=x.dtype, device=x.device) if bias is None else bias)


def _bilinear(module: psnn.ComplexBilinear, first: Pair, second: Pair) -> Pair:
    def outer(a: Tensor, b: Tensor) -> Tensor:
        return (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2)

    products = Pair(
        outer(first.re, second.re) - outer(first.im, second.im), outer(first.re, second.im) + outer(first.im, second.re)
    )
    return _product(module, products, lambda x, w, b: _affine(x, w.flatten(1), b))


def _convolution(spatial: int) -> Form:
    operation = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]

    def form(module: Any, z: Pair) -> Pair:
        padding: Any = module.padding
        if module.padding_mode != "zeros":
            z, padding = z.each(lambda x: F.pad(x, module._border(), mode=module.padding_mode)), 0
        return _product(
            module, z, lambda x, w, b: operation(x, w, b, module.stride, padding, module.dilation, module.groups)
        )

    return form


def _transposed(spatial: int) -> Form:
    operation = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]

    def form(m: Any, z: Pair, output_size: Any = None) -> Pair:
        extra = m.output_padding if output_size is None else tuple(int(e) for e in m._extra(z.re, output_size))
        options = (m.stride, m.padding, extra, m.groups, m.dilation)
        return _product(m, z, lambda x, w, b: operation(x, w, b, *options))

    return form


def _norm(module: Any, z: Pair) -> Pair:
    """One real matrix for each feature: Γ (V + ε)^(-1/2)."""
    if module.running_mean is None or module.running_covariance is None:
        raise ExportError("a complex normalisation without running statistics has no fixed form")
    matrix = inverse_root(module.running_covariance, module.eps)
    matrix = matrix if module.weight is None else module.weight @ matrix
    shape = (-1, *[1] * (z.re.dim() - 2))
    mean, bias = module.running_mean, module.bias
    x, y = z.re - mean[:, 0].reshape(shape), z.im - mean[:, 1].reshape(shape)
    parts = []
    for i in (0, 1):
        part = matrix[:, i, 0].reshape(shape) * x + matrix[:, i, 1].reshape(shape) * y
        parts.append(part if bias is None else part + bias[:, i].reshape(shape))
    return Pair(*parts)


def _zrelu(module: nn.Module, z: Pair) -> Pair:
    return z.times(((z.re > 0) & (z.im > 0)).to(z.re.dtype))


def _cardioid(module: nn.Module, z: Pair) -> Pair:
    return z.times(0.5 * (1.0 + z.direction.re))


def _modrelu(module: psnn.ModReLU, z: Pair) -> Pair:
    b = module.bias.reshape(-1, *[1] * max(z.re.dim() - 2, 0))
    return z.direction.times(torch.relu(z.modulus + b))


def _average(kind: type[nn.Module]) -> Form:
    return lambda module, z: z.each(lambda x: kind.forward(module, x))


def _largest(spatial: int) -> Form:
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[spatial - 1]

    def form(m: Any, z: Pair) -> Pair:
        if m.return_indices:
            raise ExportError("pooling with return_indices has no form in real arithmetic")
        square = z.re * z.re + z.im * z.im
        _, where = pool(square, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, return_indices=True)
        first = z.re.dim() - spatial
        return z.each(lambda x: x.flatten(first).gather(-1, where.flatten(first)).reshape(where.shape))

    return form


def _cast(module: psnn.ToComplex, x: Tensor | Pair) -> Pair:
    if isinstance(x, Pair):
        return x
    if module.layout is psnn.ComplexLayout.REAL:
        return Pair(x, _paired(x)[..., 1])
    if module.layout is psnn.ComplexLayout.CONCATENATED:
        return Pair(*x.chunk(2, module.dim))
    dim = module.dim % x.dim()
    parts = x.unflatten(dim, (-1, 2))
    return Pair(parts.select(dim + 1, 0), parts.select(dim + 1, 1))


def _phase(module: psnn.PhaseShift, z: Pair) -> Pair:
    c, s = module.phase.cos(), module.phase.sin()
    return Pair(c * z.re - s * z.im, s * z.re + c * z.im)


def _paired(x: Tensor) -> Tensor:
    """``(x, 0)``; zeros of a shape would be those of the example, for one size of a batch."""
    return F.pad(x.unsqueeze(-1), (0, 1))


class _Transform(torch.autograd.Function):
    """Discrete Fourier transform of pairs (..., 2) along one axis; in a file, ONNX's own operator."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, axis: int) -> Tensor:
        return torch.view_as_real(torch.fft.fft(numbers_of(pairs), dim=axis))

    @staticmethod
    def symbolic(g: Any, pairs: Any, axis: int) -> Any:
        return g.op("DFT", pairs, axis_i=axis).setType(pairs.type())


def _fourier(module: psnn.FourierFeatures2d, x: Tensor | Pair) -> Pair:
    pairs, scale = torch.stack(list(x), -1) if isinstance(x, Pair) else _paired(x), 1.0
    for axis in (pairs.dim() - 2, pairs.dim() - 3):
        n = int(pairs.shape[axis])
        scale *= {"ortho": n**-0.5, "forward": 1.0 / n, "backward": 1.0}[module.norm]
        if n > 1:
            pairs = _Transform.apply(pairs, axis)
            pairs = torch.roll(pairs, n // 2, axis) if module.shift else pairs
    return Pair(scale * pairs[..., 0], scale * pairs[..., 1])


def _short_time(module: psnn.ShortTimeFourier, x: Tensor | Pair) -> Pair:
    """A convolution with windowed waves ``exp(-2πi jk/n)``."""
    if isinstance(x, Pair):
        raise ExportError("the short-time Fourier transform of complex signals has no form in real arithmetic")
    n, onesided = module.n_fft, module.onesided is not False
    left = (n - module.win_length) // 2
    # made by NumPy: a trace holds numbers of its own, and a convolution's kernel must be some
    window = np.pad(module.window.detach().cpu().double().numpy(), (left, n - module.win_length - left))
    angle = 2.0 * math.pi / n * (np.outer(np.arange(n // 2 + 1 if onesided else n), np.arange(n)) % n)
    scale = n**-0.5 if module.normalized else 1.0
    signal = x.reshape(-1, 1, x.shape[-1])
    if module.center:
        signal = F.pad(signal, (n // 2, n // 2), mode=module.pad_mode)
    parts = []
    for wave in (np.cos(angle), -np.sin(angle)):
        kernel = torch.from_numpy(scale * window * wave).to(x)[:, None]
        frames = F.conv1d(signal, kernel.detach().clone(), stride=module.hop_length)
        parts.append(frames.reshape(*x.shape[:-1], *frames.shape[-2:]))
    return Pair(*parts)


_FORMS: dict[type[nn.Module], Form] = {
    psnn.ComplexLinear: _linear,
    psnn.ComplexBilinear: _bilinear,
    psnn.ComplexConv1d: _convolution(1),
    psnn.ComplexConv2d: _convolution(2),
    psnn.ComplexConv3d: _convolution(3),
    psnn.ComplexConvTranspose1d: _transposed(1),
    psnn.ComplexConvTranspose2d: _transposed(2),
    psnn.ComplexConvTranspose3d: _transposed(3),
    **dict.fromkeys((psnn.ComplexBatchNorm1d, psnn.ComplexBatchNorm2d, psnn.ComplexBatchNorm3d), _norm),
    psnn.CReLU: lambda module, z: z.each(torch.relu),
    psnn.ZReLU: _zrelu,
    psnn.Cardioid: _cardioid,
    psnn.ModReLU: _modrelu,
    psnn.ComplexAvgPool1d: _average(nn.AvgPool1d),
    psnn.ComplexAvgPool2d: _average(nn.AvgPool2d),
    psnn.ComplexAvgPool3d: _average(nn.AvgPool3d),
    psnn.ModulusMaxPool1d: _largest(1),
    psnn.ModulusMaxPool2d: _largest(2),
    psnn.ModulusMaxPool3d: _largest(3),
    **dict.fromkeys(
        (psnn.ComplexDropout, psnn.ComplexDropout1d, psnn.ComplexDropout2d, psnn.ComplexDropout3d), lambda module, z: z
    ),
    psnn.ToComplex: _cast,
    psnn.ToReal: lambda module, z: module.parts(*z),
    psnn.RealPart: lambda module, z: z.re,
    psnn.ImaginaryPart: lambda module, z: z.im,
    psnn.Modulus: lambda module, z: z.modulus,
    psnn.PhaseShift: _phase,
    psnn.FourierFeatures2d: _fourier,
    psnn.ShortTimeFourier: _short_time,
}
