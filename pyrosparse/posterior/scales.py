"""The scales of groups of weights as named arrays: what a forest plot of a layer shows."""

from __future__ import annotations

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

__all__ = ["has_scales", "prior_draws", "posterior_draws", "scale_dataset"]

Draws = dict[str, NDArray[np.float32]]


def has_scales(posterior: Posterior) -> bool:
    """Whether the weights of a site share scales along one of its axes."""
    return isinstance(posterior.family, GroupFamily) and posterior.family.axis is not None


@torch.no_grad()
def posterior_draws(posterior: Posterior, draws: int) -> Draws:
    """Draws at each site of the scales, and of the scales z themselves; the first axis is the draw."""
    scale = _family(posterior).scale
    drawn = {name: q.sample((draws,)) for name, q in scale.posteriors().items()}
    return _arrays(drawn | {scale.site: scale.compose(drawn)})


@torch.no_grad()
def prior_draws(posterior: Posterior, draws: int) -> Draws:
    """The same from the prior, for the groups that are left."""
    family = _family(posterior)
    prior, scale = family.prior, family.scale
    assert isinstance(prior, GroupPrior)
    shape = family.distribution().event_shape
    rows: dict[str, list[Tensor]] = {}
    for _ in range(draws):
        trace = poutine.trace(prior.scale).get_trace(scale.site, shape)
        drawn: dict[str, Any] = {n: node["value"] for n, node in trace.nodes.items() if node["type"] == "sample"}
        for name, value in (drawn | {scale.site: scale.compose(drawn)}).items():
            rows.setdefault(name, []).append(value)
    return _arrays({name: torch.stack(values) for name, values in rows.items()})


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
