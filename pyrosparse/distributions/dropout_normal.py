"""The Gaussian posterior of Sparse Variational Dropout, in terms of mean and log variance."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, constraints, register_kl
from torch.distributions.utils import broadcast_all

from pyrosparse.distributions.kl import EPSILON, common_shape, gaussian_kl
from pyrosparse.distributions.log_variance import LogVariance

__all__ = ["DropoutNormal"]


class DropoutNormal(LogVariance, TorchDistribution):
    r"""Posterior :math:`w \sim N(\mu, \sigma^2)`, parametrised by :math:`\mu` and :math:`\log \sigma^2`.

    Its dropout rate is alpha = sigma^2 / mu^2 (Molchanov, Ashukha & Vetrov, 2017). Where ``keep`` is False
    the weight is exactly 0: mean, variance, entropy, log_prob and every KL are 0 there, and no gradient
    reaches it.

    Parameters
    ----------
    loc, log_var
        Mean and log variance; they broadcast.
    keep
        Optional bool tensor that broadcasts to the same shape.
    """

    arg_constraints = {"loc": constraints.real, "log_var": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        log_var: Tensor | float,
        keep: Tensor | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        if isinstance(loc, Tensor) and isinstance(log_var, Tensor) and loc.shape == log_var.shape:
            self.loc, self.log_var = loc, log_var
        else:
            self.loc, self.log_var = broadcast_all(loc, log_var)
        if keep is not None:
            if keep.dtype != torch.bool:
                raise ValueError(f"DropoutNormal: keep is {keep.dtype}, not torch.bool; pass keep.bool()")
            keep = keep if keep.shape == self.loc.shape else keep.expand(self.loc.shape)
        self.keep = keep
        super().__init__(self.loc.shape, validate_args=validate_args)

    def __repr__(self) -> str:
        cut = "" if self.keep is None else f", kept={int(self.keep.sum())}/{self.keep.numel()}"
        return f"DropoutNormal(batch_shape={tuple(self.batch_shape)}{cut})"

    def expand(self, batch_shape: Any, _instance: DropoutNormal | None = None) -> DropoutNormal:
        """Return a DropoutNormal of that batch shape."""
        new = self._get_checked_instance(DropoutNormal, _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.loc, new.log_var = self.loc.expand(shape), self.log_var.expand(shape)
        new.keep = None if self.keep is None else self.keep.expand(shape)
        super(DropoutNormal, new).__init__(shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def log_alpha(self) -> Tensor:
        """``log_var - log(loc^2 + 1e-16)``."""
        return self.log_var - torch.log(self.loc.square() + EPSILON)

    @property
    def mean(self) -> Tensor:
        """``mu``, 0 where not kept."""
        return self._kept(self.loc)

    @property
    def variance(self) -> Tensor:
        """``sigma^2``, 0 where not kept."""
        return self._kept(self.sigma2)

    @property
    def stddev(self) -> Tensor:
        """``sigma``, 0 where not kept."""
        return self._kept(torch.exp(0.5 * self.log_var))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw ``mu + sigma * noise``, exactly 0 where not kept."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self._kept(torch.addcmul(self.loc, torch.exp(0.5 * self.log_var), noise))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, 0 where not kept."""
        if self._validate_args:
            self._validate_sample(value)
        scaled = (value - self.loc) * torch.exp(-0.5 * self.log_var)
        return self._kept(-0.5 * (scaled.square() + self.log_var + math.log(2 * math.pi)))

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function, a step at 0 where not kept."""
        if self._validate_args:
            self._validate_sample(value)
        below = torch.special.ndtr((value - self.loc) * torch.exp(-0.5 * self.log_var))
        return below if self.keep is None else torch.where(self.keep, below, (value >= 0).to(below.dtype))

    def entropy(self) -> Tensor:
        """``(log(2 pi e) + log sigma^2)/2`` nats, 0 where not kept."""
        return self._kept(0.5 * (self.log_var + math.log(2 * math.pi * math.e)))

    def _kept(self, x: Tensor) -> Tensor:
        return x if self.keep is None else torch.where(self.keep, x, 0.0)


@register_kl(DropoutNormal, Normal)
def _normal(q: DropoutNormal, p: Normal) -> Tensor:
    shape = common_shape(q.batch_shape, p.batch_shape)
    q = q if q.batch_shape == shape else q.expand(shape)
    precision = p.scale.square().reciprocal()
    return gaussian_kl(q.loc - p.loc, q.log_var, precision, variance=q.known_variance, keep=q.keep)
