"""The posterior of every weight, read from any guide, in the coordinates of the original network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrosparse.errors import NetworkError
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family
from pyrosparse.guides.given import GivenFamily
from pyrosparse.model import SparseModel
from pyrosparse.poutine import complex_moments, gaussian_moments

__all__ = ["Posterior", "read"]


@dataclass(frozen=True)
class Posterior:
    """Posterior of one site; every tensor has the original shape of the weights (mean and std that of the parameter).

    Weights that live shrinking has cut have mean 0, standard deviation 0 and relevance −∞.

    :param site: name of the weight.
    :param shape: its original shape, without the axis of the parts of complex weights.
    :param family: posterior of what is left of it.
    :param index: index of what is left in the original, one entry an axis, None where nothing was cut.
    """

    site: str
    shape: torch.Size
    family: Family
    index: tuple[Tensor, ...] | None = None

    def expand(self, values: Tensor, fill: float | bool) -> Tensor:
        """Put values of what is left into a tensor of the original shape."""
        if self.index is None:
            return values
        shape = (*self.shape, *values.shape[len(self.shape) :])
        full = torch.full(shape, fill, dtype=values.dtype, device=values.device)
        full[torch.meshgrid(*(i.to(values.device) for i in self.index), indexing="ij")] = values
        return full

    def mean(self) -> Tensor:
        """Posterior mean."""
        return self.expand(self.family.mean(), 0.0)

    def std(self) -> Tensor:
        """Posterior standard deviation."""
        return self.expand(self.family.std(), 0.0)

    def covariance(self) -> Tensor | None:
        """Covariance of the parts of complex weights; None where it is 0, and of real weights."""
        found = self.family.covariance()
        return None if found is None else self.expand(found, 0.0)

    def relevance(self) -> Tensor:
        """Relevance, −log α: higher is kept."""
        return self.expand(self.family.relevance(), -torch.inf)

    def keep(self, threshold: float = DEFAULT_THRESHOLD) -> Tensor:
        """Which weights are kept at a threshold."""
        return self.expand(self.family.keep(threshold), False)

    def kl(self) -> Tensor:
        """KL divergence from the prior in nats, a scalar without a gradient."""
        with torch.no_grad():
            return self.family.kl()


def read(model: Callable[..., Any], guide: Callable[..., Any], *args: Any) -> dict[str, Posterior]:
    """Read the posterior of every weight.

    :param model: a :class:`~pyrosparse.SparseModel`, or any Pyro model.
    :param guide: an :class:`~pyrosparse.guides.AutoSparse`, or any guide; in one written by hand every latent
        site with a Gaussian distribution counts as a weight.
    :param args: arguments of a pair written by hand, which is traced once with them.
    :returns: posterior of each site, by its name.
    :raises NetworkError: if the guide has no Gaussian site.
    """
    if isinstance(guide, AutoSparse) and isinstance(model, SparseModel):
        return {site: _of_family(model, site, family) for site, family in guide.families.items()}
    with torch.no_grad():
        q = poutine.trace(guide).get_trace(*args)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args)
    found: dict[str, Posterior] = {}
    for name, node in q.nodes.items():
        if node["type"] != "sample" or node["is_observed"] or site_is_subsample(node) or name not in p.nodes:
            continue
        # pyro types the function of every kind of site alike: of a sample site it is a distribution
        posterior: Any = node["fn"]
        prior: Any = p.nodes[name]["fn"]
        if gaussian_moments(posterior) is not None or complex_moments(posterior) is not None:
            family = GivenFamily(name, posterior, prior)
            found[name] = Posterior(name, family.relevance().shape, family)
    if not found:
        raise NetworkError("the guide has no latent site with a Gaussian distribution: there is no posterior to read")
    return found


def _of_family(model: SparseModel, name: str, family: Family) -> Posterior:
    site = model.sites[name]
    outs, ins = model.kept[site.layer]
    if len(outs) == site.shape[site.out_axis] and len(ins) == site.shape[site.in_axis]:
        return Posterior(name, site.shape, family)
    return Posterior(name, site.shape, family, site.index(outs, ins))
