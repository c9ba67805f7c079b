from __future__ import annotations

import math

import pytest

from pyrosparse.coding.lengths import Lengths, lengths, total

SUMMARY = {"sites": [{"site": "fc1.weight", "kl_bits": 100.0}, {"site": "fc2.weight", "kl_bits": 20}]}
FILE = {"layers": [{"name": "fc1.weight", "entropy_bits": 90.5, "bytes": 10}, {"name": "fc1.bias", "bytes": 3}]}


def test_three_lengths_of_the_sites_that_both_know() -> None:
    assert lengths(SUMMARY, FILE) == [Lengths("fc1.weight", 100.0, 90.5, 80.0)]


def test_bits_at_the_precision_of_the_posterior_and_sums() -> None:
    measured = {"name": "fc2.weight", "entropy_bits": 7.0, "bytes": 1, "precision_bits": 48}
    rows = lengths(SUMMARY, {"layers": [*FILE["layers"], measured]})
    assert [row.precision for row in rows] == [None, 48.0]
    assert total(rows) == Lengths("all", 120.0, 97.5, 88.0, None)
    assert total(rows[1:]).precision == 48.0


@pytest.mark.parametrize(
    ("summary", "file"),
    [
        (None, FILE),
        (SUMMARY, None),
        ({"sites": 3}, FILE),
        ({"sites": [{"site": "fc1.weight", "kl_bits": math.nan}]}, FILE),
        (SUMMARY, {"layers": [{"name": "fc1.weight", "entropy_bits": None, "bytes": 3}]}),
    ],
)
def test_what_is_not_there_is_left_out(summary: object, file: object) -> None:
    assert lengths(summary, file) == []
