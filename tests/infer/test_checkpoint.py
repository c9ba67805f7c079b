"""Checkpoints are written at once or not at all, and hold every random generator."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pyrosparse.errors import CheckpointError
from pyrosparse.infer import checkpoint as module
from pyrosparse.infer.checkpoint import (
    check_folder,
    load_checkpoint,
    plain,
    random_state,
    restore_random_state,
    save_checkpoint,
)


def new(folder: Path) -> None:
    check_folder(folder, resume=False)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"epoch": 3, "w": torch.randn(3), "history": [{"loss": 0.5, "units": {"fc1": 4}}], "random": random_state()}
    path = save_checkpoint(tmp_path / "deep" / "run", state)
    assert path.exists() and [p.name for p in path.parent.iterdir()] == ["last.pt"]
    again = load_checkpoint(path.parent)
    assert again is not None
    assert again["epoch"] == 3 and again["history"] == state["history"]
    assert torch.equal(again["w"], state["w"])


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {"epoch": 1})

    def full_disk(state: Any, file: Any) -> None:
        file.write(b"half a check")
        raise RuntimeError("PytorchStreamWriter failed writing file: no space left on device")

    monkeypatch.setattr(module.torch, "save", full_disk)
    with pytest.raises(CheckpointError, match="no space left"):
        save_checkpoint(tmp_path, {"epoch": 2})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    again = load_checkpoint(tmp_path)
    assert again is not None and again["epoch"] == 1


@pytest.mark.parametrize("write", [lambda folder: save_checkpoint(folder, {}), new])
def test_a_folder_that_is_a_file(tmp_path: Path, write: Any) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(CheckpointError, match="run"):
        write(tmp_path / "run")
    with pytest.raises(CheckpointError, match="run"):
        write(tmp_path / "run" / "below")


def test_check_folder_leaves_nothing(tmp_path: Path) -> None:
    new(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = save_checkpoint(tmp_path, {"w": torch.randn(1000)})
    content = {"truncated": path.read_bytes()[:2000], "text": b"hello", "empty": b""}[damage]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt.*delete it"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("state", [{"schema": 99, "epoch": 1}, {"epoch": 1}, [1, 2]])
def test_other_schemas_are_refused(tmp_path: Path, state: Any) -> None:
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        load_checkpoint(tmp_path)


def test_every_generator_comes_back() -> None:
    random.random()
    np.random.rand(3)  # noqa: NPY002
    torch.rand(3)

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(np.random.normal()), float(torch.randn(()))]  # noqa: NPY002

    state = random_state()
    first = draw()
    assert draw() != first
    restore_random_state(state)
    assert draw() == first


def test_a_loaders_own_generator_comes_back() -> None:
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(torch.arange(20)), batch_size=5, shuffle=True, generator=generator)
    state = random_state(loader)
    first = [batch for (batch,) in loader]
    restore_random_state(state, loader)
    assert all(torch.equal(a, b) for a, (b,) in zip(first, loader, strict=True))


def test_what_callbacks_store_is_made_plain() -> None:
    made = plain([{"a": np.float64(0.5), 3: (np.int32(2), "x"), "b": {"c": None, "d": True}}])
    assert made == [{"a": 0.5, "3": [2, "x"], "b": {"c": None, "d": True}}]
    assert type(made[0]["a"]) is float and type(made[0]["3"][0]) is int
    with pytest.raises(CheckpointError, match="the history has a object"):
        plain({"a": object()})
