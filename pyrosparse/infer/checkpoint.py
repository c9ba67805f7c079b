"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyrosparse.errors import CheckpointError

__all__ = ["load_checkpoint", "random_state", "restore_random_state", "save_checkpoint"]

_NAME = "last.pt"
_SCHEMA = 1


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Write a checkpoint at once or not at all: a run killed while writing leaves the one before.

    :param folder: made if needed.
    :param state: tensors, numbers, strings, lists and dictionaries.
    :raises CheckpointError: if it cannot be written.
    """
    path = folder / _NAME
    partial = folder / f"{_NAME}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"schema": _SCHEMA, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}; free some space or give another folder"
        ) from error
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the last checkpoint of a folder; None when there is none.

    :raises CheckpointError: if the file is damaged, or from a newer version.
    """
    path = folder / _NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}; delete it to start anew") from error
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA:
        raise CheckpointError(f"{path} is not a checkpoint of this version; delete it to start anew")
    return state


def random_state() -> dict[str, Any]:
    """State of every generator that batches and noise may come from: torch, CUDA, numpy, random."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, spare = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), spare],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Give every generator back the state that :func:`random_state` saw."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, spare = state["python"]
    random.setstate((version, tuple(internal), spare))
