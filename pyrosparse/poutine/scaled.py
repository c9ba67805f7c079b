"""Group scales that have not been drawn yet, and weights that are multiplied by them: w = z · w̃."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyrosparse.nn.complex_forms import as_complex
from pyrosparse.poutine.dispatch import METADATA, layer_arguments
from pyrosparse.poutine.share import drawn_rows
from pyrosparse.poutine.undrawn import PRODUCTS, TRANSPOSES, Undrawn

__all__ = ["Scaled", "UndrawnScale", "scaled"]

Sampler = Callable[[torch.Size], Tensor]
Moments = tuple[Tensor, Tensor]


class UndrawnScale(torch.Tensor):
    r"""Group scales :math:`z` of which every example of a batch will get a draw of its own.

    Made by :class:`pyrosparse.poutine.local_reparam` at sites that say ``infer={"per_example": True}``. Handed to
    :func:`scaled` it makes a weight whose linear operations draw the scales for each example. Log-normal ones stay
    undrawn under ``*``, ``prod(-1)`` and ``sqrt``: :math:`\log z` is Gaussian, and its moments add. Every other
    operation gets one real draw, the same for the life of the object.

    :param sampler: gives a draw, called with a sample shape.
    :param like: any tensor of the shape of one draw.
    :param log_moments: mean and variance of :math:`\log z` where it is Gaussian.
    """

    log_moments: Moments | None
    _sampler: Sampler
    _drawn: Tensor | None
    _of_examples: Tensor | None
    _shares: bool

    @staticmethod
    def __new__(cls, sampler: Sampler, like: Tensor, log_moments: Moments | None = None) -> UndrawnScale:  # noqa: D102
        self = torch.Tensor._make_subclass(cls, like.detach())
        self.log_moments = log_moments
        self._sampler = sampler
        self._drawn = None
        self._of_examples = None
        self._shares = False  # whether a factor of several scales is one draw for all of them
        return self

    def __init__(self, sampler: Sampler, like: Tensor, log_moments: Moments | None = None) -> None:
        pass  # everything happens in __new__, as torch's tensor subclasses do it

    @staticmethod
    def log_normal(mean: Tensor, variance: Tensor) -> UndrawnScale:
        """Scales whose logarithm is N(mean, variance)."""

        def sampler(sample_shape: torch.Size) -> Tensor:
            noise = torch.randn((*sample_shape, *mean.shape), dtype=mean.dtype, device=mean.device)
            return torch.addcmul(mean, variance.sqrt(), noise).exp()

        return UndrawnScale(sampler, mean, (mean, variance))

    def draw(self) -> Tensor:
        """Return the one real draw, made at the first call."""
        if self._drawn is None:
            self._drawn = self._sampler(torch.Size())
        return self._drawn

    def draws(self, batch: int) -> Tensor:
        """One draw for each example, shape ``(batch, *shape)``; the real draw for all of them once there is one.

        A layer that is used again in the same pass gets the same ones.
        """
        if self._drawn is not None:
            return self._drawn.expand(batch, *self._drawn.shape)
        if self._of_examples is None or len(self._of_examples) != batch:
            self._of_examples = drawn_rows(lambda length: self._sampler(torch.Size([length])), batch)
        return self._of_examples

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in _LOG_NORMAL and not kwargs and all(_is_log_normal(a) for a in args if isinstance(a, Tensor)):
            stays = _LOG_NORMAL[func](*args)
            if stays is not None:
                return stays
        return func(*_real(args), **_real(kwargs))


class Scaled(torch.Tensor):
    r"""A weight :math:`w = z \cdot \tilde w` with undrawn scales along one axis; see :func:`scaled`.

    Linear layers, convolutions and products such as ``x @ w.t()`` draw :math:`z` for each example: it multiplies the
    inputs of the layer when the groups are its inputs, and the outputs (before the bias) when they are its units. What
    :math:`\tilde w` is, undrawn or a tensor, decides how the rest is drawn. Every other operation gets ``z · w̃`` with
    real draws.

    :param z: undrawn scales, shape ``(groups,)``.
    :param weight: :math:`\tilde w`.
    :param axis: axis of the weight that the groups lie along.
    """

    z: UndrawnScale
    weight: Tensor
    axis: int

    @staticmethod
    def __new__(cls, z: UndrawnScale, weight: Tensor, axis: int) -> Scaled:  # noqa: D102
        with torch._C.DisableTorchFunctionSubclass():
            self = torch.Tensor._make_subclass(cls, weight.detach().as_subclass(torch.Tensor))
        self.z, self.weight, self.axis = z, weight, axis
        return self

    def __init__(self, z: UndrawnScale, weight: Tensor, axis: int) -> None:
        pass  # everything happens in __new__, as torch's tensor subclasses do it

    def draw(self) -> Tensor:
        """Return the product of real draws."""
        weight = self.weight.draw() if isinstance(self.weight, Undrawn) else self.weight
        return _along(self.z.draw(), self.axis, weight.dim()) * weight

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func is torch.view_as_complex:  # a complex layer sees its pairs as numbers
            pairs = args[0]
            return Scaled(pairs.z, as_complex(pairs.weight), pairs.axis)
        if func in _LAYERS and isinstance(args[1] if len(args) > 1 else kwargs.get("weight"), Scaled):
            return _layer(func, args, kwargs)
        if func in TRANSPOSES and _turns(*args, **kwargs):
            w = args[0]
            return Scaled(w.z, w.weight.t(), 1 - w.axis)
        if func in PRODUCTS or func is Tensor.__rmatmul__:
            x, w = args if func in PRODUCTS else reversed(args)
            if isinstance(w, Scaled) and w.dim() == 2:
                return _layer(F.linear, (x, w.t()), {})
        return func(*_real(args), **_real(kwargs))


def scaled(z: Tensor, weight: Tensor, axis: int | None) -> Tensor:
    r"""Multiply a weight by the scales of its groups, :math:`w = z \cdot \tilde w`.

    :param z: scales, ``(groups,)``; undrawn ones are drawn for each example by the layer that uses the weight.
    :param weight: :math:`\tilde w`, a tensor or an undrawn one.
    :param axis: axis of the weight that the groups lie along; None: a scale for each weight, of its shape.
    """
    if isinstance(z, UndrawnScale) and axis is not None:
        return Scaled(z, weight, axis)
    z = z.draw() if isinstance(z, UndrawnScale) else z
    if axis is not None:
        z = _along(z, axis, weight.dim())
    else:  # one for each number, or for both parts of complex ones
        z = z.reshape(weight.shape) if z.numel() == weight.numel() else z.unsqueeze(-1)
    return weight.times(z) if isinstance(weight, Undrawn) else z * weight


def _along(z: Tensor, axis: int, dims: int) -> Tensor:
    """Shape scales of one axis so that they broadcast with a weight of so many axes."""
    return z.reshape([-1 if i == axis else 1 for i in range(dims)])


def _layer(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """``func(input, weight, bias, …)`` with scales of its inputs or of its outputs, one draw for each example."""
    given, others, rest = layer_arguments(args, kwargs)
    x, w, bias = given["input"], given["weight"], given.get("bias")
    x = x.draw() if isinstance(x, Undrawn | Scaled) else x
    bias = bias.draw() if isinstance(bias, Undrawn | Scaled) else bias
    channels = -1 if func is F.linear else -(w.dim() - 1)
    z = _for_examples(w.z, x, channels)
    on_inputs = w.axis == (0 if func in _TRANSPOSED else 1)
    if on_inputs:
        return func(x * z, w.weight, bias, *others, **rest)
    w_tilde = w.weight
    if isinstance(w_tilde, Undrawn) and (moments := w_tilde.through(func, x, others, rest)) is not None:
        y = w_tilde.noisy(*moments)
    else:
        y = func(x, _real(w_tilde), None, *others, **rest)
    # z times a draw of w̃ ⋆ x is a draw of (z w̃) ⋆ x: one product where scaling mean and variance takes three
    return _plus(y * z, bias, channels)


def _turns(w: Tensor, *axes: int, **named: int) -> bool:
    """Whether a call transposes a matrix of scaled weights: ``t()``, ``.T`` or ``transpose`` with both axes."""
    chosen = {axis % 2 for axis in (*axes, *named.values())}
    return isinstance(w, Scaled) and w.dim() == 2 and chosen in (set(), {0, 1})


def _for_examples(z: UndrawnScale, x: Tensor, channels: int) -> Tensor:
    """Scales shaped to multiply a tensor of activations: examples first, groups at the axis ``channels``."""
    batched = x.dim() > -channels
    draws = z.draws(x.shape[0] if batched else 1)
    middle = [1] * (x.dim() + channels - 1) if batched else []
    shape = [*([len(draws)] if batched else []), *middle, draws.shape[-1], *[1] * (-channels - 1)]
    return draws.reshape(shape)


def _plus(y: Tensor, bias: Tensor | None, channels: int) -> Tensor:
    return y if bias is None else y + bias.reshape(-1, *[1] * (-channels - 1))


def _real(value: Any) -> Any:
    """Replace what is undrawn in nested arguments by its real draw."""
    if isinstance(value, UndrawnScale | Scaled | Undrawn):
        return value.draw()
    if isinstance(value, tuple | list):
        return type(value)(_real(v) for v in value)
    if isinstance(value, dict):
        return {k: _real(v) for k, v in value.items()}
    return value


def _is_log_normal(z: Tensor) -> bool:
    return isinstance(z, UndrawnScale) and z.log_moments is not None and z._drawn is None


def _product(a: Any, b: Any) -> UndrawnScale | None:
    if a is b or not (isinstance(a, UndrawnScale) and isinstance(b, UndrawnScale)):
        return None
    (m, v), (n, u) = a.log_moments, b.log_moments  # type: ignore[misc]
    if m.shape == n.shape and not (a._shares or b._shares):
        return UndrawnScale.log_normal(m + n, v + u)
    # the layer's scale is one draw for all groups of an example: their product has no independent elements
    of_a, of_b = a._sampler, b._sampler
    ahead_a, ahead_b = [1] * (n.dim() - m.dim()), [1] * (m.dim() - n.dim())

    def sampler(sample_shape: torch.Size) -> Tensor:
        first = of_a(sample_shape).reshape(*sample_shape, *ahead_a, *m.shape)
        return first * of_b(sample_shape).reshape(*sample_shape, *ahead_b, *n.shape)

    return _sharing(sampler, (m + n, v + u))


def _product_along(z: UndrawnScale, dim: int, keepdim: bool = False) -> UndrawnScale | None:
    if z._shares:
        return None
    m, v = z.log_moments  # type: ignore[misc]
    return UndrawnScale.log_normal(m.sum(dim, keepdim), v.sum(dim, keepdim))


def _root(z: UndrawnScale) -> UndrawnScale:
    m, v = z.log_moments  # type: ignore[misc]
    if not z._shares:
        return UndrawnScale.log_normal(0.5 * m, 0.25 * v)
    of_z = z._sampler
    return _sharing(lambda sample_shape: of_z(sample_shape).sqrt(), (0.5 * m, 0.25 * v))


def _sharing(sampler: Sampler, log_moments: Moments) -> UndrawnScale:
    z = UndrawnScale(sampler, log_moments[0], log_moments)
    z._shares = True
    return z


_LOG_NORMAL: dict[Any, Callable[..., UndrawnScale | None]] = {
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__), _product),
    **dict.fromkeys((torch.prod, Tensor.prod), _product_along),
    **dict.fromkeys((torch.sqrt, Tensor.sqrt), _root),
}
_TRANSPOSED = {F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
_LAYERS = {F.linear, F.conv1d, F.conv2d, F.conv3d, *_TRANSPOSED}
