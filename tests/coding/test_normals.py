"""The shared draws: against scipy's quantiles, the moments of the normal law, and golden numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pyrosparse.coding.normals import LANES, UNIT, normals, quantiles, shuffled


def test_quantiles_are_those_of_the_normal_law() -> None:
    exact = stats.norm.ppf((2 * np.arange(1 << 13) + 1) / (1 << 14)) * UNIT
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-5  # no tie that a last bit could turn
    assert np.array_equal(quantiles(), np.rint(exact).astype(np.int32))
    assert (quantiles() != 0).all()  # a weight that is sent stays in the mask


def test_golden_numbers() -> None:
    got = normals(0x1234, np.array([0, 1, 1 << 40]), np.array([0, 7, (1 << 20) - 1]))
    assert got.tolist() == [[-4029, 255, 4978, -1888], [4218, 3094, 1436, 2529], [2549, -1632, 3348, -3916]]
    assert shuffled(7, 10).tolist() == [7, 9, 5, 0, 3, 2, 1, 4, 8, 6]


@pytest.mark.parametrize("axis", ["groups", "indices"])
def test_draws_are_normal_and_independent(axis: str) -> None:
    count = np.arange(1 << 15)
    groups, indices = (count, count[:1]) if axis == "groups" else (count[:1], count)
    z = normals(99, groups, indices).astype(float) / UNIT
    law = stats.norm.ppf((2 * np.arange(1 << 13) + 1) / (1 << 14))
    for moment in (1, 2, 3, 4):
        error = z**moment - (law**moment).mean()
        assert abs(error.mean()) < 4.5 * error.std() / np.sqrt(z.size)
    flat = z.reshape(-1)
    for lag in (1, 2, 3, LANES, 5, 64, 1024):
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 4.5 / np.sqrt(flat.size)
    assert stats.kstest(flat, "norm").pvalue > 1e-4


def test_keys_tell_sequences_apart() -> None:
    groups = np.arange(4096)
    first, second = (normals(key, groups, groups[:1]).reshape(-1) / UNIT for key in (1, 2))
    assert abs((first * second).mean()) < 4.5 / np.sqrt(first.size)


def test_shuffles_are_permutations_without_a_trend() -> None:
    order = shuffled(3, 5000)
    assert np.array_equal(np.sort(order), np.arange(5000))
    assert abs(stats.spearmanr(order, np.arange(5000)).statistic) < 4.5 / np.sqrt(5000)
