from __future__ import annotations

import math
from decimal import ROUND_UP, Context, Inexact, Subnormal, localcontext
from typing import Any

import numpy as np
import pytest

from pyrosparse.coding.logistic import ONE, UNIT, WEIGHT, Mixer, Rates, _logarithms, _logistic, log_of, squash
from pyrosparse.coding.normals import quantiles


def test_logarithms_are_close_and_squash_is_their_inverse() -> None:
    counts = np.array([1, 2, 3, 10, 4095, 4096, 99_999, 1 << 40])
    np.testing.assert_allclose(log_of(counts) / UNIT, np.log(counts), atol=2e-3)
    p = np.array([1e-4, 0.01, 0.3, 0.5, 0.9, 0.999])
    log_odds = np.rint(np.log(p / (1 - p)) * UNIT).astype(np.int64)
    np.testing.assert_allclose(squash(log_odds) / ONE, p, rtol=3e-3)


def test_the_tables_do_not_change() -> None:
    """Files decode by them: the sum of each table, and a few entries."""
    assert log_of(np.arange(1, 4096)).sum() == 122_758_454
    everywhere = squash(np.arange(-12 * UNIT, 12 * UNIT + 1, 16))
    assert everywhere.sum() == 12_886_999_040
    assert everywhere[[0, 3072, 6144]].tolist() == [26, ONE // 2, ONE - 26]
    assert squash(np.array([-(10**9), 10**9])).tolist() == [26, ONE - 26]


def test_rates_start_from_the_common_rate_and_follow_the_counts() -> None:
    rates = Rates(np.array([4, 4]))
    np.testing.assert_allclose(rates.odds(1, 9) / UNIT, math.log(1 / 9), atol=0.05)
    bits = np.array([1] * 90 + [0] * 10, np.int8)
    rates.learn(np.zeros((1, 100), np.int64), bits)
    learnt = rates.odds(1, 9) / UNIT
    assert learnt[0] == pytest.approx(math.log(90.4 / 13.6), abs=0.02)
    assert learnt[1] == pytest.approx(math.log(1 / 9), abs=0.05)


def test_a_mixer_learns_which_feature_to_trust() -> None:
    rng = np.random.default_rng(0)
    mixer = Mixer([WEIGHT // 2, WEIGHT // 2])
    costs = []
    for _ in range(300):
        truth = rng.choice([-2.0, 2.0], 50)
        bits = (rng.random(50) < 1 / (1 + np.exp(-truth))).astype(np.int8)
        noise = rng.choice([-2.0, 2.0], 50)
        p = mixer.predict(np.rint(np.stack([truth, noise]) * UNIT).astype(np.int64)) / ONE
        costs.append(-np.log2(np.where(bits, p, 1 - p)).mean())
        mixer.learn(bits)
    p = 1 / (1 + math.exp(-2))
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    assert costs[0] > 1.2 * entropy
    assert np.mean(costs[100:]) < 1.02 * entropy


@pytest.mark.parametrize("table", [_logarithms, _logistic, quantiles])
def test_the_tables_do_not_follow_the_decimals_of_the_program_around(table: Any) -> None:
    with localcontext(Context(prec=3, rounding=ROUND_UP, Emax=5, Emin=-5, traps=[Inexact, Subnormal])):
        made = table.__wrapped__()
    np.testing.assert_array_equal(made, table())
