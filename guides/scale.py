"""Posteriors of the scales z of groups of weights, w = z · w̃."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyrosparse.distributions import DropoutNormal, HalfCauchyProduct, HardConcrete, L0Prior, LogNormal
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family, load_mask
from pyrosparse.priors import L0, GroupHorseshoe, GroupLogUniform
from pyrosparse.priors.group import GroupPrior, horseshoe, scale_name

__all__ = ["START_LOG_VAR", "Gate", "HorseshoeScale", "LogUniformScale", "Scale"]

START_LOG_VAR = -4.0
"""Log variance of a scale at the start, relative to the scale: it trains fast and decides late."""


class Scale(nn.Module, ABC):
    """Posterior of the scales of one weight's groups.

    Parameters have the weight's number of axes, with length 1 along all but the groups' (``(1, inputs)``, say), so that
    they broadcast with the weight and are cut with it.

    :param site: name of the weight.
    :param prior: prior of the scales and the weight.
    :param start: where the scales start, of that form.
    """

    frozen: Tensor | None
    statistic = "log α"

    def __init__(self, site: str, prior: GroupPrior) -> None:
        super().__init__()
        self.site = scale_name(site)
        self._prior = (prior,)
        self.register_buffer("frozen", None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        load_mask(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def infer(self) -> dict[str, bool]:
        """What local reparameterisation must know of the sites."""
        prior = self._prior[0]
        return {"per_example": prior.per_example and prior.axis is not None}

    @property
    def keep(self) -> Tensor | None:
        """Which groups are left, one axis; None before a mask was fixed."""
        return None if self.frozen is None else self._flat(self.frozen)

    @abstractmethod
    def posteriors(self) -> dict[str, TorchDistributionMixin]:
        """Posterior at each of the sample sites, by its name."""

    @abstractmethod
    def compose(self, drawn: dict[str, Tensor]) -> Tensor:
        """Scales z from the values at the sites, one axis."""

    @abstractmethod
    def mean(self) -> Tensor:
        """What the scales are in the network that is left: their mean, or the gate at test time."""

    def expected(self) -> Tensor:
        """Posterior mean of the scales, where it is not what is left of them."""
        return self.mean()

    @abstractmethod
    def variance(self) -> Tensor:
        """Posterior variance of the scales, around :meth:`expected`."""

    @abstractmethod
    def relevance(self) -> Tensor:
        """How much a group is needed, on the scale of −log α: kept are those of at least −threshold."""

    @abstractmethod
    def kl(self, shape: torch.Size) -> Tensor:
        """KL divergence in nats from the prior of a weight of this shape, a scalar."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Parameters that have the groups' axis, by name."""

    def forward(self) -> Tensor:
        """Run the sample statements of the guide and return the scales, one axis."""
        # pyro's own keys are typed; this one is read by local reparameterisation
        infer: Any = self.infer
        drawn = {name: pyro.sample(name, q, infer=infer) for name, q in self.posteriors().items()}
        return self.compose(drawn)

    def freeze(self, keep: Tensor) -> None:
        """Fix which groups are left: the others cost no KL from now on."""
        self.frozen = keep.clone() if self.frozen is None else keep & self.frozen

    def _flat(self, tensor: Tensor) -> Tensor:
        """One axis of groups; for a scale of each weight, the weight's own axes."""
        return tensor if self._prior[0].axis is None else tensor.flatten()

    def _gone(self, relevance: Tensor) -> Tensor:
        return relevance if self.frozen is None else relevance.masked_fill(~self.frozen, -torch.inf)


