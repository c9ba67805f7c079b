"""Agreement, sizes, and a disk that is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pyrosparse import pipeline
from pyrosparse.errors import CheckpointError, ConfigError, CorruptFileError, ExportError, NetworkError
from pyrosparse.pipeline import build, measure
from pyrosparse.pipeline.folder import RunFolder
from tests.pipeline.runs import content, metrics


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


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[]", "a list where a table belongs"),
        ('{"stages": [{}]}', "stages has None"),
        ('{"stages": "x"}', "stages is not a list of tables"),
        ('{"layers": "x"}', "layers is not a list of tables"),
        ('{"notes": null}', "notes is not a list of names"),
        ('{"finished": null}', "finished is not a list of names"),
    ],
)
def test_metrics_of_another_form(run_dir: Path, text: str, wrong: str) -> None:
    (run_dir / "metrics.json").write_text(text)
    with pytest.raises(CorruptFileError, match=f"metrics of a run .{wrong}"):
        RunFolder.existing(run_dir)


def test_settings_that_are_no_text(run_dir: Path) -> None:
    (run_dir / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config.toml cannot be read"):
        pipeline.prune_again(run_dir, threshold=1.0)


def test_weights_that_are_damaged(tmp_path: Path) -> None:
    network, path = torch.nn.Linear(3, 2), tmp_path / "dense.safetensors"
    save_file(network.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(NetworkError, match="not a whole safetensors file"):
        build.weights(network, str(path))
    save_file({**network.state_dict(), "bias": torch.tensor([1.0, torch.nan])}, path)
    with pytest.raises(NetworkError, match="bias holds NaN"):
        build.weights(network, str(path))
    save_file({"weight": torch.zeros(2, 3)}, path)
    with pytest.raises(NetworkError, match="does not fit the network"):
        build.weights(network, str(path))
