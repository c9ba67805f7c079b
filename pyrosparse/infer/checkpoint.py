"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrosparse.errors import CheckpointError

__all__ = [
    "CHECKPOINT",
    "check_folder",
    "load_checkpoint",
    "plain",
    "random_state",
    "restore_random_state",
    "save_checkpoint",
]

CHECKPOINT = "last.pt"
_SCHEMA = 1


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Write a checkpoint at once or not at all: a run killed while writing leaves the one before.

    :param folder: made if needed.
    :param state: tensors, numbers, strings, lists and dictionaries.
    :raises CheckpointError: if it cannot be written.
    """
    path = folder / CHECKPOINT
    partial = folder / f"{CHECKPOINT}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"schema": _SCHEMA, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}; free some space or give another folder"
        ) from error
    return path


def check_folder(folder: Path, *, resume: bool) -> None:
    """Make a folder and write a byte to it: before a run, not after its first epoch.

    :param resume: whether the run goes on from a checkpoint that is there; else one that is there is refused.
    :raises CheckpointError: if it has one that is not to be resumed, or cannot be written to.
    """
    if not resume and (folder / CHECKPOINT).exists():
        raise CheckpointError(
            f"{folder} has a checkpoint already, which this run would overwrite: go on from it with resume=True, "
            f"give another folder, or delete {CHECKPOINT}"
        )
    probe = folder / f"{CHECKPOINT}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        raise CheckpointError(
            f"cannot write a checkpoint to {folder}: {error}; free some space or give another folder"
        ) from error


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the last checkpoint of a folder; None when there is none.

    :raises CheckpointError: if the file is damaged, or from a newer version.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}; delete it to start anew") from error
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA:
        raise CheckpointError(f"{path} is not a checkpoint of this version; delete it to start anew")
    return state


def plain(value: Any) -> Any:
    """Turn what callbacks put into a history into what a checkpoint can hold: numbers, not numpy's numbers.

    :raises CheckpointError: for anything else than numbers, strings, tensors, lists and dictionaries.
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    raise CheckpointError(
        f"the history has a {type(value).__name__}, which a checkpoint cannot hold: let the callback "
        "store numbers, strings, lists and dictionaries"
    )


def _generators(loader: object) -> list[torch.Generator]:
    """Return the generators of a loader, of its samplers, and of a loader inside it, each once and in a fixed order."""
    owners: list[object] = [loader]
    found: list[torch.Generator] = []
    for owner in owners:  # grows by the parts of each
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and not any(generator is g for g in found):
            found.append(generator)
        parts = [getattr(owner, name, None) for name in ("sampler", "batch_sampler", "loader")]
        owners += [part for part in parts if part is not None and not any(part is o for o in owners)]
    return found


def random_state(loader: object = None) -> dict[str, Any]:
    """State of every generator that batches and noise may come from: torch, CUDA, numpy, random, the loader's."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, spare = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), spare],
        "loader": [generator.get_state() for generator in _generators(loader)],
    }


def restore_random_state(state: dict[str, Any], loader: object = None) -> None:
    """Give every generator back the state that :func:`random_state` saw."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, spare = state["python"]
    random.setstate((version, tuple(internal), spare))
    for generator, saved in zip(_generators(loader), state["loader"], strict=False):
        generator.set_state(saved)
