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
    info = coding.info(folder / "network.psz")
    assert info.ratio == found["file"]["ratio"] == pytest.approx(rows["dense"]["bytes"] / info.bytes)
    assert any("compared with the dense network" in note for note in found["notes"])
    small = coding.load(folder / "network.psz")
    assert isinstance(small.fc1, SelectLinear)
    page = render(read_run(folder))
    assert "Reconstructed" in page
    assert "Over λ, by chaining" in page
    assert all(f">{name}<" in page for name in ("parallel", "top-down", "bottom-up", "dense", "this run"))
    before = metrics(folder)["reconstruction"]
    pipeline.prune_again(folder, threshold=1.0)  # makes the reconstructed network anew
    assert metrics(folder)["reconstruction"] == before
    assert metrics(folder)["file"]["ratio"] == pytest.approx(
        rows["dense"]["bytes"] / (folder / "network.psz").stat().st_size
    )


def test_low_rank_layers_are_fitted_and_stored(tmp_path: Path) -> None:
    """A layer that has become two goes through the fit, the cut, the file and the report."""
    folder = tmp_path / "run"
    table = {"units": 60, "low_rank": 0.2, "curve": [], "examples": 500}
    pipeline.run(settings(reconstruct=table), folder)
    found = metrics(folder)
    ranks = {row["layer"]: row["rank"] for row in found["reconstruction"]["rows"]}
    factored = [layer for layer, rank in ranks.items() if rank is not None]
    assert "fc1" in factored
    assert {"fc1.0.weight", "fc1.1.weight"} <= {layer["site"] for layer in found["layers"]}
    rows = {row["name"]: row for row in found["stages"]}
    assert found["file"]["ratio"] == pytest.approx(rows["dense"]["bytes"] / rows["file"]["bytes"])
    small = coding.load(folder / "network.psz")
    assert small.fc1[0].weight.shape[0] <= ranks["fc1"]
    page = str(reconstruction(read_run(folder)))
    assert "Rank" in page
    assert f"{found['reconstruction']['kib']:.1f}" in page
    assert "Over λ" not in page


def test_a_run_without_has_no_such_part(finished: Path) -> None:
    assert reconstruction(read_run(finished)) == ""
    assert "reconstruct" not in {row["name"] for row in metrics(finished)["stages"]}


def test_one_goal() -> None:
    for table in ({}, {"lam_ratio": 0.1, "kib": 3.0}, {"chaining": "sideways", "kib": 3.0}, {"lam": 0.1, "units": 3}):
        with pytest.raises(ConfigError):
            settings(reconstruct=table)


@pytest.mark.parametrize("goal", [{"lam": 0.5}, {"lam_ratio": 0.1}, {"units": 8}, {"kib": 3.0}, {"error": 0.05}])
def test_the_goal_is_what_is_written(goal: dict[str, float]) -> None:
    assert settings(reconstruct=goal).reconstruct.goal == goal
