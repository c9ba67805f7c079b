"""The stages of a run: what they leave behind, and that a run that is cut off goes on as if it had not been."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.config import Config, parse
from pyrosparse.data import Dataset
from pyrosparse.errors import (
    CheckpointError,
    ConfigError,
    CorruptFileError,
    DataError,
    ExportError,
    PruneError,
    PyrosparseWarning,
)
from pyrosparse.pipeline import build, measure
from pyrosparse.pipeline.context import Context
from pyrosparse.pipeline.cutting import Cutting
from pyrosparse.pipeline.files import Files
from pyrosparse.pipeline.fitting import Fitting
from pyrosparse.pipeline.folder import ARTEFACTS, RunFolder

EPOCHS = 4
SMALL: dict[str, Any] = {
    "model": {"name": "pyrosparse.models:mlp", "args": {"sizes": [64, 40, 20, 10]}},
    "pretrain": {"epochs": 4},
    "fit": {"epochs": EPOCHS, "kl": "constant", "log_var": -8.0, "lr_log_var": 0.02, "shrink_every": 1},
    "prune": {"threshold": 2.0, "curve": [0.0]},
    "fine_tune": {"epochs": 1},
    "file": {"tolerance": 0.05},
    "posterior": {"draws": 5, "max_weights": 4},
}


def settings(*overrides: str, **tables: Any) -> Config:
    return parse(SMALL | tables, overrides=overrides)


@pytest.fixture(scope="module", autouse=True)
def short_report() -> Iterator[None]:
    """The page has tests of its own, and takes as long as all other stages together."""

    def write(folder: Path) -> Path:
        (folder / "report.html").write_text("report")
        return folder / "report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrosparse.report.write", write)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    lines: list[str] = []
    pipeline.run(settings(), folder, say=lines.append)
    assert [line.split()[0] for line in lines[1:]] == ["dense", "fit", "prune", "fine_tune", "file", "onnx", "curve"]
    return folder


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what a run leaves -------------------------------------------------------------------------


def test_every_stage_leaves_its_files(finished: Path) -> None:
    for stage, names in ARTEFACTS.items():
        for name in names:
            assert (finished / name).exists() == (stage != "teacher"), name
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
    assert measure.error_of(measure.outputs(network, data.x_test), data.y_test) == row["error"]
    assert measure.error_of(measure.outputs(network, data.x_val), data.y_val) == row["val_error"]
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


# --- a run that is cut off ---------------------------------------------------------------------


def cut_off(monkeypatch: pytest.MonkeyPatch, where: type, method: str, *, after: int = 0) -> None:
    """Let Ctrl-C come when a method is called for the ``after + 1``-th time."""
    original: Callable[..., Any] = getattr(where, method)
    calls = [0]

    def interrupted(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(where, method, interrupted)


@pytest.mark.parametrize(
    ("where", "method", "after"),
    [
        (Fitting, "_write_history", 2),
        (Fitting, "_write_draws", 0),
        (Cutting, "_write_posterior", 0),
        (Files, "reloaded", 0),
        (Files, "test", 0),
    ],
)
def test_a_run_that_is_cut_off_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: type, method: str, after: int
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        cut_off(patch, where, method, after=after)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(settings(), folder)
    before = metrics(folder)["finished"]
    pipeline.run(settings(), folder, resume=True)
    assert metrics(folder)["finished"][: len(before)] == before
    first, second = content(finished), content(folder)
    for name in ("posterior.safetensors", "fine_tuned.safetensors", "network.psz", "network.onnx"):
        assert first[name] == second[name], name
    for ours, theirs in zip(metrics(folder)["stages"], metrics(finished)["stages"], strict=True):
        assert {k: v for k, v in ours.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


def test_a_finished_run_is_left_alone(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(run_dir)
    monkeypatch.setattr("pyrosparse.pipeline.fitting.train", None)
    pipeline.run(settings(), run_dir, resume=True)
    after = content(run_dir)
    for name in before.keys() - {"checkpoint/last.pt"}:
        assert before[name] == after[name], name


def test_a_file_that_is_gone_is_made_again(run_dir: Path) -> None:
    before = content(run_dir)
    (run_dir / "network.psz").unlink()
    (run_dir / "fine_tuned.safetensors").unlink()
    pipeline.run(settings(), run_dir, resume=True)
    assert content(run_dir)["network.psz"] == before["network.psz"]


def test_resume_needs_the_same_settings(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"started with other settings \(fit.lr, prune.tolerance\)"):
        pipeline.run(settings("fit.lr=0.01", "prune.tolerance=0.1"), run_dir, resume=True)
    pipeline.run(settings("device=cpu"), run_dir, resume=True)


def test_a_run_is_not_overwritten_by_accident(run_dir: Path) -> None:
    before = content(run_dir)
    with pytest.raises(ConfigError, match="holds a run already"):
        pipeline.run(settings(), run_dir)
    assert content(run_dir) == before
    other = settings("seed=5", "fine_tune.epochs=0", "export.onnx=false")
    pipeline.run(other, run_dir, overwrite=True)
    assert metrics(run_dir)["seed"] == 5
    assert not (run_dir / "network.onnx").exists()
    assert not (run_dir / "fine_tuned.safetensors").exists()


# --- pruning again -----------------------------------------------------------------------------


def test_prune_again_by_threshold(run_dir: Path) -> None:
    before = metrics(run_dir)
    shown = pipeline.preview(run_dir, threshold=-1.0)
    assert metrics(run_dir) == before
    found = pipeline.prune_again(run_dir, threshold=-1.0)
    assert found["threshold"] == -1.0
    assert found["prune"]["kept"] == shown.report.kept < before["prune"]["kept"]
    assert found["file"]["bytes"] < before["file"]["bytes"]
    assert "test" in found["finished"]
    assert tomllib.loads((run_dir / "config.toml").read_text())["prune"]["threshold"] == -1.0
    assert metrics(run_dir)["stages"][:2] == before["stages"][:2]


def test_prune_again_within_a_budget(run_dir: Path) -> None:
    budget = metrics(run_dir)["file"]["bytes"] // 2
    found = pipeline.prune_again(run_dir, budget=str(budget))
    assert found["file"]["bytes"] <= budget


def test_a_budget_out_of_reach_leaves_the_folder_alone(run_dir: Path) -> None:
    before = content(run_dir)
    with pytest.raises(PruneError, match="at most 20 bytes"):
        pipeline.prune_again(run_dir, budget="20B")
    before.pop("checkpoint/last.pt")
    after = content(run_dir)
    assert before == {name: after[name] for name in before}


def test_without_a_goal_the_threshold_is_chosen_on_validation_data(run_dir: Path) -> None:
    report = pipeline.preview(run_dir).report
    assert report.error is not None and report.dense_error is not None
    assert report.error <= report.dense_error + settings().prune.tolerance
    assert len(report.curve) > 1


def test_a_file_larger_than_the_budget_gets_coarser_steps(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # fine steps are what validation data ask for; the budget was planned with coarser ones
    monkeypatch.setattr("pyrosparse.coding.psz._choose_c", lambda *_, **__: 0.25)
    small = pipeline.preview(run_dir, threshold=2.0)
    budget = ps.coding.encoded_size(small, c=1.0)
    config = settings(prune={"budget": budget})
    context = Context(config, RunFolder.existing(run_dir), print)
    fitting = Fitting(context)
    files = Files(context, fitting, Cutting(context, fitting))
    with pytest.warns(PyrosparseWarning, match="steps of .* were taken"):
        info = files._save(run_dir / "network.psz", small)
    assert 0.25 < (info.c or 0.0) <= 1.0
    assert info.bytes <= budget


def test_prune_needs_a_finished_fit(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the folder of a run"):
        pipeline.prune_again(tmp_path)
    shutil.rmtree(run_dir / "checkpoint")
    with pytest.raises(DataError, match="holds no finished fit"):
        pipeline.prune_again(run_dir)


# --- networks of the user, teachers ------------------------------------------------------------

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


# --- agreement and disk ------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "error", "off"), [("file", CorruptFileError, 1e-4), ("onnx", ExportError, 1e-2)])
def test_outputs_that_do_not_agree_are_an_error(what: str, error: type[Exception], off: float, tmp_path: Path) -> None:
    x = torch.randn(4, 3)
    assert measure.agree(what, x, x.clone(), tmp_path) == 0
    with pytest.raises(error, match="does not agree with the network in memory"):
        measure.agree(what, x, x + off, tmp_path)
    with pytest.raises(error):
        measure.agree(what, x, x * torch.nan, tmp_path)


def test_complex_numbers_count_twice() -> None:
    network = torch.nn.Linear(3, 2, dtype=torch.complex64)
    assert measure.sizes(network)["parameters"] == 2 * (6 + 2)


def test_a_full_disk_keeps_what_was_finished(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.existing(run_dir)
    before = content(run_dir)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"metrics.json could not be written: No space left on device"):
        folder.write_metrics()
    assert content(run_dir) == before


def test_metrics_are_plain_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics = {"a": torch.tensor([1.0, torch.inf]), "b": (1, float("nan")), "c": tmp_path, "d": None}
    folder.write_metrics()
    assert metrics(tmp_path) == {"a": [1.0, None], "b": [1, None], "c": str(tmp_path), "d": None}


def test_damaged_metrics(run_dir: Path) -> None:
    (run_dir / "metrics.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"metrics.json is not JSON"):
        RunFolder.existing(run_dir)
