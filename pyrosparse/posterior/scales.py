"""The scales of groups of weights as named arrays: what a forest plot of a layer shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyrosparse.guides.group import GroupFamily
from pyrosparse.posterior.read import Posterior
from pyrosparse.priors.group import GroupPrior

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["has_scales", "posterior_draws", "prior_draws", "scale_dataset", "summarize_scales"]

Draws = dict[str, NDArray[np.float32]]


def has_scales(posterior: Posterior) -> bool:
    """Whether the weights of a site share scales along one of its axes."""
    return isinstance(posterior.family, GroupFamily) and posterior.family.axis is not None


@torch.no_grad()
def posterior_draws(posterior: Posterior, draws: int) -> Draws:
    """Draws at each site of the scales, and of the scales z themselves; the first axis is the draw.

    After the same seed they are those that :meth:`GroupFamily.draws` multiplies its weights by.
    """
    scale = _family(posterior).scale
    drawn = {name: q.sample((draws,)) for name, q in scale.posteriors().items()}
    return _arrays(drawn | {scale.site: scale.compose(drawn)})


@torch.no_grad()
def prior_draws(posterior: Posterior, draws: int, *, weights: bool = False) -> Draws:
    """The same from the prior, for the groups that are left.

    :param posterior: of a site with scales.
    :param draws: how many.
    :param weights: whether the weights behind them are drawn in between, and let go: after the same seed the scales are
        then those of the weights' own draws.
    """
    family = _family(posterior)
    prior, scale, axis = family.prior, family.scale, family.axis
    assert isinstance(prior, GroupPrior)
    assert axis is not None
    rows: dict[str, list[Tensor]] = {}
    for _ in range(draws):
        statement, name = (prior.sample, posterior.site) if weights else (prior.scale, scale.site)
        trace = poutine.trace(statement).get_trace(name, posterior.shape)
        drawn: dict[str, Any] = {name: trace.nodes[name]["value"] for name in scale.posteriors()}
        for name, value in (drawn | {scale.site: scale.compose(drawn)}).items():
            of_layer = name == f"{scale.site}.layer"
            left = value if of_layer or posterior.index is None else value[posterior.index[axis].to(value.device)]
            rows.setdefault(name, []).append(left)
    return _arrays({name: torch.stack(values) for name, values in rows.items()})


def summarize_scales(posteriors: Mapping[str, Posterior], *, draws: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """Quantiles of every scale that fitting has left, as plain numbers: what a report draws.

    :param posteriors: from :func:`pyrosparse.posterior.read`; sites without shared scales are passed over.
    :param draws: from each posterior and, for the scale of a layer, from its prior.
    :param seed: of the draws.
    :returns: one entry a site: ``site``, ``groups`` (original indices), ``low``, ``median`` and ``high`` (3, 50 and
        97 %) of each, how many groups there were, and for a horseshoe ``layer`` with the same quantiles of the layer's
        scale, ``prior`` and ``posterior``.
    """
    rows = []
    for posterior in posteriors.values():
        if not has_scales(posterior):
            continue
        family = _family(posterior)
        site, axis = family.scale.site, family.axis
        assert axis is not None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            drawn, expected = posterior_draws(posterior, draws), prior_draws(posterior, draws)
        left = range(posterior.shape[axis]) if posterior.index is None else posterior.index[axis].tolist()
        row: dict[str, Any] = {
            "site": site,
            "total": posterior.shape[axis],
            "groups": [int(i) for i in left],
            **_quantiles(drawn[site]),
        }
        name = f"{site}.layer"
        if name in drawn:
            # the two factors make the layer's scale: the root of their product
            row["layer"] = {
                kind: _quantiles(np.sqrt(values[name].prod(-1))[:, None])
                for kind, values in (("prior", expected), ("posterior", drawn))
            }
        rows.append(row)
    return rows


def _quantiles(values: NDArray[np.float32]) -> dict[str, list[float]]:
    low, median, high = np.quantile(values, (0.03, 0.5, 0.97), axis=0)
    return {"low": low.tolist(), "median": median.tolist(), "high": high.tolist()}


def scale_dataset(posterior: Posterior, drawn: Draws) -> xr.Dataset:
    """Name the dimensions: ``fc1.scale_group`` is labelled by the groups' original indices."""
    import xarray as xr

    family = _family(posterior)
    site, axis = family.scale.site, family.axis
    assert axis is not None
    left = np.arange(posterior.shape[axis]) if posterior.index is None else posterior.index[axis].cpu().numpy()
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"chain": [0]}
    for name, values in drawn.items():
        dims = ["chain", "draw"]
        coordinates["draw"] = np.arange(len(values))
        for length in values.shape[1:]:
            # the factors of the layer's scale and of each group's: two, along the last axis
            groups = length == len(left) and f"{site}_group" not in dims and name != f"{site}.layer"
            dim = f"{site}_group" if groups else f"{name}_factor"
            dims.append(dim)
            coordinates[dim] = left if dim.endswith("_group") else ["gamma", "inverse gamma"]
        variables[name] = (dims, values[None])
    return xr.Dataset(variables, coords=coordinates)


def _family(posterior: Posterior) -> GroupFamily:
    assert isinstance(posterior.family, GroupFamily)
    return posterior.family


def _arrays(drawn: dict[str, Tensor]) -> Draws:
    return {name: value.detach().cpu().numpy().astype(np.float32) for name, value in drawn.items()}
