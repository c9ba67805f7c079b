"""Examples with several labels that hold together, from an npz file through every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.errors import ConfigError, DataError, PyrosparseWarning
from tests.pipeline.runs import settings

NOTES, WINDOW = 5, 64


def chords(path: Path, **changes: Any) -> dict[str, Any]:
    """Tables of settings for an npz file in which some of a few sinusoids sound together."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 600), ("test", 200)):
        played = draw.random((count, NOTES)) < 0.3
        phases = 2 * np.pi * draw.random((count, NOTES, 1))
        waves = np.sin(2 * np.pi * np.arange(1, NOTES + 1)[:, None] * 5 * np.arange(WINDOW) / WINDOW + phases)
        arrays[f"x_{split}"] = (waves * played[..., None]).sum(1)[:, None]
        arrays[f"y_{split}"] = played
    np.savez(path / "chords.npz", **arrays | changes)
    return {
        "data": {"source": "npz", "path": str(path / "chords.npz"), "batch_size": 32},
        "model": {"name": "complex_music", "args": {"notes": NOTES, "window": WINDOW, "channels": [6], "hidden": 16}},
        "prior": {"name": "ComplexLogUniform"},
        "pretrain": {"epochs": 12, "lr": 1e-2},
    }


def test_a_network_of_notes_through_every_stage(tmp_path: Path) -> None:
    baselines = {"methods": ["magnitude", "l1"], "epochs": 2, "l1_epochs": 2, "penalty": 1e-4}
    out = tmp_path / "run"
    found = pipeline.run(settings(baselines=baselines, **chords(tmp_path)), out)
    rows = {row["name"]: row for row in found["stages"]}
    # never a note would be wrong in 30 % of the labels; a softmax over them could not say two at once
    for stage in ("dense", "fine_tune", "file", "magnitude"):
        assert rows[stage]["error"] < 0.1 and rows[stage]["val_error"] < 0.1, stage
    x, y = (np.load(tmp_path / "chords.npz")[key] for key in ("x_test", "y_test"))
    network = ps.load(out / "network.psz")
    given = pipeline.measure.outputs(network, ps.data.load("npz", tmp_path / "chords.npz").x_test)
    assert len(x) == len(y) == 200
    assert float(((given.numpy() > 0) != y).mean()) == pytest.approx(rows["file"]["error"])
    assert (out / "report.html").is_file()
    pipeline.prune_again(out, threshold=0.0)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    tables = chords(tmp_path)
    more = tables | {"model": {"name": "complex_music", "args": tables["model"]["args"] | {"notes": 7}}}
    with pytest.raises(DataError, match="has 7 outputs.* has 5 labels that may hold together"):
        pipeline.run(settings(**more), tmp_path / "run")
    teacher = {"name": "complex_music", "args": tables["model"]["args"]}
    with pytest.raises(ConfigError, match="softens one label an example, and .* has several"):
        pipeline.run(settings(fit={"epochs": 1, "teacher": teacher}, **tables), tmp_path / "run")
    with pytest.raises(ConfigError, match="fine_tune.teacher_weight softens one label an example"):
        pipeline.run(settings("fine_tune.teacher_weight=0.5", **tables), tmp_path / "run")
    (tmp_path / "bad").mkdir()
    tables = chords(tmp_path / "bad", y_test=np.full((200, NOTES), 2))
    with pytest.raises(DataError, match=r"y_test\[0, 0\] is 2, and labels that may hold together must be 1 or 0"):
        pipeline.run(settings(**tables), tmp_path / "run")
    tables = chords(tmp_path / "bad", y_test=np.zeros(200, int))
    with pytest.raises(DataError, match=r"y_test has shape \(200,\) and y_train \(600, 5\)"):
        pipeline.run(settings(**tables), tmp_path / "run")
    tables = chords(tmp_path / "bad", y_train=np.full((600, NOTES), 0.5))
    with pytest.raises(DataError, match=r"y_train\[0, 0\] is 0.5 .* must be whole numbers"):
        pipeline.run(settings(**tables), tmp_path / "run")
    one_hot = np.eye(NOTES)
    tables = chords(tmp_path / "bad", y_train=one_hot[np.arange(600) % 5], y_test=one_hot[np.arange(200) % 5])
    with pytest.warns(PyrosparseWarning, match=r"exactly one of its 5 labels.* give their numbers, shape \(N,\)"):
        ps.data.load("npz", tables["data"]["path"])
