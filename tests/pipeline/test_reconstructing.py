"""Linear reconstruction as a stage of a run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pyrosparse import coding, pipeline
from pyrosparse.config import Config, parse
from pyrosparse.errors import ConfigError, DataError, NetworkError, PyrosparseWarning
from pyrosparse.nn import SelectLinear
from pyrosparse.pipeline.files import Files
from pyrosparse.report.page import render
from pyrosparse.report.read import read_run
from pyrosparse.report.reconstruction import reconstruction
from tests.pipeline.runs import SMALL, content, metrics, settings
from tests.pipeline.test_resume import cut_off

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


def test_after_a_posterior(tmp_path: Path) -> None:
    """Fitted and pruned, then reconstructed and trained, fine-tuned, and written."""
    folder = tmp_path / "run"
    lines: list[str] = []
    table = TABLE | {"position": "after", "epochs": 1, "solver": "fista", "chaining": "top-down", "debias": False}
    pipeline.run(settings("data.shift=1", reconstruct=table | {"lam_ratio": 0.1}), folder, say=lines.append)
    stages = ["dense", "fit", "prune", "reconstruct_pruned", "fine_tune", "file", "onnx", "curve"]
    assert [line.split()[0] for line in lines[1:]] == stages
    found = metrics(folder)
    rows = {row["name"]: row for row in found["stages"]}
    assert list(rows) == stages[:-1]
    assert rows["reconstruct_pruned"]["parameters"] < rows["prune"]["parameters"] <= rows["dense"]["parameters"]
    assert rows["file"]["error"] < rows["dense"]["error"] + 0.15
    made = found["reconstruction"]
    assert made["position"] == "after" and "top-down, refitted, trained for 1 epochs" in made["method"]
    assert made["kib_before"] == pytest.approx(rows["prune"]["bytes"] / 1024, rel=0.05)
    assert len(made["curve"]) == 3 * 2 * 2
    assert found["file"]["ratio"] == pytest.approx(rows["dense"]["bytes"] / rows["file"]["bytes"])
    assert found["notes"][0] == "trained with shifts of up to 1 pixels"
    assert any("fills what was 0 in the layers" in note for note in found["notes"])
    page = render(read_run(folder))
    assert "in the pruned network" in page and "Over λ, by chaining" in page
    assert all(f">{name}<" in page for name in ("prune", "this run"))
    pipeline.prune_again(folder, threshold=-1.0)
    again = metrics(folder)
    assert again["threshold"] == -1.0
    assert again["reconstruction"]["rows"] != made["rows"]  # made anew, of another network
    assert len(again["notes"]) == len(set(again["notes"]))


def test_a_curve_says_nothing_that_the_stage_has_said(tmp_path: Path) -> None:
    config = parse(BARE | {"reconstruct": TABLE | {"position": "instead", "examples": 20, "curve": [0.01, 1.0]}})
    with pytest.warns(PyrosparseWarning) as said:
        pipeline.run(config, tmp_path / "run")
    ours = [str(w.message) for w in said if issubclass(w.category, PyrosparseWarning)]
    assert len(ours) == len(set(ours)) > 0
    assert all("20 rows of data" in message for message in ours)
    assert metrics(tmp_path / "run")["reconstruction"]["notes"][: len(ours)] == ours


BARE = {"model": SMALL["model"], "pretrain": SMALL["pretrain"], "file": SMALL["file"]}


def test_instead_of_a_posterior(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lines: list[str] = []
    table = TABLE | {"position": "instead", "epochs": 2, "low_rank": 0.01, "tolerance": 1e-7}
    config = parse(BARE | {"reconstruct": table, "fine_tune": {"epochs": 1}})
    pipeline.run(config, folder, say=lines.append)
    assert [line.split()[0] for line in lines[1:]] == ["dense", "reconstruct", "fine_tune", "file", "onnx"]
    found = metrics(folder)
    rows = {row["name"]: row for row in found["stages"]}
    assert all(0 <= row["error"] < rows["dense"]["error"] + 0.1 for row in rows.values())
    assert found["file"]["ratio"] == pytest.approx(rows["dense"]["bytes"] / rows["file"]["bytes"])
    assert rows["file"]["bytes"] < rows["reconstruct"]["bytes"] / 3  # rounded
    assert found["agreement"]["file"] == 0
    assert any("there is no posterior" in note for note in found["notes"])
    written = (folder / "config.toml").read_text()
    assert "[fit]" not in written and parse(tomllib.loads(written)) == config
    run = read_run(folder)
    assert run.missing == ()
    page = render(run)
    assert "with no posterior at all" in page and "Over λ, by chaining" in page and "The file" in page
    assert "No layers were recorded" not in page and "Not in the run folder" not in page
    with pytest.raises(DataError, match="has no posterior to cut"):
        pipeline.prune_again(folder, threshold=1.0)


def test_instead_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(BARE | {"reconstruct": TABLE | {"position": "instead", "epochs": 1, "curve": []}})
    pipeline.run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        cut_off(patch, Files, "reloaded")
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(config, tmp_path / "run")
    assert metrics(tmp_path / "run")["finished"] == ["dense", "reconstruct"]
    with monkeypatch.context() as patch:
        patch.setattr("pyrosparse.pipeline.reconstructing.train", None)  # its numbers are read back
        pipeline.run(config, tmp_path / "run", resume=True)
    assert content(tmp_path / "run")["network.psz"] == content(tmp_path / "whole")["network.psz"]


@pytest.mark.parametrize(
    "table",
    [
        {"method": "magnitude", "density": 0.4, "rounds": 2, "epochs": 2},
        {"method": "low-rank", "error": 0.4, "epochs": 1},
    ],
)
def test_baselines_in_its_place(table: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pipeline.run(parse(BARE | {"reconstruct": table | {"position": "instead"}, "export": {"onnx": False}}), folder)
    found = metrics(folder)
    rows = {row["name"]: row for row in found["stages"]}
    assert rows["reconstruct"]["nonzero"] < 0.9 * rows["dense"]["nonzero"]
    assert rows["file"]["error"] == pytest.approx(rows["reconstruct"]["error"], abs=0.1)
    page = str(reconstruction(read_run(folder)))
    assert found["reconstruction"]["method"].split()[0] in page
    pipeline.run(settings_of(folder), folder, resume=True)
    assert metrics(folder)["stages"] == found["stages"]


def settings_of(folder: Path) -> Config:
    return parse(tomllib.loads((folder / "config.toml").read_text()))


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


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({}, r"\[reconstruct\]: give exactly one of lam, lam_ratio"),
        ({"lam_ratio": 0.1, "kib": 3.0}, "give exactly one"),
        ({"lam": 0.1, "units": 3}, "give exactly one"),
        ({"chaining": "sideways", "kib": 3.0}, "reconstruct.chaining = 'sideways'"),
        ({"solver": "simplex", "kib": 3.0}, "reconstruct.solver = 'simplex'"),
        ({"position": "beside", "kib": 3.0}, "reconstruct.position = 'beside'"),
        ({"tolerance": 0.0, "kib": 3.0}, "reconstruct.tolerance = 0.0"),
        ({"low_rank": 1.0, "kib": 3.0}, "reconstruct.low_rank = 1.0"),
        ({"units": {"fc1": 0}}, "reconstruct.units"),
        ({"debiased": True, "kib": 3.0}, "unknown key reconstruct.debiased; did you mean reconstruct.debias"),
        ({"density": 0.1, "kib": 3.0}, "density is for method = 'magnitude'"),
        ({"method": "magnitude", "kib": 3.0}, "takes a density"),
        ({"method": "magnitude", "density": 0.1, "refit": False}, "refit is for method = 'linear'"),
        ({"method": "low-rank", "units": 3}, "takes exactly one of kib and error"),
        ({"method": "low-rank", "kib": {"fc1": 3.0}}, "as one number"),
    ],
)
def test_settings_that_are_refused(table: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        settings(reconstruct=table)


def test_a_fit_that_has_no_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"leaves no posterior: take \[fit\], \[prune\], \[posterior\]"):
        settings(reconstruct=TABLE | {"position": "instead"})


def test_what_cannot_be_reconstructed_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="'fc9', which is no layer that reads units"):
        pipeline.run(settings(reconstruct={"units": {"fc9": 3}}), folder)
    with pytest.raises(NetworkError, match=r"fc1 \(ComplexLinear\) cannot be reconstructed"):
        model = {"name": "complex_dense", "args": {"inputs": 64, "hidden": 24}}
        pipeline.run(settings(reconstruct=TABLE, model=model, prior="ComplexARD"), folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    "goal", [{"lam": 0.5}, {"lam_ratio": 0.1}, {"units": 8}, {"kib": 3.0}, {"error": 0.05}, {"units": {"fc1": 30}}]
)
def test_the_goal_is_what_is_written(goal: dict[str, Any]) -> None:
    assert settings(reconstruct=goal).reconstruct.goal == goal
