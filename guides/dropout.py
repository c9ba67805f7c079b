"""Gaussian posteriors of single weights, whose noise is relative to their mean."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyrosparse.distributions import ComplexNormal, DropoutNormal, bounded_relation
from pyrosparse.guides.family import Family, load_mask, register_family
from pyrosparse.priors import ARD, ComplexARD, ComplexLogUniform, LogUniform, Prior

__all__ = ["ComplexDropoutFamily", "DropoutFamily", "NormalFamily"]


class NormalFamily(Family):
    r""":math:`q(w) = N(\mu, \sigma^2)` for each weight, kept while :math:`\log\alpha = \log(\sigma^2/\mu^2)` is small.

    :param site: name of the weight.
    :param prior: its prior.
    :param weight: initial mean.
    """

    frozen: Tensor | None

    def __init__(self, site: str, prior: Prior, weight: Tensor) -> None:
        super().__init__(site, prior)
        self.loc = nn.Parameter(weight)
        self.register_buffer("frozen", None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        load_mask(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @abstractmethod
    def elements(self) -> DropoutNormal | ComplexNormal:
        """Posterior of the single weights; batch shape that of the weights."""

    def distribution(self) -> TorchDistributionMixin:  # noqa: D102
        q = self.elements()
        return q.to_event(len(q.batch_shape))

    def forward(self) -> Tensor:  # noqa: D102
        self.cap()
        return super().forward()

    def cap(self) -> None:  # noqa: B027 - most families have nothing to cap
        """Project the parameters back into their bounds, if they have some."""

    def relevance(self) -> Tensor:  # noqa: D102
        with torch.no_grad():
            relevance = -self.elements().log_alpha
            return relevance if self.frozen is None else relevance.masked_fill(~self.frozen, -torch.inf)

    def mean(self) -> Tensor:  # noqa: D102
        with torch.no_grad():
            return self.elements().mean.clone()

    def std(self) -> Tensor:  # noqa: D102
        with torch.no_grad():
            return self.elements().variance.sqrt()

    def freeze(self, keep: Tensor) -> None:  # noqa: D102
        # a copy: live shrinking cuts it in place
        self.frozen = keep.clone() if self.frozen is None else keep & self.frozen

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        tensors: dict[str, Tensor] = {"loc": self.loc}
        return tensors if self.frozen is None else tensors | {"frozen": self.frozen}


@register_family(LogUniform)
@register_family(ARD)
class DropoutFamily(NormalFamily):
    r"""Sparse VD and ARD: trained are :math:`\mu` (``loc``) and :math:`\log\sigma^2` (``log_var``) of each weight.

    The additive noise of Molchanov et al. (2017), section 4.2.

    :param site: name of the weight.
    :param prior: its prior.
    :param weight: initial mean.
    :param log_var: initial :math:`\log\sigma^2`.
    """

    # largest standard deviation: log_var is projected back below it before each draw
    max_std: float | None = None

    def __init__(self, site: str, prior: Prior, weight: Tensor, log_var: float) -> None:
        super().__init__(site, prior, weight)
        self.log_var = nn.Parameter(torch.full_like(weight if self.parts == 1 else weight[..., 0], log_var))

    def elements(self) -> DropoutNormal | ComplexNormal:  # noqa: D102
        return DropoutNormal(self.loc, self.capped_log_var(), keep=self.frozen)

    def capped_log_var(self) -> Tensor:
        r""":math:`\log\sigma^2`, also right after a step of the optimiser has left it above the cap."""
        return self.log_var if self.max_std is None else self.log_var.clamp(max=2.0 * math.log(self.max_std))

    @torch.no_grad()
    def cap(self) -> None:  # noqa: D102
        if self.max_std is not None:
            self.log_var.clamp_(max=2.0 * math.log(self.max_std))

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        return super().weight_tensors() | {"log_var": self.log_var}


@register_family(ComplexLogUniform)
@register_family(ComplexARD)
class ComplexDropoutFamily(DropoutFamily):
    r""":math:`q(w) = CN(\mu, \sigma^2, \sigma^2\xi)`: C-VD and C-ARD (Nazarov & Burnaev, 2020), circular at first.

    Trained are :math:`\mu` (``loc``, pairs) and :math:`\log\sigma^2` (``log_var``) of each weight, where
    :math:`\sigma^2 = E|w - \mu|^2` is the total variance: each part has half of it. ``max_std`` caps :math:`\sigma`.
    After :meth:`relate` also the relation is trained, as :math:`\xi = a/\sqrt{1+|a|^2}` (``relation``, pairs a).

    :param site: name of the weight.
    :param prior: its prior.
    :param weight: initial mean, pairs (..., 2).
    :param log_var: initial :math:`\log\sigma^2`.
    """

    relation: nn.Parameter | None

    def __init__(self, site: str, prior: Prior, weight: Tensor, log_var: float) -> None:
        super().__init__(site, prior, weight, log_var)
        self.register_parameter("relation", None)

    def relate(self) -> None:
        r"""Give each weight a relation :math:`\xi`, which starts at 0."""
        if self.relation is None:
            self.relation = nn.Parameter(torch.zeros_like(self.loc))

    def elements(self) -> ComplexNormal:  # noqa: D102
        relation = None if self.relation is None else bounded_relation(self.relation)
        return ComplexNormal(self.loc, self.capped_log_var(), relation, keep=self.frozen)

    @torch.no_grad()
    def draws(self, count: int, at: Tensor) -> Tensor:  # noqa: D102
        if self.relation is None:
            return super().draws(count, at)
        q = self.elements()
        assert q.relation is not None
        keep = None if q.keep is None else q.keep.flatten()[at]
        loc, relation = (self._flat(pairs)[at] for pairs in (q.loc, q.relation))
        return ComplexNormal(loc, q.log_var.flatten()[at], relation, keep).sample((count,))

    @torch.no_grad()
    def covariance(self) -> Tensor | None:
        r""":math:`\tfrac12\sigma^2\,\mathrm{Im}\,\xi`."""
        q = self.elements()
        return None if q.relation is None else 0.5 * q.variance.sum(-1) * q.relation[..., 1]

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        tensors = super().weight_tensors()
        return tensors if self.relation is None else tensors | {"relation": self.relation}
