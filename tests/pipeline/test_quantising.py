"""The stage that trains through the rounding of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.pipeline.folder import RunFolder
from tests.pipeline.runs import content, metrics, settings

ENDING = {"epochs": 2, "c": [1.0, 2.0], "lr": 0.02}


@pytest.fixture(scope="module")
def ended(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantise") / "run"
    pipeline.run(settings("export.onnx=false", quantise=ENDING), folder)
    return folder


def test_the_file_holds_what_was_trained(ended: Path) -> None:
    found = metrics(ended)
    stage = next(row for row in found["stages"] if row["name"] == "quantise")
    assert found["finished"][-6:] == ["fine_tune", "quantise", "file", "curve", "test", "report"]
    assert stage["c"] == found["file"]["c"] in ENDING["c"]
    trained = load_file(ended / "quantised.safetensors")
    network = ps.load(ended / "network.psz")
    for name, value in network.state_dict().items():
        if name.endswith("weight"):
            torch.testing.assert_close(value, trained[name], rtol=1e-6, atol=0)
    assert {"error", "accuracy"} <= stage.keys()


def test_it_is_not_trained_again(ended: Path) -> None:
    before = content(ended)
    folder = RunFolder.existing(ended)
    folder.clear(["file"])
    pipeline.run(settings("export.onnx=false", quantise=ENDING), ended, resume=True)
    after = content(ended)
    assert after["network.psz"] == before["network.psz"]
    assert after["quantised.safetensors"] == before["quantised.safetensors"]


def test_soft_labels_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    teacher = {"name": "pyrosparse.models:mlp", "args": {"sizes": [64, 16, 10]}, "epochs": 1}
    fit = settings().to_dict()["fit"] | {"teacher": teacher, "epochs": 1}
    seen = []
    real = ps.coding.aware.quantise_aware

    def watched(pruned: ps.Pruned, loader: ps.data.TensorLoader, **options: object) -> ps.Pruned:
        seen.append(next(iter(loader))[1])
        return real(pruned, loader, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("pyrosparse.coding.aware.quantise_aware", watched)
    pipeline.run(settings("export.onnx=false", "file.c=1.5", fit=fit, quantise={"epochs": 1}), tmp_path / "run")
    assert [labels.dim() for labels in seen] == [2]  # one step, the file's, with soft labels
