"""The state of a run: what callbacks see, what checkpoints hold, and what is left at the end."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pyrosparse.errors import CheckpointError, PyrosparseWarning
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.infer.checkpoint import plain, random_state, restore_random_state
from pyrosparse.infer.evaluate import Batches
from pyrosparse.infer.fingerprint import check_same_run
from pyrosparse.model import SparseModel
from pyrosparse.pruning.shrink import Shrinker, cut_to

__all__ = ["Fit", "FitState", "pack", "unpack"]


@dataclass
class FitState:
    """What a callback sees after each epoch; nothing in it is a copy.

    :param model: the model, as far as it is trained.
    :param guide: the guide, likewise.
    :param optimizer: the optimiser.
    :param epoch: epochs that are done.
    :param epochs: epochs of the whole run.
    :param history: one record an epoch; a callback may add entries to the last one.
    :param stop: set it to True to end the run after this epoch.
    :param seconds: time that training has taken, over all sessions of the run.
    """

    model: SparseModel
    guide: AutoSparse
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    stop: bool = False
    seconds: float = 0.0


@dataclass
class Fit:
    """A finished run.

    :param model: the model that was fitted (the one handed in).
    :param guide: its guide.
    :param history: one record an epoch: ``epoch, loss`` (β-ELBO an example, nats), ``log_likelihood`` and ``kl``
        (of the whole training set, nats), ``kl_sites`` (at the last step), ``beta`` and ``beta_sites`` (at the end
        of the epoch), ``kept, total, units, lr, seconds`` (since the start of the run), ``step_ms`` (mean),
        ``replayed`` (share of the steps that were played from a tape), and with validation data ``val_error,
        val_log_likelihood`` and, where the error is that of labels, ``val_accuracy``;
        ``notes`` says which units cannot be cut, and why.
    :param checkpoint: the last checkpoint, None when none was asked for.
    """

    model: SparseModel
    guide: AutoSparse
    history: list[dict[str, Any]]
    checkpoint: Path | None = None


def pack(state: FitState, shrinker: Shrinker, loader: Batches, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that a run needs to go on from here, for a checkpoint.

    :param settings: the run's :func:`~pyrosparse.infer.fingerprint.fingerprint`.
    """
    return {
        "settings": settings,
        "model": state.model.state_dict(),
        "guide": state.guide.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "shapes": _shapes(state.model),
        "kept": {layer: list(pair) for layer, pair in state.model.kept.items()},
        "dead": shrinker.state_dict(),
        "epoch": state.epoch,
        "epochs": state.epochs,
        "history": plain(state.history),
        "seconds": state.seconds,
        "random": random_state(loader),
    }


def unpack(
    saved: dict[str, Any],
    folder: Path,
    state: FitState,
    shrinker: Shrinker,
    loader: Batches,
    *,
    settings: dict[str, Any],
) -> None:
    """Take a run up where :func:`pack` left it, in place; units that were cut are cut again.

    :param settings: fingerprint of the run that is asked for.
    :raises CheckpointError: if the checkpoint is of another model, guide or number of epochs, or has other settings.
    """
    shapes = _shapes(state.model)
    if saved["shapes"] != shapes:
        raise CheckpointError(
            f"the checkpoint in {folder} has the weights {saved['shapes']}, and this model has {shapes}: "
            "it belongs to another model"
        )
    if saved["epochs"] != state.epochs:
        raise CheckpointError(
            f"the checkpoint in {folder} is of a run of {saved['epochs']} epochs, and {state.epochs} are "
            "asked for: schedules would jump; ask for the same number"
        )
    if "settings" in saved:
        check_same_run(saved["settings"], settings, folder, finished=saved["epoch"] >= saved["epochs"])
    else:
        warnings.warn(
            f"the checkpoint in {folder} is of an earlier version and does not tell its settings: they are taken to be "
            "the same as now",
            PyrosparseWarning,
            stacklevel=4,
        )
    try:
        cut_to(state.model, state.guide, {layer: tuple(pair) for layer, pair in saved["kept"].items()})
        state.model.load_state_dict(saved["model"])
        state.guide.load_state_dict(saved["guide"])
        state.optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"the checkpoint in {folder} does not fit this model and guide: {error}") from error
    shrinker.load_state_dict(saved["dead"])
    state.epoch = saved["epoch"]
    state.history = saved["history"]
    state.seconds = saved["seconds"]
    restore_random_state(saved["random"], loader)


def _shapes(model: SparseModel) -> dict[str, list[int]]:
    """Original shape of each site."""
    return {name: list(site.shape) for name, site in model.sites.items()}
