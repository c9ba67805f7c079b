"""The posterior of a positive scale: log-normal, in terms of mean and log variance of the logarithm."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import InverseGamma
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Gamma, constraints, register_kl
from torch.distributions import InverseGamma as TorchInverseGamma
from torch.distributions import LogNormal as TorchLogNormal
from torch.distributions.utils import broadcast_all

from pyrosparse.distributions.kl import common_shape

__all__ = ["LogNormal", "kl_to_gamma", "kl_to_inverse_gamma", "with_log_var"]

LOG_2_PI_E = math.log(2.0 * math.pi * math.e)


class LogNormal(TorchDistribution):
    r"""Posterior :math:`\log z \sim N(m, v)` of a scale, parametrised by :math:`m` and :math:`\log v`.

    The variational family of the group horseshoe (Louizos, Ullrich & Welling, 2017). Products and powers of
    log-normal scales are log-normal. Where ``keep`` is False the scale is exactly 1: log_prob, entropy,
    variance and every KL are 0 there, and no gradient reaches it.

    Parameters
    ----------
    loc, log_var
        Mean and log variance of :math:`\log z`; they broadcast.
    keep
        Optional bool tensor that broadcasts to the same shape.
    """

    arg_constraints = {"loc": constraints.real, "log_var": constraints.real}
    support = constraints.positive
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        log_var: Tensor | float,
        keep: Tensor | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.log_var = broadcast_all(loc, log_var)
        if keep is not None:
            if keep.dtype != torch.bool:
                raise ValueError(f"LogNormal: keep is {keep.dtype}, not torch.bool; pass keep.bool()")
            keep = keep.expand(self.loc.shape)
        self.keep = keep
        super().__init__(self.loc.shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"LogNormal(batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: LogNormal | None = None) -> LogNormal:
        """Return a LogNormal of that batch shape."""
        new = self._get_checked_instance(LogNormal, _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.loc, new.log_var = self.loc.expand(shape), self.log_var.expand(shape)
        new.keep = None if self.keep is None else self.keep.expand(shape)
        super(LogNormal, new).__init__(shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def log_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the logarithm; 0 and 0 where not kept."""
        return self._kept(self.loc), self._kept(self.log_var.exp())

    @property
    def mean(self) -> Tensor:
        """``exp(m + v/2)``."""
        m, v = self.log_moments
        return torch.exp(m + 0.5 * v)

    @property
    def variance(self) -> Tensor:
        """``(exp(v) - 1) exp(2m + v)``."""
        m, v = self.log_moments
        return torch.expm1(v) * torch.exp(2.0 * m + v)

    @property
    def mode(self) -> Tensor:
        """``exp(m - v)``."""
        m, v = self.log_moments
        return torch.exp(m - v)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw ``exp(m + sqrt(v) * noise)``, exactly 1 where not kept."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self._kept(torch.addcmul(self.loc, torch.exp(0.5 * self.log_var), noise)).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, 0 where not kept."""
        if self._validate_args:
            self._validate_sample(value)
        log_z = value.log()
        scaled = (log_z - self.loc) * torch.exp(-0.5 * self.log_var)
        return self._kept(-0.5 * (scaled.square() + self.log_var + math.log(2 * math.pi)) - log_z)

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function, a step at 1 where not kept."""
        if self._validate_args:
            self._validate_sample(value)
        below = torch.special.ndtr((value.log() - self.loc) * torch.exp(-0.5 * self.log_var))
        return below if self.keep is None else torch.where(self.keep, below, (value >= 1).to(below.dtype))

    def entropy(self) -> Tensor:
        """``m + (log(2 pi e) + log v)/2`` nats, 0 where not kept."""
        return self._kept(self.loc + 0.5 * (self.log_var + LOG_2_PI_E))

    def _kept(self, x: Tensor) -> Tensor:
        return x if self.keep is None else torch.where(self.keep, x, 0.0)


def kl_to_gamma(m: Tensor, log_v: Tensor, concentration: Tensor, rate: Tensor) -> Tensor:
    r"""KL(LN(m, v) ‖ Gamma(a, rate b)) in nats, element by element.

    .. math:: -a m + b e^{m + v/2} + \log\Gamma(a) - a \log b - \tfrac12 \log(2 \pi e v)
    """
    a, b = concentration, rate
    return b * torch.exp(m + 0.5 * log_v.exp()) - a * m + torch.lgamma(a) - a * b.log() - 0.5 * (LOG_2_PI_E + log_v)


def kl_to_inverse_gamma(m: Tensor, log_v: Tensor, concentration: Tensor, rate: Tensor) -> Tensor:
    """KL(LN(m, v) ‖ InverseGamma(a, b)) in nats: that of 1/z ~ LN(−m, v) to Gamma(a, rate b)."""
    return kl_to_gamma(-m, log_v, concentration, rate)


@register_kl(LogNormal, Gamma)
def _gamma(q: LogNormal, p: Gamma) -> Tensor:
    value = kl_to_gamma(q.loc, q.log_var, p.concentration, p.rate)
    return q._kept(value.expand(common_shape(q.batch_shape, p.batch_shape)))


@register_kl(LogNormal, InverseGamma)
@register_kl(LogNormal, TorchInverseGamma)
def _inverse_gamma(q: LogNormal, p: InverseGamma | TorchInverseGamma) -> Tensor:
    value = kl_to_inverse_gamma(q.loc, q.log_var, p.concentration, p.rate)
    return q._kept(value.expand(common_shape(q.batch_shape, p.batch_shape)))


@register_kl(TorchLogNormal, Gamma)
def _torch_gamma(q: TorchLogNormal, p: Gamma) -> Tensor:
    return _gamma(with_log_var(q), p)


@register_kl(TorchLogNormal, InverseGamma)
@register_kl(TorchLogNormal, TorchInverseGamma)
def _torch_inverse_gamma(q: TorchLogNormal, p: InverseGamma | TorchInverseGamma) -> Tensor:
    return _inverse_gamma(with_log_var(q), p)


def with_log_var(q: TorchLogNormal) -> LogNormal:
    """Write torch's log-normal, which has a standard deviation, by its log variance."""
    return LogNormal(q.loc, 2.0 * q.scale.log(), validate_args=False)
