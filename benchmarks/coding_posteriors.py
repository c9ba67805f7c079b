"""Posteriors that the tables of networks have left in the cache, pruned as there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from common import CACHE, RESULTS
from compression import Recipe, prune_to
from lenet_300_100 import ROWS as LENET_300
from lenet_groups import ROWS as GROUPS
from lenet_groups import GroupRecipe

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.infer.checkpoint import load_checkpoint
from pyrosparse.pruning.shrink import cut_to

__all__ = ["SOURCES", "Source", "read_back"]


@dataclass(frozen=True)
class Source:
    """Where the posterior of a row and seed is.

    :param name: of its files.
    :param recipe: how it was fitted.
    """

    name: str
    recipe: Recipe | GroupRecipe

    def pair(self, num_data: int) -> tuple[ps.SparseModel, guides.AutoSparse]:
        """Model and guide as they were before the fit; their numbers do not matter."""
        recipe, likelihood = self.recipe, ps.likelihoods.Categorical(num_data=num_data)
        network = models.build(recipe.network)
        if isinstance(recipe, GroupRecipe):
            model = ps.SparseModel(network, getattr(priors, recipe.prior)(**recipe.options), likelihood)
            criterion = guides.Criterion(recipe.criterion)
            return model, guides.AutoSparse(model, log_var=recipe.log_var, max_std=recipe.max_std, criterion=criterion)
        prior = {"log-uniform": priors.LogUniform, "ARD": priors.ARD}[recipe.prior]()
        model = ps.SparseModel(network, prior, likelihood)
        return model, guides.AutoSparse(model, log_var=recipe.log_var)

    def result(self) -> dict[str, Any]:
        """What the table of the row has of this seed: threshold, bytes and errors of its file."""
        found: dict[str, Any] = json.loads((RESULTS / f"{self.name}.json").read_text())
        errors = found.get("file") or {f"{k}_error": found[f"{k}_error"]["file"] for k in ("val", "test")}
        path = RESULTS / f"{self.name}.psz"
        return {"threshold": found["threshold"], "bytes": path.stat().st_size} | {
            k: errors[k] for k in ("val_error", "test_error")
        }


SOURCES = {
    "LeNet-300-100, Sparse VD, no aids, seed 40": Source("lenet_300_100-plain-seed40", LENET_300["plain"]),
    "LeNet-300-100, ARD, no aids, seed 40": Source("lenet_300_100-ard-seed40", LENET_300["ard"]),
    "LeNet-300-100, Sparse VD, aided, seed 40": Source("lenet_300_100-aided-seed40", LENET_300["aided"]),
    "LeNet-300-100, GHS, seed 40": Source("lenet_groups-ghs-300-seed40", GROUPS["ghs-300"]),
    "LeNet-5, GHS, seed 46": Source("lenet_groups-ghs-5-seed46", GROUPS["ghs-5"]),
}
"""By the name of the row in the table of coders."""


def read_back(source: Source, num_data: int, example: Any) -> ps.Pruned:
    """The pruned network of a row and seed, with its deviations.

    :param num_data: of the data on which it will go on.
    :param example: a batch of inputs.
    :raises SystemExit: if the fit is not in the cache.
    """
    folders = sorted(CACHE.glob(f"{source.name}-*/last.pt"))
    if len(folders) != 1:
        raise SystemExit(
            f"{source.name}: {len(folders)} fits in the cache where there must be one: run its table first"
        )
    model, guide = source.pair(num_data)
    model.remember(example)
    original = model.original_parameters
    saved = load_checkpoint(folders[0].parent)
    assert saved is not None
    cut_to(model, guide, {layer: tuple(pair) for layer, pair in saved["kept"].items()})
    model.load_state_dict(saved["model"])
    guide.load_state_dict(saved["guide"])
    return prune_to(model, guide, original, threshold=source.result()["threshold"])
