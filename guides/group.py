r"""Posterior of a weight that is a group scale times an individual weight, :math:`w = z \cdot \tilde w`."""

from __future__ import annotations

from enum import StrEnum

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor

from pyrosparse.distributions import Point, Slab
from pyrosparse.errors import PriorError
from pyrosparse.guides.dropout import DropoutFamily
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family, family_of, register_family
from pyrosparse.guides.point import PointFamily
from pyrosparse.guides.scale import Gate, HorseshoeScale, LogUniformScale, Scale
from pyrosparse.layers import over_parts
from pyrosparse.pairs import squared_modulus
from pyrosparse.poutine import scaled
from pyrosparse.priors import L0, GroupHorseshoe, GroupLogUniform, Prior
from pyrosparse.priors.group import GroupPrior

__all__ = ["Criterion", "GroupFamily"]


# nats: what a group must know of its weights to be kept at the default threshold
INFORMATION = 2.0


class Criterion(StrEnum):
    """What decides whether a group is kept."""

    SCALE = "scale"
    """The posterior of its scale, as the papers have it."""

    INFORMATION = "information"
    """What the posterior knows of its weights, in nats: the sum of log(1 + μ²/σ²)/2, at least 2 at the threshold 3.

    Live shrinking waits for it until the weight of the KL rises no more."""


class GroupFamily(Family):
    r"""Posterior of :math:`z` and of :math:`\tilde w`, each with a family of its own.

    The variance of a weight is :math:`\mu_z^2\sigma^2 + \sigma_z^2\mu^2 + \sigma_z^2\sigma^2`, where :math:`\mu_z` is
    the posterior mean of the scale; :meth:`mean` is what is left in the network, where gates are as at test time. A
    group is kept as its scale says; where the prior of :math:`\tilde w` decides as well (``individual=…``), a weight is
    kept if both say so.

    :param site: name of the weight.
    :param prior: a :class:`~pyrosparse.priors.GroupPrior`.
    :param scale: posterior of the scales.
    :param weights: posterior of :math:`\tilde w`.
    """

    def __init__(self, site: str, prior: GroupPrior, scale: Scale, weights: DropoutFamily | PointFamily) -> None:
        super().__init__(site, prior)
        self.axis, self.decides = prior.axis, prior.decides
        self.scale, self.weights = scale, weights
        self.criterion = Criterion.SCALE

    @property
    def statistic(self) -> str:  # type: ignore[override]
        """What the relevance is the negative of."""
        of_group = self.scale.statistic if self.criterion is Criterion.SCALE else "3 − log(nats/2)"
        return f"max({of_group}, {self.weights.statistic})" if self.decides else of_group

    @property
    def max_std(self) -> float | None:
        """Largest standard deviation of the individual weights."""
        return getattr(self.weights, "max_std", None)

    @max_std.setter
    def max_std(self, value: float | None) -> None:
        if isinstance(self.weights, DropoutFamily):
            self.weights.max_std = value

    def hidden(self) -> dict[str, TorchDistributionMixin]:  # noqa: D102
        return self.scale.posteriors()

    def elements(self) -> TorchDistribution:
        r"""Posterior of the single :math:`\tilde w`; behind a gate it counts while the gate is open."""
        base = self.weights.elements()
        if not isinstance(self.scale, Gate):
            return base
        presence = self.scale.open()
        # points have one entry a number, Gaussians one a weight
        return Slab(base, over_parts(presence, base.value) if isinstance(base, Point) else presence)

    def distribution(self) -> TorchDistributionMixin:  # noqa: D102
        q = self.elements()
        return q.to_event(len(q.batch_shape))

    def forward(self) -> Tensor:  # noqa: D102
        if isinstance(self.weights, DropoutFamily):
            self.weights.cap()
        z = self.scale()
        w_tilde = pyro.sample(self.site, self.distribution())
        return scaled(z, w_tilde, self.axis)

    def kl(self) -> Tensor:  # noqa: D102
        q = self.distribution()
        return self.scale.kl(q.event_shape) + super().kl()

    def relevance(self) -> Tensor:  # noqa: D102
        of_group = self.scale.relevance() if self.criterion is Criterion.SCALE else self._information()
        of_weight = self.weights.relevance()
        of_group = of_group.expand(of_weight.shape)
        if self.decides:
            return torch.minimum(of_group, of_weight)
        return of_group.masked_fill(of_weight == -torch.inf, -torch.inf)

    def _information(self) -> Tensor:
        r"""Log of :math:`\sum_{w \in g} \tfrac12 \log(1 + \mu_w^2/\sigma_w^2)` over 2 nats, less the threshold 3.

        A complex weight counts twice: :math:`\log(1 + |\mu_w|^2/\sigma_w^2)`.
        """
        w_tilde = self.weights.mean()
        mean, variance = (over_parts(self.scale.expected(), w_tilde) * w_tilde).square(), self.std().square()
        if self.parts == 2:
            mean, variance = mean.sum(-1), variance.sum(-1)
        nats = 0.5 * self.parts * torch.log1p(mean / variance.clamp_min(1e-30))
        if self.axis is not None:
            nats = nats.sum([i for i in range(nats.dim()) if i != self.axis], keepdim=True)
        return (nats / INFORMATION).log() - DEFAULT_THRESHOLD

    def gates(self) -> Tensor:  # noqa: D102
        return self.scale.open().detach() if isinstance(self.scale, Gate) else super().gates()

    def left(self, threshold: float = DEFAULT_THRESHOLD) -> Tensor:  # noqa: D102
        if not isinstance(self.scale, Gate):
            return super().left(threshold)
        of_weight = self.weights.relevance()
        return of_weight >= -threshold if self.decides else of_weight > -torch.inf

    def mean(self) -> Tensor:  # noqa: D102
        mean = self.weights.mean()
        return over_parts(self.scale.mean(), mean) * mean

    def std(self) -> Tensor:  # noqa: D102
        mean, second = self.weights.mean().square(), self.weights.std().square()
        z, var_z = (over_parts(moment, mean) for moment in (self.scale.expected().square(), self.scale.variance()))
        return (z * second + var_z * mean + var_z * second).sqrt()

    def covariance(self) -> Tensor | None:  # noqa: D102
        if self.parts == 1:
            return None
        of_weight, w_tilde = self.weights.covariance(), self.weights.mean()
        z, var_z = self.scale.expected().square(), self.scale.variance()
        of_scale = var_z * w_tilde[..., 0] * w_tilde[..., 1]  # both parts have the same scale
        return of_scale if of_weight is None else of_scale + (z + var_z) * of_weight

    @torch.no_grad()
    def draws(self, count: int, at: Tensor) -> Tensor:  # noqa: D102
        posteriors = self.scale.posteriors()
        z = self.scale.compose({name: q.sample((count,)) for name, q in posteriors.items()})
        shape = self.weights.relevance().shape
        group = at if self.axis is None else torch.unravel_index(at, shape)[self.axis]
        w_tilde = self.weights.draws(count, at)
        return over_parts(z.reshape(count, -1)[:, group], w_tilde) * w_tilde

    def freeze(self, keep: Tensor) -> None:  # noqa: D102
        self.weights.freeze(keep)
        others = [i for i in range(keep.dim()) if i != self.axis]
        self.scale.freeze(keep if self.axis is None else keep.any(dim=others, keepdim=True))

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        tensors = self.weights.weight_tensors() | {f"scale.{k}": t for k, t in self.scale.tensors().items()}
        return tensors if self.scale.frozen is None else tensors | {"scale.frozen": self.scale.frozen}


