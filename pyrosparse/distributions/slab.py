"""Weights behind a gate: what they are when it is open, and what they cost."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch import Independent
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

from pyrosparse.distributions.kl import common_shape, expanded_shape
from pyrosparse.errors import PriorError

__all__ = ["Point", "Slab", "WeightDecay"]


class Point(TorchDistribution):
    """A weight that is known exactly: every draw is ``value``; log_prob is 0 there and −∞ elsewhere.

    Parameters
    ----------
    value
        The weights.
    """

    arg_constraints = {"value": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(self, value: Tensor, *, validate_args: bool | None = None) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"Point(batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: Point | None = None) -> Point:
        """Return a Point of that batch shape."""
        new = self._get_checked_instance(Point, _instance)
        new.value = self.value.expand(torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape)))
        super(Point, new).__init__(new.value.shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """The weights."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zeros."""
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return the weights."""
        return self.value.expand(self._extended_shape(torch.Size(sample_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return the weights without a gradient."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at the weights, −∞ elsewhere."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value == self.value, 0.0, -torch.inf).to(self.value.dtype)


class WeightDecay(TorchDistribution):
    r"""Gaussian prior of point weights without its constant: :math:`-\log p(w) = \tfrac{\tau}{2} w^2`, 0 at 0.

    What weight decay stands for. The constant is left out, because behind a gate it would count for or against
    opening it. Draws are those of :math:`N(0, 1/\tau)`; for τ = 0 (flat) they are zeros, a **surrogate**.

    Parameters
    ----------
    precision
        :math:`\tau \ge 0`.
    """

    arg_constraints = {"precision": constraints.nonnegative}
    support = constraints.real
    has_rsample = False

    def __init__(self, precision: float | Tensor, *, validate_args: bool | None = None) -> None:
        if not isinstance(precision, Tensor):
            if not (precision >= 0 and math.isfinite(precision)):
                raise PriorError(f"WeightDecay: the precision must be a number of at least 0, not {precision!r}")
            precision = torch.tensor(float(precision))
        self.precision = precision
        super().__init__(precision.shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"WeightDecay(batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: WeightDecay | None = None) -> WeightDecay:
        """Return a WeightDecay of that batch shape."""
        new = self._get_checked_instance(WeightDecay, _instance)
        new.precision = self.precision.expand(expanded_shape(self.batch_shape, batch_shape))
        super(WeightDecay, new).__init__(new.precision.shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw from N(0, 1/τ); zeros where τ is 0."""
        with torch.no_grad():
            noise = torch.randn(self._extended_shape(torch.Size(sample_shape))).to(self.precision)
            return torch.where(self.precision > 0, noise * self.precision.clamp_min(1e-30).rsqrt(), 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """``−τ w²/2``; unnormalised."""
        if self._validate_args:
            self._validate_sample(value)
        return -0.5 * self.precision * value.square()


@register_kl(Point, WeightDecay)
def _decay(q: Point, p: WeightDecay) -> Tensor:
    return 0.5 * p.precision * q.value.square()


class Slab(TorchDistribution):
    r"""Posterior of a weight behind a gate: ``base`` while the gate is open, the prior itself while it is shut.

    .. math:: KL\big(q(w, z) \| p(w, z)\big) = KL\big(q(z)\|p(z)\big) + P_q(z \ne 0)\, KL(\text{base} \| p(w))

    so its KL divergence from any prior is that of ``base`` times the probability that the gate is open.
    Draws and moments are those of ``base``: a shut gate hides the weight anyway.

    Parameters
    ----------
    base
        Posterior of the weight behind an open gate.
    presence
        Probability that the gate is open; broadcasts to the base's batch shape.
    """

    arg_constraints = {"presence": constraints.unit_interval}

    def __init__(self, base: TorchDistribution, presence: Tensor, *, validate_args: bool | None = None) -> None:
        self.base_dist, self.presence = base, presence.expand(base.batch_shape)
        self.gates = presence  # one for each group
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"Slab({self.base_dist!r})"

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> _Slabs:
        """Weights of a layer as one event."""
        ndims = len(self.batch_shape) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return _Slabs(self, ndims)

    @property
    def support(self) -> constraints.Constraint:
        """That of the base."""
        assert self.base_dist.support is not None
        return self.base_dist.support

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """That of the base."""
        return bool(self.base_dist.has_rsample)

    def expand(self, batch_shape: Any, _instance: Slab | None = None) -> Slab:
        """Return a Slab of that batch shape."""
        new = self._get_checked_instance(Slab, _instance)
        new.base_dist = self.base_dist.expand(torch.Size(batch_shape))
        new.presence = new.gates = self.presence.expand(new.base_dist.batch_shape)
        super(Slab, new).__init__(new.base_dist.batch_shape, new.base_dist.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """That of the base."""
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """That of the base."""
        return self.base_dist.variance

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw from the base."""
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the base."""
        return self.base_dist.log_prob(value)


@register_kl(Slab, Distribution)
def _behind_a_gate(q: Slab, p: Distribution) -> Tensor:
    kl = kl_divergence(q.base_dist, p)
    return (q.presence * kl).expand(common_shape(q.batch_shape, p.batch_shape))


class _Slabs(Independent):
    """Several slabs as one event: point weights need no KL divergence for each of them."""


class _Decay(torch.autograd.Function):
    r""":math:`\tfrac{\tau}{2} \sum_g P_g \sum_{w \in g} w^2` in two passes over the weights."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gates: Tensor, precision: Tensor) -> Tensor:
        squares = value.square().sum_to_size(gates.shape)
        ctx.save_for_backward(value, gates, precision, squares)
        return 0.5 * precision * torch.dot(squares.flatten(), gates.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        value, gates, precision, squares = ctx.saved_tensors
        scale = grad_outputs[0] * precision
        return value * (gates * scale), squares * (0.5 * scale), None


@register_kl(_Slabs, torch.distributions.Independent)
def _of_a_layer(q: _Slabs, p: torch.distributions.Independent) -> Tensor:
    slab, prior = q.base_dist, p.base_dist
    if isinstance(slab.base_dist, Point) and isinstance(prior, WeightDecay):
        whole = q.batch_shape == p.batch_shape == () and slab.batch_shape == prior.batch_shape
        # a number that was expanded
        same = all(stride == 0 or n == 1 for stride, n in zip(prior.precision.stride(), prior.batch_shape, strict=True))
        if whole and same and slab.gates.dim() == slab.presence.dim() and slab.presence.numel():
            precision = prior.precision[(0,) * prior.precision.dim()]
            return _Decay.apply(slab.base_dist.value, slab.gates, precision)
    return kl_divergence(Independent(slab, q.reinterpreted_batch_ndims), p)
