"""Networks of the user, teachers, weights from before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.errors import (
    ConfigError,
)
from tests.pipeline.runs import SMALL, metrics, settings

MODULE = """
from torch import nn

class Own(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(64, width)
        self.last = nn.Linear(width, 10)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).tanh())

def network(width=20):
    return Own(width)

def number():
    return 3

def broken():
    return nn.Linear(3, -3)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_network_of_the_user(own_module: str, tmp_path: Path) -> None:
    config = settings("fine_tune.epochs=0", model={"name": f"{own_module}:network", "args": {"width": 12}})
    found = pipeline.run(config, tmp_path / "run")
    assert found["agreement"]["file"] == 0
    assert [row["site"] for row in found["layers"]] == ["first.weight", "last.weight"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("{}:nothing", ConfigError, "has no function 'nothing'"),
        ("absent_module:network", ConfigError, "module 'absent_module' cannot be imported"),
        ("{}:number", ps.errors.NetworkError, "gives a int"),
        ("{}:broken", ps.errors.NetworkError, "the factory failed with RuntimeError"),
    ],
)
def test_a_network_of_the_user_that_fails(
    own_module: str, tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pipeline.run(settings(model={"name": name.format(own_module)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_softens_the_labels(tmp_path: Path) -> None:
    teacher = {"name": "digits_mlp", "epochs": 2, "weight": 0.5}
    config = settings("fine_tune.epochs=0", "export.onnx=false", fit=SMALL["fit"] | {"teacher": teacher})
    found = pipeline.run(config, tmp_path / "run")
    stages = {row["name"]: row for row in found["stages"]}
    assert list(stages) == ["teacher", "dense", "fit", "prune", "file"]
    assert stages["teacher"]["accuracy"] > 0.5
    assert "softened by a teacher, digits_mlp" in found["notes"][0]
    # its weights serve another run, which then trains none
    weights = tmp_path / "run" / "teacher.safetensors"
    again = settings(
        "fine_tune.epochs=0", "export.onnx=false", fit=SMALL["fit"] | {"teacher": teacher | {"weights": str(weights)}}
    )
    found = pipeline.run(again, tmp_path / "other")
    assert [row["name"] for row in found["stages"]] == ["dense", "fit", "prune", "file"]


def test_the_dense_network_has_a_say_in_fine_tuning(tmp_path: Path) -> None:
    plain = settings("fine_tune.epochs=2", "fine_tune.lr=0.01", "export.onnx=false")
    pipeline.run(plain, tmp_path / "plain")
    taught = settings("fine_tune.epochs=2", "fine_tune.lr=0.01", "fine_tune.teacher_weight=1.0", "export.onnx=false")
    found = pipeline.run(taught, tmp_path / "taught")
    assert "fine-tuned on labels softened by the dense network" in found["notes"]
    networks = [load_file(tmp_path / name / "fine_tuned.safetensors") for name in ("plain", "taught")]
    assert not torch.equal(networks[0]["fc1.weight"], networks[1]["fc1.weight"])


def test_aids_and_cold_posteriors_are_noted(tmp_path: Path) -> None:
    fit = SMALL["fit"] | {"kl": 0.1, "kl_layers": {"fc2": 1.0}}
    found = pipeline.run(settings("data.shift=1", "export.onnx=false", fit=fit), tmp_path / "run")
    assert found["notes"][:2] == [
        "trained with shifts of up to 1 pixels",
        "cold posterior: the KL terms of fc1.weight, fc3.weight end the fit with weight 0.1, not 1",
    ]
    again = pipeline.prune_again(tmp_path / "run", threshold=1.0)
    assert again["notes"][:2] == found["notes"][:2]
    assert len(again["notes"]) == len(again["prune"]["notes"]) + 2


def test_weights_from_before(finished: Path, tmp_path: Path) -> None:
    path = finished / "dense.safetensors"
    config = settings(f"pretrain.weights='{path}'", "pretrain.epochs=0", "export.onnx=false")
    context_network = pipeline.run(config, tmp_path / "run")
    before = {row["name"]: row for row in metrics(finished)["stages"]}
    after = {row["name"]: row for row in context_network["stages"]}
    assert after["dense"]["accuracy"] == before["dense"]["accuracy"]
