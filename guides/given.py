"""The posterior of a weight that somebody else's guide has written out by hand."""

from __future__ import annotations

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyrosparse.errors import PriorError
from pyrosparse.guides.family import Family, registered_kl
from pyrosparse.poutine import gaussian_moments
from pyrosparse.priors import Prior

__all__ = ["GivenFamily"]


class _Fixed(Prior):
    """A prior that is a distribution already."""

    def __init__(self, distribution: TorchDistributionMixin) -> None:
        super().__init__()
        self._distribution = distribution

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:
        return self._distribution


class GivenFamily(Family):
    """A snapshot of a Gaussian posterior that was found in a trace: it can be read, not trained.

    :param site: name of the sample site.
    :param posterior: distribution in the guide.
    :param prior: distribution in the model.
    :raises PriorError: if the posterior is not a Gaussian with independent elements.
    """

    def __init__(self, site: str, posterior: TorchDistributionMixin, prior: TorchDistributionMixin) -> None:
        super().__init__(site, _Fixed(prior))
        moments = gaussian_moments(posterior)
        if moments is None:
            raise PriorError(
                f"site {site!r}: the posterior is a {type(posterior).__name__}, and relevance can be read from "
                "Gaussians only (DropoutNormal, Normal); leave the site out or use one of these"
            )
        self._posterior = posterior
        self._mean, self._variance = (m.detach() for m in moments)
        self._frozen = torch.ones_like(self._mean, dtype=torch.bool)

    def distribution(self) -> TorchDistributionMixin:  # noqa: D102
        return self._posterior

    def relevance(self) -> Tensor:  # noqa: D102
        log_alpha = self._variance.log() - (self._mean.square() + 1e-16).log()
        # mean and variance 0: a mask of the guide's own has removed the weight
        removed = ~self._frozen | ((self._mean == 0) & (self._variance == 0))
        return (-log_alpha).masked_fill(removed, -torch.inf)

    def mean(self) -> Tensor:  # noqa: D102
        return self._mean * self._frozen

    def std(self) -> Tensor:  # noqa: D102
        return self._variance.sqrt() * self._frozen

    def kl(self) -> Tensor:  # noqa: D102
        return registered_kl(self.site, self._posterior, self.prior.distribution(self._mean.shape)).sum().detach()

    def freeze(self, keep: Tensor) -> None:  # noqa: D102
        self._frozen = self._frozen & keep

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        return {"mean": self._mean, "variance": self._variance, "frozen": self._frozen}
