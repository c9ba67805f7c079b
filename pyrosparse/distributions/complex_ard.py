"""The automatic-relevance-determination prior of complex weights: a circular Gaussian with a precision for each."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from pyrosparse.distributions.complex_kl import complex_ard, complex_weight_kl
from pyrosparse.distributions.complex_log_uniform import draw_complex_log_uniform
from pyrosparse.distributions.complex_normal import ComplexNormal
from pyrosparse.distributions.kl import EPSILON, common_shape
from pyrosparse.distributions.precision import PrecisionPrior
from pyrosparse.pairs import squared_modulus

__all__ = ["ComplexARD"]


class ComplexARD(PrecisionPrior):
    r"""Prior :math:`w \sim CN(0, 1/\tau)` over real pairs (..., 2), tau given, learned, or set by empirical Bayes.

    Nazarov & Burnaev (2020). :math:`1/\tau = E|w|^2` is the total variance; each part has half of it.

    ``precision=None`` is empirical Bayes: each weight has its own precision, put at the value that minimises
    the KL, ``tau* = 1/(|mu|^2 + sigma^2)``, so that ``KL = log(1 + 1/alpha) - log(1 - |xi|^2)/2``. Such a prior has
    no fixed density. ``log_prob(w)`` is the density at the precision that is best for w itself,
    ``tau*(w) = 1/|w|^2``: ``-log|w|^2 - log(pi e)`` (1e-16 added to |w|^2), the log-uniform density up to a constant;
    and ``sample`` is the **surrogate** of :class:`ComplexLogUniform`.

    Parameters
    ----------
    precision
        tau > 0: None, a number, or a tensor that broadcasts with the weights (no axis for the parts); gradients
        reach it.
    dtype, device
        Of the surrogate draws when ``precision`` is None, and of a precision given as a number.
    """

    support = constraints.real_vector
    numbers = torch.Size([2])
    surrogate = staticmethod(draw_complex_log_uniform)

    @property
    def mean(self) -> Tensor:
        """Zeros, as pairs."""
        return torch.zeros_like(self.variance)

    @property
    def variance(self) -> Tensor:
        """``1/(2 tau)`` of each part."""
        return (0.5 / self._given()).unsqueeze(-1).expand(self._extended_shape())

    def entropy(self) -> Tensor:
        """``log(pi e / tau)`` nats."""
        return math.log(math.pi * math.e) - self._given().log()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw pairs with gradients to the precision."""
        tau = self._given()
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.randn(shape, dtype=tau.dtype, device=tau.device) * (2.0 * tau).rsqrt().unsqueeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density over the plane; without a precision, that at the best precision for each value."""
        if self._validate_args:
            self._validate_sample(value)
        square = squared_modulus(value)
        if self.precision is None:
            shape = torch.broadcast_shapes(square.shape, self.batch_shape)
            return (-(square + EPSILON).log() - math.log(math.pi * math.e)).expand(shape)
        return self.precision.log() - self.precision * square - math.log(math.pi)


@register_kl(ComplexNormal, ComplexARD)
def _complex_normal(q: ComplexNormal, p: ComplexARD) -> Tensor:
    shape = common_shape(q.batch_shape, p.batch_shape)
    if p.precision is None:
        value = complex_weight_kl(q.loc, q.log_var, complex_ard, variance=q.known_variance, keep=q.keep)
    else:
        tau = p.precision
        q = q if q.batch_shape == shape else q.expand(shape)
        value = q.kept(tau * (q.sigma2 + squared_modulus(q.loc)) - 1.0 - tau.log() - q.log_var)
    if q.relation is not None:
        value = value - q.kept(0.5 * q.rest.log())
    return value.expand(shape)
