"""A run with a prior on groups, from its settings to the report."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pyrosparse import pipeline
from pyrosparse.errors import ConfigError
from pyrosparse.report.page import render
from pyrosparse.report.read import read_run
from tests.pipeline.runs import metrics, settings


def test_a_horseshoe_over_sparse_weights(tmp_path: Path) -> None:
    prior = {"name": "GroupHorseshoe", "args": {"global_scale": 1e-4, "individual": "LogUniform"}}
    config = settings(
        "fit.criterion=information", "fit.max_std.fc1=0.3", "fit.log_var=-4.0", "fine_tune.epochs=0", prior=prior
    )
    found = pipeline.run(config, tmp_path / "run")
    assert found["agreement"]["file"] == 0
    rows = metrics(tmp_path / "run")["scales"]
    assert [row["site"] for row in rows] == ["fc1.scale", "fc2.scale", "fc3.scale"]
    assert all(len(row["median"]) == len(row["groups"]) <= row["total"] for row in rows)
    assert all(row["layer"]["prior"]["median"][0] < row["layer"]["posterior"]["median"][0] for row in rows)
    written = {row["name"]: row for row in metrics(tmp_path / "run")["file"]["layers"]}
    for layer in metrics(tmp_path / "run")["layers"]:
        numbers = math.prod(layer["small_shape"])  # the same bits for each of them
        bits = written[layer["site"]]["precision_bits"]
        assert bits % numbers == 0 and 1 <= bits // numbers <= 32
    assert "Which groups live" in render(read_run(tmp_path / "run"))


def test_gates(tmp_path: Path) -> None:
    config = settings("fine_tune.epochs=0", prior={"name": "L0", "args": {"penalty": 0.1}})
    pipeline.run(config, tmp_path / "run")
    assert metrics(tmp_path / "run")["scales"][0]["site"] == "fc1.scale"


def test_an_unknown_individual_prior_suggests_the_nearest(tmp_path: Path) -> None:
    config = settings(prior={"name": "GroupHorseshoe", "args": {"individual": "LogUnifrom"}})
    with pytest.raises(ConfigError, match="individual = 'LogUnifrom'; did you mean 'LogUniform'"):
        pipeline.run(config, tmp_path / "run")
