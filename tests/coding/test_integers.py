from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrosparse.coding.integers import class_of, code_coefficients, code_counts, first_of, width_of
from pyrosparse.coding.stream import Meter, Reader, Writer


@pytest.mark.parametrize("head", [0, 1, 3, 8])
def test_classes_tile_the_integers(head: int) -> None:
    values = np.concatenate([np.arange(3000), 2 ** np.arange(12, 45), 2 ** np.arange(12, 45) - 1])
    values = np.unique(values)
    classes = class_of(values, head)
    assert (np.diff(classes) >= 0).all()
    assert (np.diff(classes[:3000]) <= 1).all()
    first, width = first_of(classes, head), width_of(classes, head)
    assert ((first <= values) & (values < first + (1 << width))).all()
    small = values < 1 << (head + 1)
    np.testing.assert_array_equal(classes[small], values[small])


@given(st.lists(st.integers(0, 1 << 30), max_size=40), st.sampled_from([0, 1, 2, 3, 5, 8]))
@settings(max_examples=60, deadline=None)
def test_counts_are_rounded_the_same_way_on_both_sides(counts: list[int], head: int) -> None:
    exact = np.array(counts, np.int64)
    writer = Writer()
    sent = code_counts(writer, exact, len(exact), head=head)
    got = code_counts(Reader(writer.finish()[0]), None, len(exact))
    np.testing.assert_array_equal(sent, got)
    np.testing.assert_array_equal(sent == 0, exact == 0)
    assert (np.abs(sent - exact) <= exact / 2.0 ** (head + 1)).all()


@given(st.lists(st.integers(-(1 << 40) + 1, (1 << 40) - 1), max_size=60))
@settings(max_examples=100, deadline=None)
def test_coefficients_come_back(values: list[int]) -> None:
    exact = np.array(values, np.int64)
    writer = Writer()
    code_coefficients(writer, exact, len(exact))
    reader = Reader(writer.finish()[0])
    np.testing.assert_array_equal(code_coefficients(reader, None, len(exact)), exact)
    reader.finish()


@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=400), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_meter_says_what_a_writer_takes(values: list[int], wide: int) -> None:
    """The meter goes by the histogram, the writer by the integers one by one."""
    exact = np.array(values, np.int64) << wide
    writer, meter = Writer(), Meter()
    code_coefficients(writer, exact, len(exact))
    code_coefficients(meter, exact, len(exact))
    assert meter.bits == pytest.approx(writer.bits)


def test_length_is_near_the_order_0_entropy() -> None:
    rng = np.random.default_rng(0)
    values = np.rint(4 * rng.standard_normal(5000)).astype(np.int64)
    counts = np.unique(values, return_counts=True)[1]
    entropy = counts @ np.log2(counts.sum() / counts)
    meter = Meter()
    code_coefficients(meter, values, len(values))
    assert entropy <= meter.bits <= 1.012 * entropy


def test_wide_ranges_do_not_need_a_wide_histogram() -> None:
    values = np.random.default_rng(0).integers(-(1 << 23), 1 << 23, 1000)
    meter = Meter()
    code_coefficients(meter, values, len(values))
    assert meter.bits <= 1.03 * 24 * 1000