class LogUniformScale(Scale):
    r""":math:`q(z) = N(\mu_z, \sigma_z^2)`, kept while :math:`\log\alpha = \log\sigma_z^2 - \log\mu_z^2` is small.

    Trained are :math:`\log\mu_z` (``log_loc``) and :math:`\log\sigma_z^2` (``log_var``).
    """

    statistic = "log α of z"

    def __init__(self, site: str, prior: GroupLogUniform, start: Tensor) -> None:
        super().__init__(site, prior)
        self.log_loc = nn.Parameter(start.log())
        self.log_var = nn.Parameter(2.0 * start.log() + START_LOG_VAR)

    def elements(self) -> DropoutNormal:
        """Posterior of the single scales."""
        return DropoutNormal(self._flat(self.log_loc).exp(), self._flat(self.log_var), keep=self.keep)

    def posteriors(self) -> dict[str, TorchDistributionMixin]:  # noqa: D102
        return {self.site: self.elements().to_event(1)}

    def compose(self, drawn: dict[str, Tensor]) -> Tensor:  # noqa: D102
        return drawn[self.site]

    @torch.no_grad()
    def mean(self) -> Tensor:  # noqa: D102
        return self.log_loc.exp()

    @torch.no_grad()
    def variance(self) -> Tensor:  # noqa: D102
        return self.log_var.exp()

    @torch.no_grad()
    def relevance(self) -> Tensor:  # noqa: D102
        return self._gone(2.0 * self.log_loc - self.log_var)

    def kl(self, shape: torch.Size) -> Tensor:  # noqa: D102
        prior = self._prior[0]
        assert isinstance(prior, GroupLogUniform)
        q = self.elements().to_event(1)
        return kl_divergence(q, prior.scales.distribution(q.event_shape))

    def tensors(self) -> dict[str, Tensor]:  # noqa: D102
        return {"log_loc": self.log_loc, "log_var": self.log_var}


