"""What every posterior family answers, and which family answers to which prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyrosparse.errors import PriorError
from pyrosparse.layers import over_parts
from pyrosparse.priors import Prior
from pyrosparse.text import kind

__all__ = ["DEFAULT_THRESHOLD", "Family", "family_of", "load_mask", "register_family", "registered_kl"]

# α ≥ e³ ≈ 20: noise twenty times stronger than the weight (the habit since Molchanov et al., 2017)
DEFAULT_THRESHOLD = 3.0


class Family(nn.Module, ABC):
    """Posterior of one weight: it owns the parameters and answers the questions that the rest asks.

    The questions are :meth:`distribution`, :meth:`relevance`, :meth:`keep`, :meth:`gates`, :meth:`left`, :meth:`mean`,
    :meth:`std`, :meth:`draws`, :meth:`kl`, for live shrinking :meth:`weight_tensors`, and which sample sites the
    family has (:attr:`sites`, :meth:`hidden`). Summaries, pruning, coding and reports ask nothing else, so a new
    method is one distribution, one prior and one family.

    :param site: name of the weight (``fc1.weight``).
    :param prior: its prior.
    """

    # what the relevance is the negative of, for tables
    statistic = "log α"

    def __init__(self, site: str, prior: Prior) -> None:
        super().__init__()
        self.site = site
        # not a submodule: the prior belongs to the model
        self._prior = (prior,)

    @property
    def prior(self) -> Prior:
        """Prior of the weight, as the model has it."""
        return self._prior[0]

    @property
    def parts(self) -> int:
        """Numbers of one weight: 1, or 2 for a complex one."""
        return self.prior.parts

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sample sites of this family: the weight's, and those of hidden() where it has some."""
        return (self.site, *self.hidden())

    def hidden(self) -> dict[str, TorchDistributionMixin]:
        """Posteriors at further sample sites than the weight's, by name: scales of groups, say."""
        return {}

    @abstractmethod
    def distribution(self) -> TorchDistributionMixin:
        """Posterior at the weight's own site: no batch shape, event shape that of the parameter."""

    @abstractmethod
    def relevance(self) -> Tensor:
        """How much the posterior needs each weight, shape of the weights: higher is kept. Here −log α.

        The weights of a complex parameter (*shape, 2) have the shape ``shape``.
        """

    @abstractmethod
    def mean(self) -> Tensor:
        """Posterior mean, shape of the parameter; 0 where a mask has removed it."""

    @abstractmethod
    def std(self) -> Tensor:
        """Posterior standard deviation of each number, shape of the parameter; 0 where a mask has removed it."""

    def covariance(self) -> Tensor | None:
        """Covariance of real and imaginary part, shape of the weights; None where it is 0, and of real weights."""
        return None

    @abstractmethod
    def freeze(self, keep: Tensor) -> None:
        """Fix a mask: what is not kept is exactly 0 from now on and costs no KL."""

    @abstractmethod
    def weight_tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers that have the weight's axes (and perhaps one of the parts), by name.

        This is what live shrinking cuts.
        """

    def keep(self, threshold: float = DEFAULT_THRESHOLD) -> Tensor:
        """Which weights stay: those of relevance ≥ −threshold (log α ≤ threshold). Boolean, shape of the weights."""
        relevance = self.relevance()
        # what a mask has removed stays out, whatever the threshold
        return (relevance >= -threshold) & (relevance > -torch.inf)

    def kept_mean(self, mask: Tensor) -> Tensor:
        """Posterior mean where a mask keeps the weight, 0 elsewhere."""
        mean = self.mean()
        return mean * over_parts(mask, mean)

    def gates(self) -> Tensor:
        """Probability that each gate in front of the weights is open, broadcasting with them; 1 without gates."""
        return torch.ones([1] * self.relevance().dim())

    def left(self, threshold: float = DEFAULT_THRESHOLD) -> Tensor:
        """Which weights are there as long as their gates are open. Boolean, shape of the weights."""
        return self.keep(threshold)

    def presence(self, threshold: float = DEFAULT_THRESHOLD) -> Tensor:
        """Probability that a weight is not 0, shape of the weights: :meth:`gates` times :meth:`left`."""
        left = self.left(threshold)
        return self.gates().to(left.device) * left

    def draws(self, count: int, at: Tensor) -> Tensor:
        """Draw chosen weights from their posterior, shape ``(count, len(at))``, of complex ones pairs.

        :param count: number of draws.
        :param at: indices into the flattened weights.
        """
        mean, std = (self._flat(values)[at] for values in (self.mean(), self.std()))
        return torch.addcmul(mean, std, torch.randn((count, *mean.shape), dtype=mean.dtype, device=mean.device))

    def _flat(self, numbers: Tensor) -> Tensor:
        """Weights along one axis, followed by that of the parts of complex ones."""
        return numbers.flatten() if self.parts == 1 else numbers.flatten(0, -2)

    def kl(self) -> Tensor:
        """KL divergence from the prior in nats, a scalar.

        :raises PriorError: if none is registered for the two distributions.
        """
        q = self.distribution()
        prior = self.prior.distribution(q.event_shape[: len(q.event_shape) + 1 - self.parts])
        return registered_kl(self.site, q, prior)

    def forward(self) -> Tensor:
        """Run the sample statement(s) of the guide and return the weight."""
        return pyro.sample(self.site, self.distribution())


def registered_kl(site: str, posterior: TorchDistributionMixin, prior: TorchDistributionMixin) -> Tensor:
    """KL divergence between two distributions in nats.

    :param site: name of the weight, for the message.
    :raises PriorError: if none is registered for their types.
    """
    try:
        return kl_divergence(posterior, prior)
    except NotImplementedError as error:
        raise PriorError(
            f"site {site!r}: no KL divergence is registered from {kind(posterior)} to {kind(prior)}; "
            "register one with torch.distributions.register_kl"
        ) from error


def load_mask(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str) -> None:
    """Make room for a saved mask: one that was fixed before is part of a state, and so is that there was none."""
    mask = state_dict.get(f"{prefix}frozen")
    device = next(module.parameters()).device
    module.register_buffer("frozen", None if mask is None else torch.empty_like(mask, device=device))


FamilyFactory = Callable[[str, Prior, Tensor, float], Family]
_FAMILIES: dict[type[Prior], FamilyFactory] = {}


def register_family(prior: type[Prior]) -> Callable[[FamilyFactory], FamilyFactory]:
    """Tell which family a prior gets in :class:`~pyrosparse.guides.AutoSparse`; a decorator.

    The factory is called as ``factory(site, prior, weight, log_var)`` with the initial mean and the
    initial log variance. A type's own entry goes before those of its base classes.
    """

    def register(factory: FamilyFactory) -> FamilyFactory:
        _FAMILIES[prior] = factory
        return factory

    return register


def family_of(site: str, prior: Prior, weight: Tensor, log_var: float) -> Family:
    """Make the posterior family for a prior.

    :param site: name of the weight.
    :param prior: decides the family by its type.
    :param weight: initial mean.
    :param log_var: initial log variance.
    :raises PriorError: if no family is registered for the prior's type or a base class of it.
    """
    for cls in type(prior).__mro__:
        if cls in _FAMILIES:
            with torch.no_grad():
                return _FAMILIES[cls](site, prior, weight.detach().clone(), log_var)
    raise PriorError(
        f"site {site!r}: no posterior family is registered for the prior {type(prior).__name__}; "
        "register one with pyrosparse.guides.register_family"
    )