def _group_size(weight: Tensor, prior: GroupPrior) -> Tensor:
    """Root of the mean square of each group's weights, where its scale starts; never 0."""
    axis = prior.axis
    if prior.parts == 2:
        weight = squared_modulus(weight).sqrt()
    if axis is None:
        return torch.ones_like(weight)
    others = [i for i in range(weight.dim()) if i != axis]
    size = weight.square().mean(dim=others, keepdim=True).sqrt()
    typical = size[size > 0].median() if bool((size > 0).any()) else size.new_ones(())
    # a group of zeros (an input that pre-training never saw) starts among the smallest
    return size.clamp_min(1e-2 * typical)


def _gaussian(site: str, prior: GroupPrior, weight: Tensor, log_var: float) -> DropoutFamily:
    r"""Posterior of :math:`\tilde w`; scales go with Gaussian ones alone."""
    weights = family_of(site, prior.individual, weight, log_var)
    if not isinstance(weights, DropoutFamily):
        raise PriorError(
            f"site {site!r}: under the scales of {type(prior).__name__}, single weights need a DropoutFamily, and the "
            f"prior {type(prior.individual).__name__} has a {type(weights).__name__}; use LogUniform or ARD"
        )
    return weights


@register_family(GroupLogUniform)
@register_family(GroupHorseshoe)
def _normal(site: str, prior: Prior, weight: Tensor, log_var: float) -> GroupFamily:
    """Scales that start at the size of their groups, over weights of unit size."""
    assert isinstance(prior, GroupPrior)
    size = _group_size(weight, prior)
    made = LogUniformScale if isinstance(prior, GroupLogUniform) else HorseshoeScale
    weights = _gaussian(site, prior, weight / over_parts(size, weight), log_var)
    return GroupFamily(site, prior, made(site, prior, size), weights)  # type: ignore[arg-type]


@register_family(L0)
def _gated(site: str, prior: Prior, weight: Tensor, log_var: float) -> GroupFamily:
    """Gates over point weights, or over Gaussian ones."""
    assert isinstance(prior, L0)
    weights: DropoutFamily | PointFamily
    if prior.slab == "point":
        weights = PointFamily(site, prior, weight)
    else:
        weights = _gaussian(site, prior, weight, log_var)
    return GroupFamily(site, prior, Gate(site, prior, _group_size(weight, prior), weights), weights)