class HorseshoeScale(Scale):
    r"""Log-normal factors of the layer's scale and of each group's: :math:`z_g = \sqrt{s_a s_b \alpha_g \beta_g}`.

    So :math:`\log z_g \sim N(\tfrac12 \sum m, \tfrac14 \sum v)`. A group is kept while the logarithm of the mode of
    its own factors, :math:`(m_\alpha + m_\beta) - (v_\alpha + v_\beta)`, is at least −threshold.
    """

    statistic = "−log mode"

    def __init__(self, site: str, prior: GroupHorseshoe, start: Tensor) -> None:
        super().__init__(site, prior)
        log_z = start.log()
        middle = log_z.median()
        # the prior scale of s_a is τ0²: it starts there, s_b takes what is left of the median, the groups the rest
        first = torch.full_like(middle, 2.0 * math.log(prior.global_scale) - 1.5)
        self.layer_loc = nn.Parameter(torch.stack([first, 2.0 * middle - first]))
        self.layer_log_var = nn.Parameter(torch.full_like(self.layer_loc, START_LOG_VAR))
        for name in ("alpha", "beta"):
            setattr(self, f"{name}_loc", nn.Parameter(log_z - middle))
            setattr(self, f"{name}_log_var", nn.Parameter(torch.full_like(log_z, START_LOG_VAR)))

    alpha_loc: nn.Parameter
    alpha_log_var: nn.Parameter
    beta_loc: nn.Parameter
    beta_log_var: nn.Parameter

    def layer(self) -> LogNormal:
        """Factors of the layer's scale, shape ``(2,)``."""
        return LogNormal(self.layer_loc, self.layer_log_var)

    def group(self) -> LogNormal:
        """Factors of the groups' scales, shape ``(groups, 2)``."""
        loc = torch.stack([self.alpha_loc.flatten(), self.beta_loc.flatten()], -1)
        log_var = torch.stack([self.alpha_log_var.flatten(), self.beta_log_var.flatten()], -1)
        keep = self.keep
        return LogNormal(loc, log_var, keep=None if keep is None else keep[:, None])

    def posteriors(self) -> dict[str, TorchDistributionMixin]:  # noqa: D102
        return {f"{self.site}.layer": self.layer().to_event(1), f"{self.site}.group": self.group().to_event(2)}

    def compose(self, drawn: dict[str, Tensor]) -> Tensor:  # noqa: D102
        return horseshoe(drawn[f"{self.site}.layer"], drawn[f"{self.site}.group"])

    def log_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of log z, broadcasting with the weight."""
        m = 0.5 * (self.layer_loc.sum() + self.alpha_loc + self.beta_loc)
        v = 0.25 * (self.layer_log_var.exp().sum() + self.alpha_log_var.exp() + self.beta_log_var.exp())
        return m, v

    @torch.no_grad()
    def mean(self) -> Tensor:  # noqa: D102
        m, v = self.log_moments()
        return torch.exp(m + 0.5 * v)

    @torch.no_grad()
    def variance(self) -> Tensor:  # noqa: D102
        m, v = self.log_moments()
        return torch.expm1(v) * torch.exp(2.0 * m + v)

    @torch.no_grad()
    def relevance(self) -> Tensor:  # noqa: D102
        m = self.alpha_loc + self.beta_loc
        return self._gone(m - self.alpha_log_var.exp() - self.beta_log_var.exp())

    def kl(self, shape: torch.Size) -> Tensor:  # noqa: D102
        prior = self._prior[0]
        assert isinstance(prior, GroupHorseshoe)
        of_layer = kl_divergence(self.layer().to_event(1), HalfCauchyProduct(prior._tau))
        group = self.group()
        local = HalfCauchyProduct(torch.ones_like(prior._tau)).expand(group.batch_shape[:1]).to_event(1)
        return of_layer + kl_divergence(group.to_event(2), local)

    def tensors(self) -> dict[str, Tensor]:  # noqa: D102
        names = ("alpha_loc", "alpha_log_var", "beta_loc", "beta_log_var")
        return {name: getattr(self, name) for name in names}


class Gate(Scale):
    r"""Hard concrete gates, kept while they are open at test time.

    :param weights: posterior of the weights behind them; those that a mask has removed have no price.

    The relevance is :math:`\log\alpha + \log 11 - 3`: at the threshold 3 a group is kept exactly if
    :math:`\sigma(\log\alpha)(\zeta-\gamma)+\gamma \ge 0`, the gate at test time.
    """

    statistic = "3 − log 11α"

    def __init__(self, site: str, prior: L0, start: Tensor, weights: Family | None = None) -> None:
        super().__init__(site, prior)
        self._weights = (weights,)
        noise = 0.01 * torch.randn_like(start)  # the authors' start: equal gates would stay equal for long
        self.log_alpha = nn.Parameter(noise + prior.log_alpha)

    def elements(self) -> HardConcrete:
        """Posterior of the single gates."""
        return HardConcrete(self._flat(self.log_alpha), keep=self.keep, share=self._share())

    def _share(self) -> Tensor | None:
        """Part of each group that no mask of single weights has removed: the others cost nothing any more."""
        left = getattr(self._weights[0], "frozen", None)
        if left is None:
            return None
        axis = self._prior[0].axis
        others = [i for i in range(left.dim()) if i != axis]
        left = left.to(self.log_alpha.dtype)
        return self._flat(left if axis is None else left.mean(dim=others, keepdim=True))

    def posteriors(self) -> dict[str, TorchDistributionMixin]:  # noqa: D102
        q = self.elements()
        return {self.site: q.to_event(q.log_alpha.dim())}

    def compose(self, drawn: dict[str, Tensor]) -> Tensor:  # noqa: D102
        return drawn[self.site]

    def open(self) -> Tensor:
        """Probability that a gate is not 0, broadcasting with the weight; with a gradient."""
        return HardConcrete(self.log_alpha, keep=self.frozen).presence

    @torch.no_grad()
    def mean(self) -> Tensor:  # noqa: D102
        return HardConcrete(self.log_alpha, keep=self.frozen).gate

    @torch.no_grad()
    def expected(self) -> Tensor:  # noqa: D102
        return HardConcrete(self.log_alpha, keep=self.frozen).mean

    @torch.no_grad()
    def variance(self) -> Tensor:  # noqa: D102
        return HardConcrete(self.log_alpha, keep=self.frozen).variance

    @torch.no_grad()
    def relevance(self) -> Tensor:  # noqa: D102
        return self._gone(self.log_alpha + (math.log(11.0) - DEFAULT_THRESHOLD))

    def kl(self, shape: torch.Size) -> Tensor:  # noqa: D102
        prior = self._prior[0]
        assert isinstance(prior, L0)
        q = self.elements()
        size = shape.numel() / max(1, q.log_alpha.numel())
        price = L0Prior(torch.full_like(q.log_alpha, prior.penalty * size, requires_grad=False))
        return kl_divergence(q, price).sum()

    def tensors(self) -> dict[str, Tensor]:  # noqa: D102
        return {"log_alpha": self.log_alpha}
