from __future__ import annotations

import pytest

from pyrosparse.report.figures import NONE, count, decimal, percent, points, shape, size_of, times
from pyrosparse.report.markup import Html, element, join, table


def test_text_is_escaped_and_html_is_not() -> None:
    assert element("p", "a < b & c", Html("<b>d</b>")) == "<p>a &lt; b &amp; c<b>d</b></p>"


def test_attributes_are_escaped() -> None:
    assert element("i", class_="x", aria_label='"') == '<i class="x" aria-label="&quot;"></i>'


def test_join_escapes_each_part() -> None:
    assert join(["<", Html("<br>")], "") == "&lt;<br>"


def test_a_table_marks_its_numbers() -> None:
    made = table(["name", "n"], [["a", "1"]], caption="c")
    assert "<td>a</td>" in made and '<td class="number">1</td>' in made and "<caption>c</caption>" in made


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "12", True])
def test_what_is_no_number_is_a_dash(missing: object) -> None:
    assert count(missing) == decimal(missing) == percent(missing) == size_of(missing) == points(missing, 1.0) == NONE
    assert times(missing, 1.0) == times(1.0, missing) == NONE


def test_numbers() -> None:
    assert count(12345) == "12,345"
    assert percent(0.98406) == "98.41\u202f%"
    assert points(0.9751, 0.9776) == "−0.25"
    assert points(0.5, 0.5) == "0.00"
    assert size_of(1234) == "1.2\u202fkB"
    assert (times(1000, 10), times(42, 10), times(1, 0)) == ("100×", "4.2×", NONE)
    assert shape([300, 784]) == "300 × 784"
