"""The settings of a fit, checked at the door."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.guides.family import DEFAULT_THRESHOLD
from pyrosparse.infer.schedules import Schedule, constant
from pyrosparse.text import nearest

__all__ = ["FitSettings", "pick_device", "settings_of"]

# float16 is not among them: its gradients would need a scale of the loss
AUTOCAST = {"bfloat16": torch.bfloat16}


@dataclass
class FitSettings:
    """How :func:`pyrosparse.fit` runs; each field is a keyword argument of it.

    :param epochs: passes over the data.
    :param kl_schedule: β, the weight of the KL terms, by the progress of the run.
    :param site_schedules: another schedule for some sites, by the name of the site or its layer, or by a pattern
        (``"fc1.weight"``, ``"fc1"``, ``"conv*"``); of two that fit, the later counts.
    :param lr: learning rate of means, biases and all other parameters.
    :param lr_log_var: learning rate of log variances; ten times ``lr`` when None.
    :param lr_scale: learning rate of group scales and gates; ten times ``lr`` when None.
    :param lr_schedule: factor on all rates by the progress of the run.
    :param clip: largest norm of the gradient (of the loss in nats an example); no clipping when None.
    :param teacher: a network whose opinion is mixed with the labels (distillation).
    :param teacher_weight: how much of it, between 0 and 1.
    :param temperature: its softmax temperature.
    :param threshold: largest log α that counts as alive, in the bar, in validation, shrinking and freezing.
    :param shrink_every: epochs between two looks for dead units to cut; 0 for never.
    :param freeze_at: part of the run after which the mask of kept weights is fixed; None for never.
    :param local_reparam: draw pre-activations instead of weights.
    :param autocast: ``"bfloat16"`` computes matrix products and convolutions in half precision, which is faster on
        CUDA and on processors that are made for it; parameters, KL, noise and likelihood stay as they are. None: all in
        the type of the parameters.
    :param replay: whether steps are played from a tape of the operations on tensors that one of them consisted of,
        without the Python around them; the numbers stay the same, see :class:`~pyrosparse.infer.replay.Replay`. None:
        on the CPU, in epochs of 16 steps and more, where network, priors and likelihood are made of torch's and this
        library's own modules without hooks. Give True for modules of your own that compute the same operations at
        every step, and on CUDA, where the tape becomes a CUDA graph; False to run the Python of every step.
    :param checkpoint: folder for a checkpoint after each epoch; None for none. One that has a checkpoint already is
        refused without ``resume``.
    :param checkpoint_every: epochs between two checkpoints; the last epoch always has one.
    :param resume: go on from the folder's checkpoint if there is one; it must be of a run with the same settings.
    :param device: ``"auto"`` (CUDA if there is one), or any torch device.
    :param seed: seeds torch's generators; None leaves them as they are.
    :param progress: whether to show a bar.
    :param callbacks: a function, or a sequence of functions, called with the state after each epoch.
    """

    epochs: int
    kl_schedule: Schedule = field(default_factory=constant)
    site_schedules: Mapping[str, Schedule] = field(default_factory=dict)
    lr: float = 1e-3
    lr_log_var: float | None = None
    lr_scale: float | None = None
    lr_schedule: Schedule | None = None
    clip: float | None = None
    teacher: nn.Module | None = None
    teacher_weight: float = 0.7
    temperature: float = 2.0
    threshold: float = DEFAULT_THRESHOLD
    shrink_every: int = 1
    freeze_at: float | None = None
    local_reparam: bool = True
    autocast: str | None = None
    replay: bool | None = None
    checkpoint: str | Path | None = None
    checkpoint_every: int = 1
    resume: bool = False
    device: str | torch.device = "auto"
    seed: int | None = None
    progress: bool = True
    callbacks: Sequence[Callable[[Any], None]] = ()

    def __post_init__(self) -> None:
        self.epochs = _whole("epochs", self.epochs, 1)
        self.shrink_every = _whole("shrink_every", self.shrink_every, 0)
        self.checkpoint_every = _whole("checkpoint_every", self.checkpoint_every, 1)
        for name in ("lr", "lr_log_var", "lr_scale", "clip", "temperature"):
            value = getattr(self, name)
            if not (_optional(name, value) or (_is_number(value) and 0 < value < math.inf)):
                raise ConfigError(f"fit: {name} is {value!r}; give a positive number")
        for name in ("teacher_weight", "freeze_at"):
            value = getattr(self, name)
            if not (_optional(name, value) or (_is_number(value) and 0 <= value <= 1)):
                raise ConfigError(f"fit: {name} is {value!r}; give a number between 0 and 1")
        if not _is_number(self.threshold):
            raise ConfigError(f"fit: threshold is {self.threshold!r}; give a number (largest log α that is kept)")
        if self.teacher is not None and not isinstance(self.teacher, nn.Module):
            raise ConfigError(f"fit: teacher is {self.teacher!r}; give a trained torch.nn.Module")
        if self.replay is not None and not isinstance(self.replay, bool):
            raise ConfigError(f"fit: replay is {self.replay!r}; give True or False, or leave it out")
        if self.autocast not in (None, *AUTOCAST):
            known = " or ".join(repr(name) for name in AUTOCAST)
            raise ConfigError(f"fit: autocast is {self.autocast!r}; give {known}, or leave it out")
        self._check_schedules()
        self.callbacks = _functions(self.callbacks)
        if self.resume and self.checkpoint is None:
            raise ConfigError("fit: resume=True needs a folder: give checkpoint='run/'")

    def _check_schedules(self) -> None:
        if not isinstance(self.site_schedules, Mapping):
            raise ConfigError(
                f"fit: site_schedules is {self.site_schedules!r}; give a dictionary from sites to schedules"
            )
        given: dict[str, Any] = {f"site_schedules[{k!r}]": v for k, v in self.site_schedules.items()}
        given["kl_schedule"] = self.kl_schedule
        if self.lr_schedule is not None:
            given["lr_schedule"] = self.lr_schedule
        for name, schedule in given.items():
            if not callable(schedule):
                example = f"constant({schedule})" if _is_number(schedule) else "warm_up(until=0.3)"
                raise ConfigError(
                    f"fit: {name} is {schedule!r}; give a function of the progress of the run (from 0 to 1), such as "
                    f"pyrosparse.infer.schedules.{example}"
                )

    @property
    def log_var_rate(self) -> float:
        """Learning rate of log variances."""
        return 10.0 * self.lr if self.lr_log_var is None else self.lr_log_var

    @property
    def autocast_type(self) -> torch.dtype | None:
        """Type of the products; None for that of the parameters."""
        return None if self.autocast is None else AUTOCAST[self.autocast]

    @property
    def scale_rate(self) -> float:
        """Learning rate of group scales and gates."""
        return 10.0 * self.lr if self.lr_scale is None else self.lr_scale

    def schedules_of(self, sites: Mapping[str, Any]) -> dict[str, Schedule]:
        """Schedule of each site: its own, or the one for all.

        :raises ConfigError: for a pattern that fits no site.
        """
        chosen = dict.fromkeys(sites, self.kl_schedule)
        for pattern, schedule in self.site_schedules.items():
            found = [s for s in sites if fnmatchcase(s, pattern) or fnmatchcase(s.rpartition(".")[0], pattern)]
            if not found:
                raise ConfigError(f"fit: site_schedules[{pattern!r}] fits no site{nearest(pattern, sites)}")
            chosen.update(dict.fromkeys(found, schedule))
        return chosen


def settings_of(given: Mapping[str, Any]) -> FitSettings:
    """Make settings of keyword arguments.

    :raises ConfigError: for one that is unknown, with the nearest one, or out of its range.
    """
    known = [setting.name for setting in fields(FitSettings)]
    for name in given:
        if name not in known:
            raise ConfigError(f"fit: there is no setting {name!r}{nearest(name, [*known, 'val_loader'])}")
    return FitSettings(**given)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def _optional(name: str, value: object) -> bool:
    """Whether a setting is left out, and may be."""
    return value is None and FitSettings.__dataclass_fields__[name].default is None


def _whole(name: str, value: Any, least: int) -> int:
    if not _is_number(value) or value in {math.inf, -math.inf} or int(value) != value or value < least:
        raise ConfigError(f"fit: {name} is {value!r}; give a whole number, at least {least}")
    return int(value)


def _functions(given: Any) -> tuple[Callable[[Any], None], ...]:
    found = (given,) if callable(given) else given
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(map(callable, found)):
        raise ConfigError(f"fit: callbacks is {given!r}; give a function of the state, or a list of such functions")
    return tuple(found)


def pick_device(device: str | torch.device) -> torch.device:
    """Turn ``"auto"`` or a name into a device.

    :raises ConfigError: for a device that torch does not know or that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {device!r} is not known to torch; try 'auto', 'cpu' or 'cuda'") from error
    if picked.type == "meta":
        raise ConfigError("device 'meta' has shapes and no numbers; use device='auto' or 'cpu'")
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, and torch sees no CUDA device; use device='auto' or 'cpu'")
    return picked
