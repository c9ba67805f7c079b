"""A complex Gaussian weight that has not been drawn yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyrosparse.nn.complex_forms import FORMS, as_complex
from pyrosparse.pairs import squared_modulus
from pyrosparse.poutine.dispatch import getter, layer_arguments
from pyrosparse.poutine.share import noise_like
from pyrosparse.poutine.undrawn import (
    CONJUGATES,
    LAYERS,
    PRODUCTS,
    TRANSPOSES,
    Undrawn,
    requires_grad,
    transpose,
    widened,
)

__all__ = ["UndrawnComplex", "UndrawnPairs"]


class _CircularNoise(torch.autograd.Function):
    """``mean + sqrt(variance) · ε`` with ε ~ CN(0, 1), that is (ε₁ + iε₂)/√2, drawn in one call.

    Where the variance is 0 there is no noise and no gradient.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor) -> Tensor:
        std = variance.clamp_min(0.0).sqrt_()
        noise = noise_like(mean)
        out = torch.mul(noise, std).add_(mean)
        ctx.save_for_backward(noise.mul_(std.mul_(2.0).reciprocal_().nan_to_num_(0.0, 0.0)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (half_score,) = ctx.saved_tensors
        (grad,) = grad_outputs
        parts = torch.view_as_real(grad.resolve_conj()) * torch.view_as_real(half_score)
        return grad, parts[..., 0] + parts[..., 1]


class _SquaredModulus(torch.autograd.Function):
    """``|x|² = re² + im²``, whose gradient is 2x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return squared_modulus(torch.view_as_real(x.resolve_conj()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x * (2.0 * grad_outputs[0])


def _noisy(mean: Tensor, variance: Tensor, relation: Tensor | None) -> Tensor:
    r"""Draw from :math:`CN(m, V, V\xi)` with the symmetric square root of its covariance.

    :math:`m + \sqrt V (p\varepsilon + q\bar\varepsilon)`, :math:`p^2 = (1 + \sqrt{1 - |\xi|^2})/2`,
    :math:`q = \xi/2p`: unlike Cholesky's factor it has no direction of its own, and is smooth where the real part has
    no variance.
    """
    variance = widened(variance)
    if relation is None:
        return _CircularNoise.apply(mean, variance)
    seen = variance > torch.finfo(variance.dtype).tiny
    whole = torch.where(seen, variance, 1.0)
    xi = relation / whole  # and not by the reciprocal, whose gradient leaves float32 for signals of 1e-12
    rest = (1.0 - _SquaredModulus.apply(xi)).clamp_min(torch.finfo(variance.dtype).eps)
    p = (0.5 + 0.5 * rest.sqrt()).sqrt()
    noise = noise_like(mean)
    return mean + torch.where(seen, whole.sqrt(), 0.0) * (p * noise + xi / (2.0 * p) * noise.conj())


class UndrawnComplex(Undrawn):
    r"""A weight :math:`w \sim CN(\mu, \sigma^2, \sigma^2\xi)` of which a linear operation makes a draw of its *output*.

    The output of :math:`y = w \star x + b` has mean :math:`\mu \star x + b`, total variance
    :math:`\sigma^2 \star |x|^2` and relation :math:`\sigma^2\xi \star x^2` (Nazarov & Burnaev, "Bayesian sparsification
    methods for deep complex-valued networks", 2020). The operations that know this are those of
    :class:`~pyrosparse.poutine.undrawn.Undrawn` and ``F.bilinear``; conjugates stay undrawn as transposes do;
    everything else gets one real draw.

    :param mean: :math:`\mu`, complex.
    :param variance: :math:`\sigma^2`, real, the shape of ``mean``.
    :param relation: :math:`\sigma^2\xi`, complex; without it the weight is circular.
    :param sampler: gives one real draw.
    :param site: name of the sample site, for messages.
    """

    @staticmethod
    def __new__(  # noqa: D102
        cls, mean: Tensor, variance: Tensor, *relation: Tensor, sampler: Callable[[], Tensor], site: str
    ) -> UndrawnComplex:
        self = torch.Tensor._make_subclass(cls, mean.detach())
        self._begin((mean, variance, *relation), sampler, site)
        return self

    def __init__(self, *moments: Tensor, sampler: Callable[[], Tensor], site: str) -> None:
        pass  # everything happens in __new__, as torch's tensor subclasses do it

    def through(  # noqa: D102
        self, func: Callable[..., Tensor], x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, ...] | None:
        moments = self._use()
        if moments is None:
            return None
        mean, variance, *relation = moments
        form = FORMS[func]
        return (
            form(x, mean, None, *args, **kwargs),
            func(_SquaredModulus.apply(x), variance, None, *args, **kwargs),
            *(form(x * x, r, None, *args, **kwargs) for r in relation),
        )

    def noisy(self, mean: Tensor, *spread: Tensor) -> Tensor:  # noqa: D102
        return _noisy(mean, *(*spread, None)[:2])  # type: ignore[arg-type]

    def times(self, z: Tensor) -> Undrawn | Tensor:
        """Multiply by a real tensor that broadcasts to the weight's shape: a weight that is still undrawn."""
        return z * self.draw() if self.drawn else self._multiplied(z, z * z)

    def _multiplied(self, z: Tensor, of_variance: Tensor) -> Undrawn:
        mean, variance, *relation = self.moments
        moments = z * mean, of_variance * variance, *(z * z * r for r in relation)
        return type(self)(*moments, sampler=lambda: z * self.draw(), site=self.site)

    def _with(self, *moments: Tensor) -> Undrawn:
        return type(self)(*moments, sampler=self._sampler, site=self.site)


class UndrawnPairs(UndrawnComplex):
    """An undrawn complex weight as its site has it: real pairs (..., 2).

    ``torch.view_as_complex`` gives the :class:`UndrawnComplex`; every other operation gets one real draw.

    :param mean: pairs (..., 2).
    :param variance: total variance (...).
    :param relation: pairs (..., 2).
    :param sampler: gives one real draw, pairs.
    :param site: name of the sample site, for messages.
    """

    def times(self, z: Tensor) -> Undrawn | Tensor:
        """Multiply by a real tensor that broadcasts to (..., 2): still undrawn if both parts have one factor."""
        if self.drawn or (z.dim() > 0 and z.shape[-1] != 1):
            return z * self.draw()
        return self._multiplied(z, (z * z).squeeze(-1) if z.dim() else z * z)


def _view_as_complex(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    pairs = args[0] if args else kwargs["input"]
    if pairs.drawn:
        return NotImplemented
    mean, variance, *relation = pairs.moments
    moments = as_complex(mean), variance, *map(as_complex, relation)
    return pairs.derive(UndrawnComplex(*moments, sampler=pairs._sampler, site=pairs.site), func)


def _contiguous(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Pairs are contiguous enough: their view as complex numbers sees to it."""
    return NotImplemented if args[0].drawn or kwargs or len(args) > 1 else args[0]


def _moments(weight: Any) -> tuple[Tensor | None, ...]:
    """Mean, variance and relation of a weight or bias that is undrawn, a tensor, or absent; None for what is not."""
    if isinstance(weight, UndrawnComplex):
        lazy = weight._use()
        return (weight.draw(), None, None) if lazy is None else (*lazy, None)[:3]
    return (weight.draw() if isinstance(weight, Undrawn) else weight), None, None


def _layer(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``func(input, weight, bias, …)``; a bilinear layer has two inputs."""
    names = ("input1", "input2", "weight", "bias") if func is F.bilinear else ("input", "weight", "bias")
    given, rest, options = layer_arguments(args, kwargs, names)
    inputs = [x.draw() if isinstance(x, Undrawn) else x for x in (given[n] for n in names[:-2])]
    mu, sigma2, relation = _moments(given["weight"])
    bias_mu, bias_sigma2, bias_relation = _moments(given.get("bias"))
    assert mu is not None
    mean = FORMS[func](*inputs, mu, bias_mu, *rest, **options)

    def spread(
        op: Callable[..., Tensor], square: Any, of_weight: Tensor | None, of_bias: Tensor | None, zero: Tensor
    ) -> Tensor | None:
        """``op`` of second moments; None where neither weight nor bias has them."""
        if of_weight is None and of_bias is None:
            return None
        of_weight = torch.zeros_like(zero) if of_weight is None else of_weight
        return op(*map(square, inputs), of_weight, of_bias, *rest, **options)

    variance = spread(func, _SquaredModulus.apply, sigma2, bias_sigma2, mu.real)
    if variance is None:
        return mean
    return _noisy(mean, variance, spread(FORMS[func], torch.square, relation, bias_relation, mu))


def _matmul(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``a @ b`` where one side is undrawn (two undrawn factors: the left one is drawn)."""
    if kwargs or len(args) != 2:
        return NotImplemented
    a, b = args
    if isinstance(b, UndrawnComplex):
        a = a.draw() if isinstance(a, Undrawn) else a
        return _product(torch.matmul, a, b)
    b = b.draw() if isinstance(b, Undrawn) else b
    return _product(lambda x, w: torch.matmul(w, x), b, a)


def _product(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: UndrawnComplex) -> Any:
    lazy = weight._use()
    if lazy is None:
        return NotImplemented
    mu, sigma2, *relation = lazy
    spread = product(x * x, relation[0]) if relation else None
    return _noisy(product(x, mu), product(_SquaredModulus.apply(x), sigma2), spread)


def _reflected_matmul(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    right, left = args
    return _matmul(func, (left, right), kwargs)


UndrawnComplex._handlers = {
    getter("requires_grad"): requires_grad,
    **dict.fromkeys((*LAYERS, F.bilinear), _layer),
    **dict.fromkeys(PRODUCTS, _matmul),
    Tensor.__rmatmul__: _reflected_matmul,
    **dict.fromkeys((*TRANSPOSES, *CONJUGATES), transpose),
}
UndrawnPairs._handlers = {
    getter("requires_grad"): requires_grad,
    torch.view_as_complex: _view_as_complex,
    Tensor.contiguous: _contiguous,
}
