"""Choosing a threshold on validation data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pyrosparse.errors import PruneError
from pyrosparse.guides.family import Family
from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.likelihoods import Likelihood
from pyrosparse.pruning.masks import count_kept, keep_masks, masked_network
from pyrosparse.pruning.pruned import Candidate

__all__ = ["between", "candidates", "smallest_within", "try_thresholds"]


def candidates(families: Mapping[str, Family], count: int = 25) -> list[float]:
    """Thresholds worth trying: from all weights down to one in ten thousand, evenly in the logarithm of how many stay.

    They are values of −relevance, so they suit any family, whatever the scale of its relevance.

    :param families: posterior of each site.
    :param count: how many to return at most; ascending.
    :raises PruneError: if a mask that was fixed before has left no weight.
    """
    relevance = _relevance(families)
    ordered = relevance[torch.isfinite(relevance)].sort(descending=True).values
    if len(ordered) == 0:
        raise PruneError("every weight has been removed before: there is no threshold to choose")
    least = max(10, len(ordered) // 10_000)
    if len(ordered) <= least:
        return [-float(ordered[-1])]
    kept = torch.logspace(0, 1, count, base=len(ordered) / least).mul(least).round().long().clamp(1, len(ordered))
    return sorted({-float(ordered[k - 1]) for k in kept})


def try_thresholds(
    network: nn.Module,
    families: Mapping[str, Family],
    thresholds: Sequence[float],
    loader: Batches,
    likelihood: Likelihood | None,
) -> list[Candidate]:
    """Measure the validation error of the posterior mean at each threshold."""
    tried = []
    for threshold in thresholds:
        masks = keep_masks(families, threshold)
        error = evaluate(masked_network(network, families, masks), loader, likelihood=likelihood).error
        tried.append(Candidate(threshold, count_kept(families, masks), error))
    return tried


def between(families: Mapping[str, Family], low: float, high: float, count: int = 8) -> list[float]:
    """Further thresholds strictly between two, evenly in the number of weights that they keep."""
    relevance = _relevance(families)
    inside = relevance[(relevance < -low) & (relevance > -high)].sort(descending=True).values
    if len(inside) == 0:
        return []
    picks = torch.linspace(0, len(inside) - 1, count + 2)[1:-1].round().long()
    return sorted({-float(inside[k]) for k in picks})


def smallest_within(
    tried: Sequence[Candidate], dense_error: float, tolerance: float, *, statistic: str = "log α"
) -> Candidate:
    """The candidate that keeps fewest weights at an error of at most ``dense_error + tolerance``.

    :param statistic: what thresholds are compared with, for the message.

    :raises PruneError: when none does.
    """
    good = [c for c in tried if c.error is not None and c.error <= dense_error + tolerance]
    if not good:
        best = min(tried, key=lambda c: (c.error if c.error is not None else math.inf, c.kept))
        raise PruneError(
            f"no threshold keeps the validation error within {tolerance:.3g} of {dense_error:.4g}; the best, "
            f"{statistic} ≤ {best.threshold:.3g}, has {best.error or 0.0:.4g}: allow more, or fit longer"
        )
    return min(good, key=lambda c: (c.kept, c.error))


def _relevance(families: Mapping[str, Family]) -> Tensor:
    """Relevance of every weight in one vector; in double precision, so that a threshold is met exactly."""
    return torch.cat([f.relevance().flatten().double().cpu() for f in families.values()])
