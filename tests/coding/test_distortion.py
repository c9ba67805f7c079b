from __future__ import annotations

import numpy as np
import pytest

from pyrosparse.coding import quantise
from pyrosparse.coding.adaptive import code_adaptive
from pyrosparse.coding.distortion import weigh_rate
from pyrosparse.coding.precision import make_plan
from pyrosparse.coding.stream import Meter
from pyrosparse.coding.walk import find_walk
from pyrosparse.errors import NetworkError
from tests.coding.networks import equal, lenet
from tests.coding.test_adaptive import blobs


def length(levels: np.ndarray) -> float:
    """Bits of the adaptive codec."""
    levels = levels.astype(np.int32)
    meter = Meter()
    code_adaptive(meter, levels, levels.shape, find_walk(levels))
    return meter.bits


def test_without_weight_of_the_rate_it_rounds() -> None:
    pruned = lenet()
    assert equal(quantise(pruned, 1.0, rate_weight=0.0).network, quantise(pruned, 1.0).network)
    w = np.array([[0.0, 0.26, -0.9, 3.4]])
    assert weigh_rate(w, np.ones_like(w), 0.5, 0.0).tolist() == [[0, 1, -2, 7]]


def test_files_are_smaller_at_the_same_error() -> None:
    """Weights in spots, and single ones that are no larger than their own uncertainty."""
    rng = np.random.default_rng(0)
    mask = blobs() != 0
    w = np.where(mask, rng.choice([-1, 1], mask.shape) * rng.gamma(2.0, 2.0, mask.shape), 0)
    w += np.where(~mask & (rng.random(mask.shape) < 0.02), rng.choice([-0.9, 0.9], mask.shape), 0)
    coarse, weighed = np.rint(w / 1.7), weigh_rate(w, np.ones_like(w), 1.0, 0.1)
    error = [((w - k * step) ** 2).sum() for k, step in ((coarse, 1.7), (weighed, 1.0))]
    assert error[1] < error[0]
    assert length(weighed) < 0.95 * length(coarse)


@pytest.mark.parametrize("rate_weight", [0.05, 0.5, 5.0, 1e6])
def test_integers_stay_beside_the_weight_or_go_to_zero(rate_weight: float) -> None:
    rng = np.random.default_rng(0)
    w = np.where(rng.random((30, 40)) < 0.3, 3 * rng.standard_normal((30, 40)), 0)
    sigma = np.full_like(w, 0.5)
    sigma[0] = 0  # known exactly: rounded
    k = weigh_rate(w, sigma, 0.5, rate_weight)
    assert (k[w == 0] == 0).all()
    assert (k[0] == np.rint(w[0] / 0.5)).all()
    moved = k != np.rint(w / 0.5)
    assert moved.any()
    assert ((np.abs(k - w / 0.5) <= 1.5) | (k == 0)).all()
    if rate_weight > 1e5:
        assert not k[1:].any()


def test_precise_weights_do_not_move() -> None:
    w = np.random.default_rng(0).standard_normal((20, 20))
    k = weigh_rate(w, np.full_like(w, 1e-4), 0.1, 1.0)
    np.testing.assert_array_equal(k, np.rint(w / 0.1))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_bad_weights_of_the_rate_are_refused(bad: float) -> None:
    pruned = lenet()
    with pytest.raises(NetworkError, match="rate_weight"):
        make_plan(pruned.network, pruned.sigma, 1.0, rate_weight=bad)
