"""Weights without uncertainty of their own, behind gates."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyrosparse.distributions import Point
from pyrosparse.guides.family import Family, load_mask
from pyrosparse.layers import over_parts
from pyrosparse.priors import Prior

__all__ = ["PointFamily"]


class PointFamily(Family):
    """A point for each weight: trained, kept until a mask removes it, with a standard deviation of 0.

    :param site: name of the weight.
    :param prior: its prior.
    :param weight: where it starts.
    """

    frozen: Tensor | None

    def __init__(self, site: str, prior: Prior, weight: Tensor) -> None:
        super().__init__(site, prior)
        self.loc = nn.Parameter(weight)
        self.register_buffer("frozen", None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        load_mask(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def elements(self) -> Point:
        """Posterior of the single numbers; batch shape that of the parameter."""
        return Point(self.loc if self.frozen is None else torch.where(over_parts(self.frozen, self.loc), self.loc, 0.0))

    def distribution(self) -> TorchDistributionMixin:  # noqa: D102
        return self.elements().to_event(self.loc.dim())

    def relevance(self) -> Tensor:  # noqa: D102
        weights = self.loc if self.parts == 1 else self.loc[..., 0]
        relevance = torch.full_like(weights, torch.inf, requires_grad=False)
        return relevance if self.frozen is None else relevance.masked_fill(~self.frozen, -torch.inf)

    def mean(self) -> Tensor:  # noqa: D102
        return self.elements().value.detach().clone()

    def std(self) -> Tensor:  # noqa: D102
        return torch.zeros_like(self.loc, requires_grad=False)

    def freeze(self, keep: Tensor) -> None:  # noqa: D102
        self.frozen = keep.clone() if self.frozen is None else keep & self.frozen

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        tensors: dict[str, Tensor] = {"loc": self.loc}
        return tensors if self.frozen is None else tensors | {"frozen": self.frozen}
