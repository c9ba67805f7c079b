from __future__ import annotations

import math

import pytest
import torch

from pyrosparse.data import TensorLoader
from pyrosparse.errors import PruneError
from pyrosparse.pruning.masks import keep_masks
from pyrosparse.pruning.pruned import Candidate
from pyrosparse.pruning.threshold import between, candidates, smallest_within, try_thresholds
from tests.pruning.networks import mean_network, mlp, pair


def kept(guide: object, threshold: float) -> int:
    return sum(int(f.keep(threshold).sum()) for f in guide.families.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_candidates_keep_from_ten_weights_to_all(dtype: torch.dtype) -> None:
    _, guide = pair(mlp(30, 40, 3).to(dtype), scatter=4.0)
    found = candidates(guide.families)
    assert found == sorted(set(found))
    counts = [kept(guide, t) for t in found]
    assert counts[0] == 10
    assert counts[-1] == 30 * 40 + 40 * 3
    assert len(counts) == 25
    ratios = [b / a for a, b in zip(counts, counts[1:], strict=False)]
    # even steps of the logarithm, but for rounding to whole weights
    step = (counts[-1] / counts[0]) ** (1 / 24)
    assert all(abs(math.log(r / step)) < 0.07 for r in ratios)


def test_candidates_of_a_tiny_network() -> None:
    _, guide = pair(mlp(3, 2))
    (only,) = candidates(guide.families)
    assert kept(guide, only) == 6


def test_candidates_do_not_depend_on_the_scale_of_relevance() -> None:
    _, guide = pair(mlp(30, 3).double(), scatter=1e-6)
    assert [kept(guide, t) for t in candidates(guide.families, 5)] == [10, 17, 30, 52, 90]


def test_candidates_leave_out_what_was_removed_before() -> None:
    _, guide = pair(mlp(10, 4, 3))
    for family in guide.families.values():
        family.freeze(torch.rand(family.loc.shape) < 0.5)
    left = sum(int(f.frozen.sum()) for f in guide.families.values())
    assert kept(guide, candidates(guide.families)[-1]) == left
    for family in guide.families.values():
        family.freeze(torch.zeros_like(family.frozen))
    with pytest.raises(PruneError, match="every weight has been removed"):
        candidates(guide.families)


def test_between_lies_strictly_between() -> None:
    _, guide = pair(mlp(30, 40, 3), scatter=4.0)
    low, high = -3.0, -1.0
    found = between(guide.families, low, high)
    assert len(found) == 8
    assert found == sorted(found)
    assert all(low < t < high for t in found)
    counts = [kept(guide, t) for t in (low, *found, high)]
    steps = [b - a for a, b in zip(counts, counts[1:], strict=False)]
    assert max(steps) - min(steps) <= 3
    assert between(guide.families, -2.0, -2.0) == []


def test_errors_are_those_of_the_masked_network() -> None:
    model, guide = pair(mlp(5, 8, 3), scatter=4.0)
    x = torch.randn(50, 5)
    y = torch.randint(0, 3, (50,))
    loader = TensorLoader(x, y, batch_size=20, shuffle=False)
    thresholds = candidates(guide.families, 4)
    tried = try_thresholds(model.network, guide.families, thresholds, loader, None)
    assert [c.threshold for c in tried] == thresholds
    for candidate in tried:
        masks = keep_masks(guide.families, candidate.threshold)
        assert candidate.kept == sum(int(m.sum()) for m in masks.values())
        network = mean_network(model, guide, candidate.threshold)
        assert candidate.error == pytest.approx(float((network(x).argmax(1) != y).float().mean()))


def test_smallest_within() -> None:
    tried = [Candidate(1.0, 10, 0.5), Candidate(2.0, 20, 0.11), Candidate(3.0, 30, 0.2), Candidate(4.0, 40, 0.1)]
    assert smallest_within(tried, 0.1, 0.02).kept == 20
    assert smallest_within(tried, 0.1, 0.0).kept == 40
    assert smallest_within(tried, 0.1, 1.0).kept == 10
    with pytest.raises(PruneError, match=r"within 0.01 of 0.05; the best, log α ≤ 4, has 0.1: allow more"):
        smallest_within(tried, 0.05, 0.01)
    with pytest.raises(PruneError):
        smallest_within([Candidate(1.0, 10, math.nan)], 0.1, 0.1)
