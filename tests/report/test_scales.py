"""The forest of scales: what is drawn is what the metrics say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyrosparse.report.read import Run
from pyrosparse.report.scales import MOST, forest, layer_scales, scales


def row(groups: int = 3, **others: Any) -> dict[str, Any]:
    median = np.geomspace(0.01, 1.0, groups)
    return {
        "site": "fc1.scale", "total": 20, "groups": list(range(groups)), "low": list(0.5 * median),
        "median": list(median), "high": list(2 * median),
    } | others  # fmt: skip


def run(*rows: Any) -> Run:
    return Run(folder=Path("run"), metrics=json.loads(json.dumps({"scales": list(rows)})))


def test_without_groups_there_is_nothing() -> None:
    assert scales(Run(folder=Path("run"))) == ""
    assert scales(run()) == ""
    assert scales(run({"site": "fc1.scale"}, row(median=[1.0]), row(low=[]))) == ""


def test_the_page_says_what_is_left_and_what_the_layer_knows() -> None:
    layer = {
        "prior": {"low": [1e-7], "median": [1e-5], "high": [2e-4]},
        "posterior": {"low": [0.1], "median": [0.2], "high": [0.3]},
    }
    html = scales(run(row(layer=layer)))
    assert "3 of 20 groups are left" in html
    assert "fc1.scale.layer" in html
    assert "1e-05 (1e-07 – 0.0002)" in html and "0.2 (0.1 – 0.3)" in html


def test_the_largest_are_drawn_and_it_is_said() -> None:
    html = scales(run(row(MOST + 5)))
    assert f"The {MOST} largest are drawn" in html
    (axes,) = forest(row(MOST + 5)).axes
    (dots,) = axes.lines
    assert len(dots.get_xdata()) == MOST
    assert dots.get_xdata()[-1] == pytest.approx(1.0)
    assert axes.get_xscale() == "log"
    axes.figure.canvas.draw()
    assert all("$" not in label.get_text() for label in axes.get_xticklabels())  # plain numbers, no formulas


def test_the_layers_scales_are_drawn_before_and_after_the_data() -> None:
    quantiles = {
        "prior": {"low": [1e-7], "median": [1e-5], "high": [2e-4]},
        "posterior": {"low": [0.1], "median": [0.2], "high": [0.3]},
    }
    rows = [row(layer=quantiles), row(site="fc2.scale", layer=quantiles)]
    assert "The layers&#x27; own scales" in scales(run(*rows))
    (axes,) = layer_scales(rows).axes
    ends = [tuple(10 ** np.asarray(line.get_xdata())) for line in axes.lines]
    assert ends[0] == pytest.approx((1e-7, 2e-4)) and ends[1] == pytest.approx((1e-5,))
    assert ends[2] == pytest.approx((0.1, 0.3)) and len(ends) == 8
    axes.figure.canvas.draw()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fc2.scale", "fc1.scale"]


@pytest.mark.parametrize("layer", [3, {}, {"prior": {"low": [0.0]}}, {"prior": {"low": [1.0]}, "posterior": None}])
def test_a_layer_without_its_numbers_is_left_out(layer: Any) -> None:
    html = scales(run(row(layer=layer)))
    assert "3 of 20 groups are left" in html and "own scales" not in html


def test_gates_have_a_linear_axis() -> None:
    (axes,) = forest(row(low=[0.0, 0.0, 0.9], median=[0.0, 0.5, 1.0], high=[0.2, 1.0, 1.0])).axes
    assert axes.get_xscale() == "linear"
    assert axes.get_xlabel() == "gate z"
