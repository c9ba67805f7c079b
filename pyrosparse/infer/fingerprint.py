"""What makes a run the run that it is: a checkpoint remembers it, so that no two are mixed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.data.loader import TensorLoader
from pyrosparse.errors import CheckpointError
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.infer.evaluate import Batches
from pyrosparse.infer.schedules import Schedule, mean_weight
from pyrosparse.infer.settings import FitSettings
from pyrosparse.model import SparseModel

__all__ = ["check_same_run", "fingerprint"]

_PLAIN = ("lr", "clip", "threshold", "shrink_every", "freeze_at", "local_reparam", "autocast", "seed")
_TAUGHT = ("teacher", "teacher_weight", "temperature")
_SAMPLES = 11  # points at which a schedule is looked at: 0, 0.1, …, 1
_SHOWN = 5


def fingerprint(
    settings: FitSettings, model: SparseModel, guide: AutoSparse, loader: Batches, *, per_epoch: int
) -> dict[str, Any]:
    """Describe a run by numbers, strings and lists: what a run that goes on must have in common with its start.

    Not in it: the number of epochs and the shapes, which are compared by themselves, the device, and what only
    looks on (the bar, callbacks, checkpoints). Data are in it where they lie in memory: those of a
    :class:`~pyrosparse.data.TensorLoader`.

    :param per_epoch: steps of an epoch.
    """
    found: dict[str, Any] = {name: getattr(settings, name) for name in _PLAIN}
    found |= {"lr_log_var": settings.log_var_rate, "steps an epoch": per_epoch}
    if isinstance(loader, TensorLoader):
        found["data"] = _checksum([loader.x, loader.y])
    found["teacher"] = None if settings.teacher is None else _weights(settings.teacher)
    found |= {name: getattr(settings, name) for name in _TAUGHT[1:]}
    found["lr_schedule"] = None if settings.lr_schedule is None else _samples(settings.lr_schedule)
    for site, schedule in settings.schedules_of(model.sites).items():
        found[f"KL schedule of {site}"] = _samples(schedule)
        found[f"prior of {site}"] = _described(model.prior_of(site))
        family = guide.families[site]
        found[f"family of {site}"] = type(family).__name__
        if len(family.sites) > 1:  # with scales: what only these read
            found["lr_scale"] = settings.scale_rate
            found[f"criterion of {site}"] = str(getattr(family, "criterion", ""))
        if getattr(family, "max_std", None) is not None:
            found[f"max_std of {site}"] = family.max_std
    found["likelihood"] = _described(model.likelihood)
    return found


def check_same_run(saved: Mapping[str, Any], now: Mapping[str, Any], folder: Path, *, finished: bool) -> None:
    """Compare what a checkpoint remembers with what is asked for.

    :param finished: whether all epochs are done: then nothing is taught any more, and the teacher may be left out.
    :raises CheckpointError: naming what differs.
    """
    ignored = set(_TAUGHT) if finished and now["teacher"] is None else set()
    ignored |= {"data"} - set(saved)  # checkpoints of earlier versions do not say
    names = [name for name in {**saved, **now} if name not in ignored and saved.get(name) != now.get(name)]
    if not names:
        return
    shown = [f"{name} was {_written(saved.get(name))} and is {_written(now.get(name))}" for name in names[:_SHOWN]]
    more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise CheckpointError(
        f"the checkpoint in {folder} is of a run with other settings: {'; '.join(shown)}{more}. Go on with the same "
        "ones, or give another folder"
    )


def _samples(schedule: Schedule) -> list[float]:
    return [mean_weight(schedule(i / (_SAMPLES - 1))) for i in range(_SAMPLES)]


def _described(module: nn.Module) -> str:
    """Type, plain attributes and buffers of a prior or likelihood; of what it learns, only that it does."""
    parts = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
    plain = {
        k: v.value if isinstance(v, Enum) else v
        for k, v in parts.items()
        if v is None or isinstance(v, bool | int | float | str)
    }
    buffers = {k: _number_or_sum(v) for k, v in module.named_buffers()}
    learned = {k: "learned" for k, _ in module.named_parameters()}
    parts_of_it = {k: _described(v) for k, v in module.named_children()}
    words = ", ".join(f"{k}={v!r}" for k, v in {**plain, **buffers, **learned, **parts_of_it}.items())
    return f"{type(module).__name__}({words})"


def _number_or_sum(value: Tensor) -> float | str:
    return value.item() if value.numel() == 1 else _checksum([value])


def _weights(module: nn.Module) -> str:
    return f"{type(module).__name__} with weights {_checksum(module.state_dict().values())}"


def _checksum(tensors: Iterable[Tensor]) -> str:
    total = 0
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total = zlib.crc32(flat.view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"{v:.3g}" for v in value) + "]"
    return str(value)
