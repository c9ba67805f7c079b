"""A Gaussian weight that has not been drawn yet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.poutine.dispatch import METADATA, getter, layer_arguments
from pyrosparse.poutine.share import noise_like

__all__ = [
    "CONJUGATES",
    "LAYERS",
    "PRODUCTS",
    "TRANSPOSES",
    "Handler",
    "Undrawn",
    "add_noise",
    "requires_grad",
    "transpose",
    "widened",
]

Handler = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]
"""Answers ``func(*args, **kwargs)`` without a draw, or gives ``NotImplemented``."""


class _Noise(torch.autograd.Function):
    """``mean + sqrt(variance) · ε`` with one saved tensor instead of autograd's four.

    Where the variance is 0, by rounding also below, there is no noise and no gradient: what the variance depends on is
    0 there as well.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor) -> Tensor:
        std = variance.clamp_min(0.0).sqrt_()
        noise = noise_like(mean)
        out = torch.addcmul(mean, std, noise)
        ctx.save_for_backward(noise.div_(std).mul_(0.5).nan_to_num_(0.0, 0.0, 0.0))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (half_score,) = ctx.saved_tensors
        (grad,) = grad_outputs
        return grad, grad * half_score


def add_noise(mean: Tensor, variance: Tensor) -> Tensor:
    """Draw from N(mean, variance); in float32 under autocast."""
    return _Noise.apply(widened(mean), widened(variance))


def widened(x: Tensor) -> Tensor:
    """What autocast has computed in half precision, in float32; everything else as it is."""
    half = x.dtype in {torch.bfloat16, torch.float16}
    return x.float() if half and torch.is_autocast_enabled(x.device.type) else x


def squared(x: Tensor) -> Tensor:
    """``x * x``, lying in memory as ``x`` does also where it has one channel, which may count as first or last."""
    square = x * x
    one_channel = x.dim() == 4 and x.shape[1] == 1 and x.stride(1) == 1 and square.stride(1) != 1
    return square.as_strided(x.shape, x.stride()) if one_channel else square


class Undrawn(torch.Tensor):
    r"""A weight :math:`w \sim N(\mu, \sigma^2)` that a linear operation turns into a draw of its *output*.

    For a linear operation :math:`y = w \star x + b` the output is Gaussian as well, with mean
    :math:`\mu \star x + b` and variance :math:`\sigma^2 \star x^2`; drawing ``y`` instead of ``w`` gives
    each example and each output position its own noise (local reparameterisation: Kingma, Salimans and
    Welling, "Variational dropout and the local reparameterization trick", 2015). The operations that
    know this are ``F.linear``, ``F.conv1d/2d/3d``, ``F.conv_transpose1d/2d/3d``, ``matmul`` and ``@``; ``t``,
    ``.T``, ``.mT`` and ``transpose`` stay undrawn. Every other operation gets one real draw, the same for
    the whole life of the object and of its transposes, so code that knows nothing of this class stays correct.

    Made by :class:`pyrosparse.poutine.local_reparam`.

    :param mean: :math:`\mu`, any shape.
    :param variance: :math:`\sigma^2`, the shape of ``mean``.
    :param sampler: gives one real draw.
    :param site: name of the sample site, for messages.
    """

    moments: tuple[Tensor, ...]
    site: str
    _sampler: Callable[[], Tensor]
    _drawn: Tensor | None
    _uses: int
    _source: Undrawn | None
    _turn: Callable[[Tensor], Tensor]
    _handlers: ClassVar[Mapping[Any, Handler]]

    @staticmethod
    def __new__(  # noqa: D102
        cls, mean: Tensor, variance: Tensor, sampler: Callable[[], Tensor], site: str
    ) -> Undrawn:
        self = torch.Tensor._make_subclass(cls, mean.detach())
        self._begin((mean, variance), sampler, site)
        return self

    def __init__(self, mean: Tensor, variance: Tensor, sampler: Callable[[], Tensor], site: str) -> None:
        pass  # everything happens in __new__, as torch's tensor subclasses do it

    def _begin(self, moments: tuple[Tensor, ...], sampler: Callable[[], Tensor], site: str) -> None:
        self.moments = moments
        self.site = site
        self._sampler = sampler
        self._drawn = None
        self._uses = 0
        self._source = None  # a transpose shares the draw of the weight it came from
        self._turn = _same

    @property
    def drawn(self) -> bool:
        """Whether there is a real draw already."""
        return (self if self._source is None else self._source)._drawn is not None

    def draw(self) -> Tensor:
        """Return the one real draw of this weight, made at the first call."""
        origin = self if self._source is None else self._source
        if origin._drawn is None:
            origin._drawn = origin._sampler()
        return self._turn(origin._drawn)

    def _use(self) -> tuple[Tensor, ...] | None:
        """Give the moments to a linear operation, or None once a real draw exists."""
        origin = self if self._source is None else self._source
        if origin._drawn is not None:
            return None
        origin._uses += 1
        if origin._uses == 2:
            warnings.warn(
                f"site {self.site!r} is used twice in one pass: under local reparameterisation each use draws "
                "independent noise, although the weight is the same; if the correlation matters, leave it out with "
                f"local_reparam(guide, exclude=[{self.site!r}]) or fit(…, local_reparam=False)",
                PyrosparseWarning,
                stacklevel=2,
            )
        return self.moments

    def through(
        self, func: Callable[..., Tensor], x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, ...] | None:
        """Moments of ``func(x, weight, None, *args, **kwargs)`` for :meth:`noisy`; None once there is a real draw."""
        moments = self._use()
        if moments is None:
            return None
        mean, variance = moments
        return func(x, mean, None, *args, **kwargs), func(squared(x), variance, None, *args, **kwargs)

    def noisy(self, mean: Tensor, *spread: Tensor) -> Tensor:
        """Draw outputs of these moments."""
        return add_noise(mean, *spread)

    def times(self, z: Tensor) -> Undrawn | Tensor:
        """Multiply by a real tensor that broadcasts to the weight's shape: a weight that is still undrawn."""
        if self.drawn:
            return z * self.draw()
        mean, variance = self.moments
        return Undrawn(z * mean, z * z * variance, lambda: z * self.draw(), self.site)

    def _turned(self, turn: Callable[[Tensor], Tensor]) -> Undrawn | Tensor:
        if self.drawn:
            return turn(self.draw())
        return self.derive(self._with(*map(turn, self.moments)), turn)

    def _with(self, *moments: Tensor) -> Undrawn:
        """Another weight of this kind, of the same site."""
        return Undrawn(*moments, sampler=self._sampler, site=self.site)  # type: ignore[misc, arg-type]

    def derive(self, other: Undrawn, turn: Callable[[Tensor], Tensor]) -> Undrawn:
        """Let ``other`` share the draw of this weight, seen through ``turn``."""
        before = self._turn
        other._source = self if self._source is None else self._source
        other._turn = lambda drawn: turn(before(drawn))
        return other

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
        handler = cls._handlers.get(func)
        if handler is not None:
            result = handler(func, args, kwargs)
            if result is not NotImplemented:
                return result
        return func(*_drawn(args), **_drawn(kwargs))


