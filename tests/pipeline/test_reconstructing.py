"""Linear reconstruction as a stage of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrosparse import coding, pipeline
from pyrosparse.errors import ConfigError
from pyrosparse.nn import SelectLinear
from pyrosparse.report.page import render
from pyrosparse.report.read import read_run
from pyrosparse.report.reconstruction import reconstruction
from tests.pipeline.runs import metrics, settings

TABLE = {"lam_ratio": 0.02, "curve": [0.01, 0.1], "examples": 500}


def test_a_run_with_reconstruction(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lines: list[str] = []
    pipeline.run(settings(reconstruct=TABLE), folder, say=lines.append)
    assert [line.split()[0] for line in lines[1:4]] == ["dense", "reconstruct", "fit"]
    found = metrics(folder)
    rows = {row["name"]: row for row in found["stages"]}
    assert rows["fit"]["parameters"] == rows["reconstruct"]["parameters"] < rows["dense"]["parameters"]
    assert rows["reconstruct"]["error"] < rows["dense"]["error"] + 0.1
    assert len(found["reconstruction"]["curve"]) == 3 * 2 * 2
    small = coding.load(folder / "network.psz")
    assert isinstance(small.fc1, SelectLinear)
    page = render(read_run(folder))
    assert "Reconstructed" in page
    assert "Over λ, by chaining" in page
    before = metrics(folder)["reconstruction"]
    pipeline.prune_again(folder, threshold=1.0)  # makes the reconstructed network anew
    assert metrics(folder)["reconstruction"] == before


def test_a_run_without_has_no_such_part(finished: Path) -> None:
    assert reconstruction(read_run(finished)) == ""
    assert "reconstruct" not in {row["name"] for row in metrics(finished)["stages"]}


def test_one_goal() -> None:
    for table in ({}, {"lam_ratio": 0.1, "kib": 3.0}, {"chaining": "sideways", "kib": 3.0}):
        with pytest.raises(ConfigError):
            settings(reconstruct=table)
