"""The automatic-relevance-determination prior of complex weights: a circular Gaussian with a precision for each."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl

from pyrosparse.distributions.complex_kl import complex_ard, complex_weight_kl, squared_modulus
from pyrosparse.distributions.complex_log_uniform import draw_complex_log_uniform
from pyrosparse.distributions.complex_normal import ComplexNormal
from pyrosparse.distributions.kl import EPSILON, common_shape
from pyrosparse.errors import PriorError

__all__ = ["ComplexARD"]


class ComplexARD(TorchDistribution):
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

    def __init__(
        self,
        precision: float | Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if precision is not None and not isinstance(precision, Tensor):
            if not (precision > 0 and math.isfinite(precision)):
                raise PriorError(f"ComplexARD: the precision must be positive and finite, not {precision!r}")
            precision = torch.tensor(float(precision), dtype=dtype, device=device)
        self.precision, self.dtype, self.device = precision, dtype, device
        shape = torch.Size() if precision is None else precision.shape
        super().__init__(shape, torch.Size([2]), validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraint of the precision, where there is one."""
        return {} if self.precision is None else {"precision": constraints.positive}

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients: with a precision they do, surrogate draws do not."""
        return self.precision is not None

    def __repr__(self) -> str:
        tau = self.precision
        given = None if tau is None else tau.item() if tau.numel() == 1 else f"tensor{tuple(tau.shape)}"
        return f"ComplexARD(precision={given}, batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: ComplexARD | None = None) -> ComplexARD:
        """Return a ComplexARD of that batch shape."""
        new = self._get_checked_instance(ComplexARD, _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.precision = None if self.precision is None else self.precision.expand(shape)
        new.dtype, new.device = self.dtype, self.device
        super(ComplexARD, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

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

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw pairs; without a precision, surrogate draws (see the class)."""
        with torch.no_grad():
            if self.precision is not None:
                return self.rsample(sample_shape)
            shape = self._extended_shape(torch.Size(sample_shape))
            return draw_complex_log_uniform(shape, dtype=self.dtype, device=self.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density over the plane; without a precision, that at the best precision for each value."""
        if self._validate_args:
            self._validate_sample(value)
        square = squared_modulus(value)
        if self.precision is None:
            shape = torch.broadcast_shapes(square.shape, self.batch_shape)
            return (-(square + EPSILON).log() - math.log(math.pi * math.e)).expand(shape)
        return self.precision.log() - self.precision * square - math.log(math.pi)

    def _given(self) -> Tensor:
        if self.precision is None:
            raise NotImplementedError("ComplexARD without a precision has no moments: give it a precision")
        return self.precision


@register_kl(ComplexNormal, ComplexARD)
def _complex_normal(q: ComplexNormal, p: ComplexARD) -> Tensor:
    shape = common_shape(q.batch_shape, p.batch_shape)
    if p.precision is None:
        value = complex_weight_kl(q.loc, q.log_var, complex_ard, variance=q.sigma2, keep=q.keep)
    else:
        tau = p.precision
        q = q if q.batch_shape == shape else q.expand(shape)
        value = q.kept(tau * (q.sigma2 + squared_modulus(q.loc)) - 1.0 - tau.log() - q.log_var)
    if q.relation is not None:
        value = value - q.kept(0.5 * q.rest.log())
    return value.expand(shape)