def _same(value: Tensor) -> Tensor:
    return value


def _drawn(value: Any) -> Any:
    """Replace every undrawn weight in nested arguments by its real draw."""
    if isinstance(value, Undrawn):
        return value.draw()
    if isinstance(value, tuple | list):
        return type(value)(_drawn(v) for v in value)
    if isinstance(value, dict):
        return {k: _drawn(v) for k, v in value.items()}
    return value


def _split_bias(bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Mean and variance of a bias that is a parameter, an undrawn weight, or absent."""
    if isinstance(bias, Undrawn):
        moments = bias._use()
        return (moments[0], moments[1]) if moments is not None else (bias.draw(), None)
    return bias, None


def _layer(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``func(input, weight, bias, …)`` for linear layers and convolutions."""
    given, others, rest = layer_arguments(args, kwargs)
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    if isinstance(x, Undrawn):
        x = x.draw()
    lazy = weight._use() if isinstance(weight, Undrawn) else None
    bias_mean, bias_variance = _split_bias(bias)
    if lazy is None:
        weight = weight.draw() if isinstance(weight, Undrawn) else weight
        mean = func(x, weight, bias_mean, *others, **rest)
        if bias_variance is None:
            return mean
        variance = func(torch.zeros_like(x), torch.zeros_like(weight), bias_variance, *others, **rest)
    else:
        mu, sigma2 = lazy
        mean = func(x, mu, bias_mean, *others, **rest)
        variance = func(squared(x), sigma2, bias_variance, *others, **rest)
    return add_noise(mean, variance)


def _matmul(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``a @ b`` where one side is undrawn (two undrawn factors: the left one is drawn)."""
    if kwargs or len(args) != 2:
        return NotImplemented
    a, b = args
    if isinstance(a, Undrawn) and isinstance(b, Undrawn):
        a = a.draw()
    lazy = a._use() if isinstance(a, Undrawn) else b._use()
    if lazy is None:
        return NotImplemented
    mu, sigma2 = lazy
    if isinstance(a, Undrawn):
        return add_noise(torch.matmul(mu, b), torch.matmul(sigma2, b * b))
    return add_noise(torch.matmul(a, mu), torch.matmul(a * a, sigma2))


def _reflected_matmul(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    right, left = args
    return _matmul(func, (left, right), kwargs)


def transpose(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Transpose the moments, so that the weight stays undrawn."""
    if not args or not isinstance(args[0], Undrawn):
        return NotImplemented
    return args[0]._turned(lambda w: func(w, *args[1:], **kwargs))


def requires_grad(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a gradient will reach the moments: the placeholder itself has none."""
    return any(moment.requires_grad for moment in args[0].moments)


LAYERS = (
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
)  # fmt: skip
PRODUCTS = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)
TRANSPOSES = (torch.t, torch.transpose, Tensor.t, Tensor.transpose, getter("T"), getter("mT"))
# of a conjugate weight, mean and relation are conjugate, and the variance is the same
CONJUGATES = (
    torch.conj, Tensor.conj, torch.conj_physical, Tensor.conj_physical, torch.resolve_conj, Tensor.resolve_conj,
    torch.adjoint, Tensor.adjoint, getter("H"), getter("mH"),
)  # fmt: skip

Undrawn._handlers = {
    getter("requires_grad"): requires_grad,
    **dict.fromkeys(LAYERS, _layer),
    **dict.fromkeys(PRODUCTS, _matmul),
    Tensor.__rmatmul__: _reflected_matmul,
    **dict.fromkeys((*TRANSPOSES, *CONJUGATES), transpose),
}
