from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrosparse.coding.mask import code_mask
from pyrosparse.coding.stream import Meter, Reader, Writer


def there_and_back(mask: np.ndarray) -> np.ndarray:
    writer = Writer()
    code_mask(writer, mask, *mask.shape)
    reader = Reader(*writer.finish())
    got = code_mask(reader, None, *mask.shape)
    reader.finish()
    return got


def bits_of(mask: np.ndarray) -> float:
    meter = Meter()
    code_mask(meter, mask, *mask.shape)
    return meter.bits


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_masks_come_back(rows: int, columns: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    np.testing.assert_array_equal(there_and_back(mask), mask)


@pytest.mark.parametrize("turned", [False, True])
def test_rows_of_unequal_density_cost_less(turned: bool) -> None:
    rng = np.random.default_rng(0)
    rates = np.repeat([0.005, 0.2], 32)[:, None]
    mask = rng.random((64, 400)) < rates
    even = rng.permutation(mask.reshape(-1)).reshape(mask.shape)
    mask, even = (mask.T, even.T) if turned else (mask, even)
    np.testing.assert_array_equal(there_and_back(mask), mask)
    assert bits_of(mask) < 0.9 * bits_of(even)


def test_dead_rows_and_columns_cost_little() -> None:
    rng = np.random.default_rng(0)
    inner = rng.random((20, 30)) < 0.1
    outer = np.zeros((2000, 3000), bool)
    outer[np.ix_(rng.permutation(2000)[:20], rng.permutation(3000)[:30])] = inner
    np.testing.assert_array_equal(there_and_back(outer), outer)
    assert bits_of(outer) < bits_of(inner) + 700  # log2 of the ways to choose 20 of 2000 and 30 of 3000: 489


@pytest.mark.parametrize("full", [False, True])
def test_uniform_masks_are_nearly_free(full: bool) -> None:
    assert bits_of(np.full((5000, 500), full)) < 40
