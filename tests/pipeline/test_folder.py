"""Agreement, sizes, and a disk that is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pyrosparse.errors import (
    CheckpointError,
    CorruptFileError,
    ExportError,
)
from pyrosparse.pipeline import measure
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
