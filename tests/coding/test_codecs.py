from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrosparse.coding.codecs import fetch, send
from pyrosparse.coding.content import Content, patterns
from pyrosparse.coding.stream import Reader, Writer


def there_and_back(content: Content, shape: tuple[int, ...]) -> Content:
    writer = Writer()
    send(writer, "w", content)
    reader = Reader(*writer.finish())
    got = fetch(reader, "w", content.codec, shape, content.dtype)
    reader.finish()
    np.testing.assert_array_equal(got.levels, content.levels)
    assert torch.equal(got.tensor(), content.tensor())
    return got


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (2, 0), (4, 3, 2, 2)])
@pytest.mark.parametrize("codec", ["s", "u"])
def test_quantised(codec: str, shape: tuple[int, ...]) -> None:
    levels = np.random.default_rng(0).integers(-3, 4, shape)
    there_and_back(Content(codec, torch.float32, np.asarray(levels), 0.5), shape)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128],
)
def test_exact_numbers_of_every_type(dtype: torch.dtype) -> None:
    value = torch.randn(4, 3, dtype=torch.float64).to(dtype)
    value[1] = 0
    if dtype == torch.float32:
        value[2, 2], value[3, 0], value[3, 1] = -0.0, 1e-42, -3e38  # a negative zero is not a zero
    got = there_and_back(Content("x", dtype, patterns(value)), (4, 3)).tensor()
    assert got.dtype == dtype
    assert torch.equal(got, value)
    if dtype == torch.float32:
        assert torch.signbit(got[2, 2])


def test_complex_weights_on_a_grid() -> None:
    levels = np.random.default_rng(0).integers(-3, 4, (4, 3, 2))
    got = there_and_back(Content("s", torch.complex64, levels, 0.25), (4, 3)).tensor()
    assert got.shape == (4, 3)
    assert torch.equal(torch.view_as_real(got), torch.from_numpy(levels) * 0.25)


def test_half_precision() -> None:
    value = torch.randn(9).to(torch.float16)
    levels = value.view(torch.int16).numpy().astype(np.int64) & 0xFFFF
    assert torch.equal(there_and_back(Content("h", torch.float16, levels), (9,)).tensor(), value)


@given(st.lists(st.integers(-5, 3000), max_size=30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_index_maps_come_back(values: list[int], rising: bool) -> None:
    levels = np.array(sorted(set(values)) if rising else values, np.int64)
    there_and_back(Content("i", torch.int64, levels), levels.shape)


def test_index_maps_take_the_shorter_way() -> None:
    rng = np.random.default_rng(0)
    scattered = np.flatnonzero(rng.random(784) < 0.5)
    runs = np.concatenate([np.arange(28 * row + 5, 28 * row + 22) for row in range(3, 25)])
    for index, most in ((scattered, 784 + 40), (runs, 200), (np.arange(784), 60)):
        writer = Writer()
        send(writer, "index", Content("i", torch.int64, index))
        assert writer.bits < most
        there_and_back(Content("i", torch.int64, index), index.shape)
