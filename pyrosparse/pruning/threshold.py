"""Choosing a threshold on validation data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from pyrosparse.errors import PruneError
from pyrosparse.guides.family import Family
from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.likelihoods import Likelihood
from pyrosparse.pruning.masks import keep_masks, masked_network
from pyrosparse.pruning.pruned import Candidate

__all__ = ["between", "candidates", "smallest_within", "try_thresholds"]


def candidates(families: Mapping[str, Family], count: int = 25) -> list[float]:
    """Thresholds worth trying: from all weights down to one in ten thousand, evenly in the logarithm of how many stay.

    They are values of −relevance, so they suit any family, whatever the scale of its relevance.

    :param families: posterior of each site.
    :param count: how many to return at most; ascending.
    """
    relevance = torch.cat([f.relevance().flatten().float().cpu() for f in families.values()])
    ordered = relevance[torch.isfinite(relevance)].sort(descending=True).values
    least = max(10, len(ordered) // 10_000)
    if len(ordered) <= least:
        return [-float(ordered[-1])]
    kept = torch.logspace(0, 1, count, base=len(ordered) / least).mul(least).round().long().clamp(1, len(ordered))
    return sorted({round(-float(ordered[k - 1]), 4) for k in kept})


def try_thresholds(
    network: nn.Module,
    families: Mapping[str, Family],
    thresholds: Sequence[float],
    loader: Batches,
    likelihood: Likelihood | None,
    *,
    size_of: Callable[[float], int] | None = None,
) -> list[Candidate]:
    """Measure the validation error of the posterior mean at each threshold.

    :param size_of: gives the bytes of the file at a threshold, where it is asked for.
    """
    tried = []
    for threshold in thresholds:
        masks = keep_masks(families, threshold)
        error = evaluate(masked_network(network, families, masks), loader, likelihood=likelihood).error
        kept = sum(int(mask.sum()) for mask in masks.values())
        tried.append(Candidate(threshold, kept, error, None if size_of is None else size_of(threshold)))
    return tried


def between(families: Mapping[str, Family], low: float, high: float, count: int = 8) -> list[float]:
    """Further thresholds strictly between two, evenly in the number of weights that they keep."""
    relevance = torch.cat([f.relevance().flatten().float().cpu() for f in families.values()])
    inside = relevance[(relevance < -low) & (relevance > -high)].sort(descending=True).values
    if len(inside) == 0:
        return []
    picks = torch.linspace(0, len(inside) - 1, count + 2)[1:-1].round().long()
    return sorted({round(-float(inside[k]), 4) for k in picks} - {low, high})


def smallest_within(tried: Sequence[Candidate], dense_error: float, tolerance: float) -> Candidate:
    """The candidate that keeps fewest weights at an error of at most ``dense_error + tolerance``.

    :raises PruneError: when none does.
    """
    good = [c for c in tried if c.error is not None and c.error <= dense_error + tolerance]
    if not good:
        best = min(tried, key=lambda c: (c.error if c.error is not None else 2.0, c.kept))
        raise PruneError(
            f"no threshold keeps the validation error within {100 * tolerance:.2f} points of {100 * dense_error:.2f} %; "
            f"the best, {best.threshold:.3g}, has {100 * (best.error or 0.0):.2f} %: allow more, or fit longer"
        )
    return min(good, key=lambda c: (c.kept, c.error))
