"""Rows of the comparison of reconstruction with a posterior: what each makes of the same dense network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import compression
from lenet_groups import ROWS as GROUP_ROWS
from lenet_groups import GroupRecipe, fit_groups
from mnist import Data
from torch import nn

import pyrosparse as ps
from pyrosparse.data import TensorLoader
from pyrosparse.pruning import Pruned, as_pruned
from pyrosparse.reconstruction import reconstruct


@dataclass(frozen=True)
class Ending:
    """What a row chooses from on validation data; both grids are geometric, and grow where a choice is at an end.

    :param cuts: tolerances of pruning (Sparse VD, GHS), or λ/λ_max of reconstruction where it comes last, ascending.
    :param steps: c, ascending: the unit of a layer's step is the median posterior deviation of its kept weights, or an
        eighth of their root mean square where there is no posterior.
    :param epochs: of training through the rounding.
    :param lr: in units of the step.
    """

    cuts: tuple[float, ...]
    steps: tuple[float, ...]
    epochs: int = 6
    lr: float = 5e-3


@dataclass(frozen=True)
class Recipe:
    """Everything that the rows depend on; written into the JSON.

    :param level: validation error that a file of any row and seed may have.
    :param widenings: how often a grid may grow by a value at each end.
    :param images: of the training data, for the moments.
    :param ratios: λ/λ_max that reconstruction before Sparse VD chooses from: the largest one whose network is within
        the level before it is trained.
    """

    sparse: compression.Recipe
    groups: GroupRecipe
    pretrain_epochs: int = 6
    level: float = 0.023
    widenings: int = 4
    images: int = 10_000
    ratios: tuple[float, ...] = (0.002, 0.005, 0.01, 0.02, 0.03)
    after_fit: Ending = Ending((0.005, 0.01, 0.02, 0.04), (2.5, 4.0, 6.4, 10.2))
    after_reconstruction: Ending = Ending((0.03, 0.05, 0.083, 0.14), (12.0, 20.0, 33.0))
    after_both: Ending = Ending((0.03, 0.05, 0.083, 0.14), (4.0, 6.4, 10.2))
    group_cut: float = 0.002

    @classmethod
    def of(cls, *, epochs: int, ending: int) -> Recipe:
        """All fits with the same number of epochs, and all endings."""
        recipe = cls(compression.Recipe("lenet_300_100", epochs=epochs), replace(GROUP_ROWS["ghs-300"], epochs=epochs))
        return replace(
            recipe,
            after_fit=replace(recipe.after_fit, epochs=ending),
            after_reconstruction=replace(recipe.after_reconstruction, epochs=ending),
            after_both=replace(recipe.after_both, epochs=ending),
        )


@dataclass(frozen=True)
class Start:
    """What all rows of a seed share."""

    seed: int
    dense: nn.Module
    data: Data
    recipe: Recipe

    @property
    def parameters(self) -> int:
        """Numbers of the network before any cut."""
        return sum(p.numel() for p in self.dense.parameters())


# makes the cut at a value of the grid; what it chooses from; CPU seconds of earlier runs of its fit
Candidates = tuple[Callable[[float], Pruned], Ending, float]


def reconstructed(network: nn.Module, start: Start, ratio: float) -> nn.Module:
    """Reconstruct, and say what came of it."""
    train, images = start.data.train, start.recipe.images
    loader = TensorLoader(train.x[:images], train.y[:images], 1000, shuffle=False)
    small, report = reconstruct(network, loader, lam_ratio=ratio, chaining="bottom-up", refit=True)
    error = ps.evaluate(small, start.data.val).error
    print(f"  λ/λ_max {ratio:g}: {report.kib:.0f} KiB, val {100 * error:.2f} %", flush=True)
    return small


def by_reconstruction(start: Start) -> Candidates:
    """Reconstruction alone."""

    def cut(ratio: float) -> Pruned:
        return as_pruned(reconstructed(start.dense, start, ratio), original_parameters=start.parameters)

    return cut, start.recipe.after_reconstruction, 0.0


def by_sparse_vd(start: Start, network: nn.Module | None = None, name: str = "sparse-vd") -> Candidates:
    """Sparse VD of the dense network, or of another."""
    recipe, data = start.recipe, start.data
    name = f"reconstruction-together-{name}-seed{start.seed}"
    network = start.dense if network is None else network
    model, guide, _, seconds = compression.fit_posterior(network, data.train, data, recipe.sparse, name)
    return pruned_within(model, guide, start), recipe.after_fit, seconds


def by_reconstruction_and_sparse_vd(start: Start) -> Candidates:
    """Reconstruction as far as it stays within the level, then Sparse VD."""
    bound = start.recipe.level
    tried = [reconstructed(start.dense, start, ratio) for ratio in start.recipe.ratios]
    within = [network for network in tried if ps.evaluate(network, start.data.val).error <= bound]
    return by_sparse_vd(start, (within or tried[:1])[-1], "reconstruction-sparse-vd")


def by_groups(start: Start) -> Candidates:
    """GHS alone."""
    model, guide, seconds = fit_horseshoe(start)
    return pruned_within(model, guide, start), start.recipe.after_fit, seconds


def by_groups_and_reconstruction(start: Start) -> Candidates:
    """GHS, then reconstruction of what it leaves."""
    recipe = start.recipe
    model, guide, seconds = fit_horseshoe(start)
    options = {"threshold": "auto", "val_loader": start.data.val, "tolerance": recipe.group_cut}
    pruned = compression.prune_to(model, guide, start.parameters, **options)

    def cut(ratio: float) -> Pruned:
        network = reconstructed(pruned.network, start, ratio)
        return as_pruned(network, original_parameters=start.parameters, before=pruned)

    return cut, recipe.after_both, seconds


def fit_horseshoe(start: Start) -> tuple[ps.SparseModel, ps.guides.AutoSparse, float]:
    """The one fit of GHS that two rows share; the second one reads it back."""
    name = f"reconstruction-together-ghs-seed{start.seed}"
    model, guide, _, seconds = fit_groups(start.dense, start.data.train, start.data, start.recipe.groups, name)
    return model, guide, seconds


def pruned_within(model: ps.SparseModel, guide: ps.guides.AutoSparse, start: Start) -> Callable[[float], Pruned]:
    """Prune at a tolerance."""

    def cut(tolerance: float) -> Pruned:
        options = {"threshold": "auto", "val_loader": start.data.val, "tolerance": tolerance}
        return compression.prune_to(model, guide, start.parameters, **options)

    return cut


ROWS: dict[str, Callable[[Start], Candidates]] = {
    "reconstruction": by_reconstruction,
    "sparse-vd": by_sparse_vd,
    "reconstruction, sparse-vd": by_reconstruction_and_sparse_vd,
    "ghs": by_groups,
    "ghs, reconstruction": by_groups_and_reconstruction,
}
ALONE = {
    "reconstruction, sparse-vd": ("reconstruction", "sparse-vd"),
    "ghs, reconstruction": ("reconstruction", "ghs"),
}
