"""Words for people."""

from __future__ import annotations

import pytest

from pyrosparse.text import nearest, size, table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (1_500_000, "1.5 MB"),
        (2.5e9, "2.5 GB"),
        (4e12, "4000.0 GB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


def test_nearest() -> None:
    assert (
        nearest("fc1.wieght", ["fc2.weight", "fc1.weight"])
        == "; did you mean 'fc1.weight'? (known: fc1.weight, fc2.weight)"
    )
    assert nearest("xyz", ["fc1"]) == " (known: fc1)"


def test_tables_are_aligned() -> None:
    text = table(("layer", "kept"), [("fc1", "10"), ("convolution", "7")])
    assert text.splitlines() == [
        "layer        kept",
        "───────────  ────",
        "fc1            10",
        "convolution     7",
    ]
    assert table(("a", "b"), []).splitlines()[0] == "a  b"
