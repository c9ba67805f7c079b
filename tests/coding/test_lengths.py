from __future__ import annotations

import math

import pytest

from pyrosparse.coding.lengths import Lengths, lengths

SUMMARY = {"sites": [{"site": "fc1.weight", "kl_bits": 100.0}, {"site": "fc2.weight", "kl_bits": 20}]}
FILE = {"layers": [{"name": "fc1.weight", "entropy_bits": 90.5, "bytes": 10}, {"name": "fc1.bias", "bytes": 3}]}


def test_three_lengths_of_the_sites_that_both_know() -> None:
    assert lengths(SUMMARY, FILE) == [Lengths("fc1.weight", 100.0, 90.5, 80.0)]


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
