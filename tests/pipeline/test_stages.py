"""The stages of a run: what they leave behind."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.config import Config, parse
from pyrosparse.data import Dataset
from pyrosparse.pipeline import build, measure
from pyrosparse.pipeline.folder import ARTEFACTS
from tests.pipeline.runs import EPOCHS, content, metrics, settings


def test_every_stage_leaves_its_files(finished: Path) -> None:
    left_out = {"teacher", "reconstruct", "reconstruct_pruned", "quantise", "magnitude", "l1", "kmeans"}
    for stage, names in ARTEFACTS.items():
        for name in names:
            assert (finished / name).exists() == (stage not in left_out), name
    assert not [p for p in finished.iterdir() if ".part" in p.name]


def test_metrics(finished: Path) -> None:
    found = metrics(finished)
    assert found["schema"] == 1
    assert found["seed"] == 0
    assert {"torch", "pyro-ppl", "pyrosparse"} <= set(found["versions"])
    names = ["dense", "fit", "prune", "fine_tune", "file", "onnx"]
    assert [row["name"] for row in found["stages"]] == names
    for row in found["stages"]:
        assert row["accuracy"] == 1 - row["error"]
        assert row["val_accuracy"] == 1 - row["val_error"]
        assert 0 < row["nonzero"] <= row["parameters"]
        assert row["seconds"] >= 0
    stages = {row["name"]: row for row in found["stages"]}
    assert stages["dense"]["parameters"] == 64 * 40 + 40 * 20 + 20 * 10 + 70
    assert stages["dense"]["bytes"] == 4 * stages["dense"]["parameters"]
    assert stages["file"]["bytes"] == (finished / "network.psz").stat().st_size == found["file"]["bytes"]
    assert stages["onnx"]["bytes"] == (finished / "network.onnx").stat().st_size
    assert [row["site"] for row in found["layers"]] == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert found["units"]["original"] == [40, 20, 10]
    assert found["threshold"] == 2.0
    assert [point["threshold"] for point in found["curve"]] == [0.0, 2.0]
    assert set(found["agreement"]) == {"file", "onnx"}
    assert found["notes"] == found["prune"]["notes"]


def test_history_has_one_record_an_epoch(finished: Path) -> None:
    records = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == list(range(1, EPOCHS + 1))


def test_the_configuration_is_resolved(finished: Path) -> None:
    table = tomllib.loads((finished / "config.toml").read_text())
    assert parse(table) == settings()
    assert table["fit"]["lr"] == Config().fit.lr


def test_posterior_and_masks(finished: Path) -> None:
    tensors = load_file(finished / "posterior.safetensors")
    kept = {row["site"]: row["kept"] for row in metrics(finished)["layers"]}
    for site, shape in {"fc1.weight": (40, 64), "fc2.weight": (20, 40), "fc3.weight": (10, 20)}.items():
        mean, std, relevance, keep = (tensors[f"{site}/{k}"] for k in ("mean", "std", "relevance", "keep"))
        assert mean.shape == std.shape == relevance.shape == keep.shape == shape
        assert int(keep.sum()) == kept[site]
        assert bool((relevance[keep.bool()] >= -metrics(finished)["threshold"]).all())
        gone = torch.isinf(relevance)
        assert bool((mean[gone] == 0).all() and (std[gone] == 0).all())


def test_the_file_scores_what_the_metrics_say(finished: Path) -> None:
    data = ps.data.load("digits")
    network = ps.load(finished / "network.psz")
    row = next(r for r in metrics(finished)["stages"] if r["name"] == "file")
    labels = ps.likelihoods.Categorical(num_data=1)
    assert measure.error_of(labels, measure.outputs(network, data.x_test), data.y_test) == row["error"]
    assert measure.error_of(labels, measure.outputs(network, data.x_val), data.y_val) == row["val_error"]
    assert sum(int(p.count_nonzero()) for p in network.parameters()) == row["nonzero"]


def test_the_same_seed_gives_the_same_files(finished: Path, tmp_path: Path) -> None:
    pipeline.run(settings(), tmp_path / "again")
    first, second = content(finished), content(tmp_path / "again")
    for name in ("dense.safetensors", "posterior.safetensors", "network.psz", "network.onnx"):
        assert first[name] == second[name], name


def test_test_data_are_touched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[list[str]] = []
    folder = tmp_path / "run"

    class Watched(Dataset):
        def __getattribute__(self, name: str) -> Any:
            if name in {"x_test", "y_test"} and (folder / "metrics.json").exists():
                touched.append(metrics(folder)["finished"])
            return super().__getattribute__(name)

    load = build.dataset
    monkeypatch.setattr(build, "dataset", lambda config: Watched(**vars(load(config))))
    pipeline.run(settings("fine_tune.epochs=0", "export.onnx=false"), folder)
    assert touched == [["dense", "fit", "prune", "file", "curve"]] * 2
