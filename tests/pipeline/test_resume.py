"""A run that is cut off goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyrosparse import pipeline
from pyrosparse.errors import (
    ConfigError,
)
from pyrosparse.pipeline.cutting import Cutting
from pyrosparse.pipeline.files import Files
from pyrosparse.pipeline.fitting import Fitting
from tests.pipeline.runs import content, metrics, settings


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


def test_resume_where_no_run_is_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with monkeypatch.context() as patch:
        cut_off(patch, Fitting, "_write_history")
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(settings(), tmp_path / "new", resume=True, say=said.append)
    assert "holds no run to resume" in said[0]


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
