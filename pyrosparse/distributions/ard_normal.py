"""The automatic-relevance-determination prior: a zero-mean Gaussian with a precision for each weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal, constraints, register_kl

from pyrosparse.distributions.dropout_normal import DropoutNormal
from pyrosparse.distributions.kl import EPSILON, ard, common_shape, gaussian_kl, weight_kl
from pyrosparse.distributions.log_uniform import draw_log_uniform
from pyrosparse.distributions.precision import PrecisionPrior

__all__ = ["ARDNormal"]


class ARDNormal(PrecisionPrior):
    r"""Prior :math:`w \sim N(0, 1/\tau)`, with :math:`\tau` given, learned, or set by empirical Bayes.

    Kharitonov, Molchanov & Vetrov (2018).

    ``precision=None`` is empirical Bayes: each weight has its own precision, put at the value that minimises
    the KL, ``tau* = 1/(mu^2 + sigma^2)``, so that ``KL = log(1 + 1/alpha)/2``. Such a prior has no fixed
    density. ``log_prob(w)`` is the density at the precision that is best for w itself, ``tau*(w) = 1/w^2``:
    ``-log|w| - log(2 pi e)/2`` (1e-16 added to w^2), the log-uniform density up to a constant; and ``sample``
    is the **surrogate** of :class:`LogUniform` (log|w| uniform on [-20, 0], random sign).

    Parameters
    ----------
    precision
        tau > 0: None, a number, or a tensor that broadcasts with the weights; gradients reach it.
    dtype, device
        Of the surrogate draws when ``precision`` is None, and of a precision given as a number.
    """

    support = constraints.real
    surrogate = staticmethod(draw_log_uniform)

    @property
    def mean(self) -> Tensor:
        """Zeros."""
        return torch.zeros_like(self._given())

    @property
    def variance(self) -> Tensor:
        """``1/tau``."""
        return self._given().reciprocal()

    def entropy(self) -> Tensor:
        """``log(2 pi e / tau)/2`` nats."""
        return 0.5 * (math.log(2 * math.pi * math.e) - self._given().log())

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw with gradients to the precision."""
        tau = self._given()
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.randn(shape, dtype=tau.dtype, device=tau.device) * tau.rsqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density; without a precision, that at the best precision for each value (see the class)."""
        if self._validate_args:
            self._validate_sample(value)
        if self.precision is None:
            shape = torch.broadcast_shapes(value.shape, self.batch_shape)
            return (-0.5 * ((value.square() + EPSILON).log() + math.log(2 * math.pi * math.e))).expand(shape)
        return 0.5 * (self.precision.log() - self.precision * value.square() - math.log(2 * math.pi))


def _kl(q: DropoutNormal, p: ARDNormal) -> Tensor:
    shape = common_shape(q.batch_shape, p.batch_shape)
    if p.precision is None:
        return weight_kl(q.loc, q.log_var, ard, variance=q.known_variance, keep=q.keep).expand(shape)
    q = q if q.batch_shape == shape else q.expand(shape)
    return gaussian_kl(q.loc, q.log_var, p.precision, variance=q.known_variance, keep=q.keep)


@register_kl(DropoutNormal, ARDNormal)
def _dropout_normal(q: DropoutNormal, p: ARDNormal) -> Tensor:
    return _kl(q, p)


@register_kl(Normal, ARDNormal)
def _normal(q: Normal, p: ARDNormal) -> Tensor:
    return _kl(DropoutNormal(q.loc, 2.0 * q.scale.log(), validate_args=False), p)
