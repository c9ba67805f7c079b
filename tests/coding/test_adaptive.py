from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrosparse.coding.adaptive import HEADS, RATES, Walk, code_adaptive, feasible
from pyrosparse.coding.codecs import column_positions, shortest
from pyrosparse.coding.content import Content
from pyrosparse.coding.fileinfo import entropy_bits
from pyrosparse.coding.stream import DamagedStreamError, Meter, Reader, Writer
from pyrosparse.coding.walk import find_walk, mask_rates


def there_and_back(levels: np.ndarray, walk: Walk, places: np.ndarray | None = None) -> float:
    writer = Writer()
    code_adaptive(writer, levels, levels.shape, walk, places=places)
    reader = Reader(*writer.finish())
    got = code_adaptive(reader, None, levels.shape, None, places=places)
    reader.finish()
    np.testing.assert_array_equal(got, levels)
    assert reader.bits == writer.bits
    return writer.bits


def blobs(units: int = 40, side: int = 28, seed: int = 0) -> np.ndarray:
    """Weights of units that each look at a spot of an image: ``(units, side²)``, ten per cent not zero."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    rows, columns = rng.uniform(4, side - 4, (2, units, 1, 1))
    near = np.exp(-((y - rows) ** 2 + (x - columns) ** 2) / (2 * 3.5**2)).reshape(units, -1)
    sign = rng.choice([-1, 1], (units, 1))
    size = 1 + rng.poisson(4 * near)
    return np.where(rng.random(near.shape) < 0.9 * near, sign * size, 0).astype(np.int32)


def noise(shape: tuple[int, int], density: float = 0.05, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.rint(2 * rng.standard_normal(shape) + rng.choice([-4, 4], shape))
    return np.where(rng.random(shape) < density, values, 0).astype(np.int32)


@given(
    st.integers(0, 9),
    st.integers(0, 9),
    st.floats(0, 1),
    st.integers(1, (1 << 24) - 1),
    st.builds(
        Walk, st.booleans(), st.sampled_from([0, 1, 2, 3, 7]), st.sampled_from(RATES), st.sampled_from(HEADS[:4])
    ),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_any_matrix_comes_back(rows: int, columns: int, density: float, top: int, walk: Walk, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.where(rng.random((rows, columns)) < density, rng.integers(-top, top + 1, (rows, columns)), 0)
    places = np.sort(rng.choice(100, columns, replace=False))
    there_and_back(levels.astype(np.int32), walk, places)


def test_neighbours_of_an_image_are_found_and_used() -> None:
    levels = blobs()
    alive = levels.any(axis=0)
    places, levels = np.flatnonzero(alive), levels[:, alive]
    walk = find_walk(levels, places=places)
    assert walk is not None
    assert walk.turned
    assert 27 <= walk.lag <= 29
    bound = entropy_bits(Content("s", None, levels, 1.0))  # type: ignore[arg-type]
    assert there_and_back(levels, walk, places) < 0.7 * bound
    assert there_and_back(levels, Walk(turned=True), places) > 0.75 * bound


def test_correlated_weights_take_the_adaptive_codec_and_noise_stays_near_the_bound() -> None:
    levels = blobs()
    assert shortest("w", Content("s", None, levels, 1.0)).codec == "a"  # type: ignore[arg-type]
    levels = noise((512, 512))
    bound = entropy_bits(Content("s", None, levels, 1.0))  # type: ignore[arg-type]
    walk = find_walk(levels)
    assert walk is not None
    assert there_and_back(levels, walk) < 1.01 * bound


def test_rates_of_rows_and_columns_are_learnt() -> None:
    rng = np.random.default_rng(0)
    rates = np.outer(rng.gamma(0.5, size=120), rng.gamma(0.5, size=200))
    levels = (rng.random(rates.shape) < 0.2 * rates).astype(np.int32)
    walk = find_walk(levels)
    assert walk is not None
    bound = entropy_bits(Content("s", None, levels, 1.0))  # type: ignore[arg-type]
    assert there_and_back(levels, walk) < 0.9 * bound


def test_probabilities_of_the_mask() -> None:
    levels = blobs()
    levels = levels[:, levels.any(axis=0)]
    walk = find_walk(levels)
    assert walk is not None
    rates = mask_rates(levels, walk)
    assert rates.shape == levels.shape
    p = np.where(levels != 0, rates, 1 - rates)
    meter = Meter()
    code_adaptive(meter, levels, levels.shape, walk)
    assert -np.log2(p).sum() == pytest.approx(meter.lengths["mask"], abs=40)


def test_positions_of_columns() -> None:
    places = np.array([3, 5, 6])
    assert column_positions(places, 3).tolist() == [3, 5, 6]  # type: ignore[union-attr]
    assert column_positions(places, 6).tolist() == [6, 7, 10, 11, 12, 13]  # type: ignore[union-attr]
    assert column_positions(places, 4) is None
    assert column_positions(places[::-1], 3) is None
    assert column_positions(None, 3) is None


def test_matrices_of_very_many_lines_are_left_to_the_other_codec() -> None:
    assert feasible(2048, 1)
    assert not feasible(4000, 4)
    tall = np.ones((4000, 4), np.int32)
    walk = find_walk(tall)
    assert walk is not None
    assert walk.turned
    writer = Writer()
    with pytest.raises(DamagedStreamError, match="lines"):
        code_adaptive(writer, tall, tall.shape, Walk())


def test_the_walk_follows_signs_where_the_mask_is_full() -> None:
    """Filters of an image that are smooth but dense: the lag of a row shows in the signs alone."""
    side, units = 14, 24
    generator = np.random.default_rng(0)
    field = generator.normal(size=(units, side + 4, side + 4))
    smooth = sum(field[:, i : i + side, j : j + side] for i in range(4) for j in range(4)).reshape(units, -1)
    levels = (np.sign(smooth) * generator.integers(1, 6, smooth.shape)).astype(np.int32)
    walk = find_walk(levels)
    assert walk is not None
    assert (walk.turned, walk.lag) == (True, side)
    saved = length(levels, replace(walk, lag=0)) - length(levels, walk)
    assert saved > 0.2 * levels.size  # bits, of one a sign


def length(levels: np.ndarray, walk: Walk) -> float:
    meter = Meter()
    code_adaptive(meter, levels, levels.shape, walk)
    return meter.bits
