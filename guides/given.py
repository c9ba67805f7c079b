"""The posterior of a weight that somebody else's guide has written out by hand."""

from __future__ import annotations

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyrosparse.errors import PriorError
from pyrosparse.guides.family import Family, registered_kl
from pyrosparse.layers import over_parts
from pyrosparse.pairs import squared_modulus
from pyrosparse.poutine import complex_moments, gaussian_moments
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
        pairs = complex_moments(posterior) if moments is None else None
        if moments is None and pairs is None:
            raise PriorError(
                f"site {site!r}: the posterior is a {type(posterior).__name__}, and relevance can be read from "
                "Gaussians only (DropoutNormal, Normal, ComplexNormal); leave the site out or use one of these"
            )
        self._posterior = posterior
        # a tilted complex posterior: its relation says how the parts share the total variance
        self._mean, self._variance, *self._relation = (m.detach() for m in (moments or pairs or ()))
        self._parts = 1 if pairs is None else 2
        self._frozen = torch.ones_like(self._variance, dtype=torch.bool)

    @property
    def parts(self) -> int:  # noqa: D102
        return self._parts

    def distribution(self) -> TorchDistributionMixin:  # noqa: D102
        return self._posterior

    def relevance(self) -> Tensor:  # noqa: D102
        square = self._mean.square() if self.parts == 1 else squared_modulus(self._mean)
        log_alpha = self._variance.log() - (square + 1e-16).log()
        # mean and variance 0: a mask of the guide's own has removed the weight
        removed = ~self._frozen | ((square == 0) & (self._variance == 0))
        return (-log_alpha).masked_fill(removed, -torch.inf)

    def mean(self) -> Tensor:  # noqa: D102
        return self._mean * over_parts(self._frozen, self._mean)

    def std(self) -> Tensor:  # noqa: D102
        variance = self._variance
        if self.parts == 2:
            tilt = self._relation[0][..., 0] if self._relation else torch.zeros_like(variance)
            variance = 0.5 * torch.stack([variance + tilt, variance - tilt], -1)
        return variance.sqrt() * over_parts(self._frozen, variance)

    def covariance(self) -> Tensor | None:  # noqa: D102
        return 0.5 * self._relation[0][..., 1] * self._frozen if self._relation else None

    def kl(self) -> Tensor:  # noqa: D102
        return registered_kl(self.site, self._posterior, self.prior.distribution(self._mean.shape)).sum().detach()

    def freeze(self, keep: Tensor) -> None:  # noqa: D102
        self._frozen = self._frozen & keep

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        tensors = {"mean": self._mean, "variance": self._variance, "frozen": self._frozen}
        return tensors | {"relation": self._relation[0]} if self._relation else tensors
