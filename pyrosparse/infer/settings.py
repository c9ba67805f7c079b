"""The settings of a fit, checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.guides.family import DEFAULT_THRESHOLD
from pyrosparse.infer.schedules import Schedule, constant
from pyrosparse.text import nearest

__all__ = ["FitSettings", "pick_device"]


@dataclass
class FitSettings:
    """How :func:`pyrosparse.fit` runs; each field is a keyword argument of it.

    :param epochs: passes over the data.
    :param kl_schedule: β, the weight of the KL terms, by the progress of the run.
    :param site_schedules: another schedule for some sites, by name or pattern (``"fc1.*"``).
    :param lr: learning rate of means, biases and all other parameters.
    :param lr_log_var: learning rate of log variances; ten times ``lr`` when None.
    :param lr_schedule: factor on both rates by the progress of the run.
    :param clip: largest norm of the gradient (of the loss in nats an example); no clipping when None.
    :param teacher: a network whose opinion is mixed with the labels (distillation).
    :param teacher_weight: how much of it, between 0 and 1.
    :param temperature: its softmax temperature.
    :param threshold: largest log α that counts as alive, in the bar, in validation, shrinking and freezing.
    :param shrink_every: epochs between two looks for dead units to cut; 0 for never.
    :param freeze_at: part of the run after which the mask of kept weights is fixed; None for never.
    :param local_reparam: draw pre-activations instead of weights.
    :param checkpoint: folder for a checkpoint after each epoch; None for none.
    :param checkpoint_every: epochs between two checkpoints; the last epoch always has one.
    :param resume: go on from the folder's checkpoint if there is one.
    :param device: ``"auto"`` (CUDA if there is one), or any torch device.
    :param seed: seeds torch's generators; None leaves them as they are.
    :param progress: whether to show a bar.
    :param callbacks: each is called with the state after each epoch.
    """

    epochs: int
    kl_schedule: Schedule = field(default_factory=constant)
    site_schedules: Mapping[str, Schedule] = field(default_factory=dict)
    lr: float = 1e-3
    lr_log_var: float | None = None
    lr_schedule: Schedule | None = None
    clip: float | None = None
    teacher: nn.Module | None = None
    teacher_weight: float = 0.7
    temperature: float = 2.0
    threshold: float = DEFAULT_THRESHOLD
    shrink_every: int = 1
    freeze_at: float | None = None
    local_reparam: bool = True
    checkpoint: str | Path | None = None
    checkpoint_every: int = 1
    resume: bool = False
    device: str | torch.device = "auto"
    seed: int | None = None
    progress: bool = True
    callbacks: tuple[Callable[[Any], None], ...] = ()

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)
        _at_least("shrink_every", self.shrink_every, 0)
        _at_least("checkpoint_every", self.checkpoint_every, 1)
        for name in ("lr", "lr_log_var", "clip", "temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"fit: {name} is {value}; give a positive number")
        for name in ("teacher_weight", "freeze_at"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"fit: {name} is {value}; give a number between 0 and 1")
        if self.resume and self.checkpoint is None:
            raise ConfigError("fit: resume=True needs a folder: give checkpoint='run/'")

    @property
    def log_var_rate(self) -> float:
        """Learning rate of log variances."""
        return 10.0 * self.lr if self.lr_log_var is None else self.lr_log_var

    def schedules_of(self, sites: Mapping[str, Any]) -> dict[str, Schedule]:
        """Schedule of each site: its own, or the one for all.

        :raises ConfigError: for a pattern that fits no site.
        """
        chosen = dict.fromkeys(sites, self.kl_schedule)
        for pattern, schedule in self.site_schedules.items():
            found = [site for site in sites if fnmatchcase(site, pattern)]
            if not found:
                raise ConfigError(f"fit: site_schedules[{pattern!r}] fits no site{nearest(pattern, sites)}")
            chosen.update(dict.fromkeys(found, schedule))
        return chosen


def _at_least(name: str, value: int, least: int) -> None:
    if int(value) != value or value < least:
        raise ConfigError(f"fit: {name} is {value}; give a whole number, at least {least}")


def pick_device(device: str | torch.device) -> torch.device:
    """Turn ``"auto"`` or a name into a device.

    :raises ConfigError: for a device that torch does not know or that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is not known to torch; try 'auto', 'cpu' or 'cuda'") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, and torch sees no CUDA device; use device='auto' or 'cpu'")
    return picked
