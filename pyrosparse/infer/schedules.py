"""Schedules: a number that depends on how far a run has come.

Every schedule is a function of the progress of the run, from 0 (before the first step) to 1 (after the
last one), so that it means the same whatever the number of epochs or the speed of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pyrosparse.errors import ConfigError
from pyrosparse.text import nearest

__all__ = [
    "SCHEDULES",
    "ClosedLoop",
    "Schedule",
    "constant",
    "cosine",
    "cyclic",
    "linear_decay",
    "named",
    "overweight",
    "warm_up",
]

Schedule = Callable[[float], float]


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} is {value}: give a fraction of the run, between 0 and 1")
    return value


def _ramp(t: float, start: float, stop: float) -> float:
    """0 before ``start``, 1 after ``stop``, linear between."""
    return 1.0 if t >= stop else 0.0 if t <= start else (t - start) / (stop - start)


def constant(value: float = 1.0) -> Schedule:
    """The same value all along."""
    return lambda t: value


def warm_up(*, until: float = 0.3, value: float = 1.0) -> Schedule:
    """Rise linearly from 0 to ``value`` over the first part ``until`` of the run (Sønderby et al., 2016)."""
    _fraction("until", until)
    return lambda t: value * _ramp(t, 0.0, until)


def overweight(
    *, peak: float = 1.5, rise: float = 0.15, hold: float = 0.4, settle: float = 0.6, value: float = 1.0
) -> Schedule:
    """Rise from 0 to ``peak``, hold it, then come back to ``value``.

    More KL than the posterior's own weight while the decisions are made, and the true weight at the end.

    :param peak: height of the plateau.
    :param rise: part of the run at which the peak is reached.
    :param hold: part of the run until which it is held.
    :param settle: part of the run at which ``value`` is reached.
    """
    if not 0.0 <= rise <= hold <= settle <= 1.0:
        raise ConfigError(f"overweight needs 0 <= rise <= hold <= settle <= 1, not {rise}, {hold}, {settle}")
    return lambda t: peak * _ramp(t, 0.0, rise) + (value - peak) * _ramp(t, hold, settle)


def cyclic(*, cycles: int = 4, ratio: float = 0.5, value: float = 1.0) -> Schedule:
    """Rise from 0 to ``value`` again and again (Fu et al., 2019).

    :param cycles: number of cycles in the run.
    :param ratio: part of each cycle that rises; the rest is held.
    """
    _fraction("ratio", ratio)
    if cycles < 1:
        raise ConfigError(f"cycles is {cycles}: give at least 1")
    return lambda t: value if t >= 1.0 else value * _ramp(t * cycles % 1.0, 0.0, ratio)


def cosine(*, hold: float = 0.4) -> Schedule:
    """1 until ``hold``, then half a cosine down to 0: for learning rates."""
    _fraction("hold", hold)
    return lambda t: 0.5 * (1.0 + math.cos(math.pi * _ramp(t, hold, 1.0)))


def linear_decay(*, hold: float = 0.45) -> Schedule:
    """1 until ``hold``, then linear down to 0: for learning rates."""
    _fraction("hold", hold)
    return lambda t: 1.0 - _ramp(t, hold, 1.0)


class ClosedLoop:
    """Press until the network is as small as asked, then let go: a schedule that watches the run.

    The weight rises from 0 to ``peak``, stays there until the network has ``rate`` times fewer weights than at the
    beginning (those of the layers as they are after live shrinking, whether 0 or not), and then falls linearly to
    ``value``. Where the prior at its true weight leaves a network larger than wanted, this finds the size; a
    ``value`` below 1 leaves a cold posterior, and results must say so.

    :param peak: weight while units are removed.
    :param value: weight afterwards.
    :param rate: weights of the whole network over weights of the shrunk one at which the pressure ends.
    :param rise: part of the run at which the peak is reached.
    :param relax: part of the run that the fall takes.
    :param latest: part of the run at which the pressure ends in any case.
    :raises ConfigError: for parts outside of the run, or a rate below 1.
    """

    def __init__(
        self,
        *,
        peak: float = 4.0,
        value: float = 1.0,
        rate: float = 50.0,
        rise: float = 0.08,
        relax: float = 0.1,
        latest: float = 0.6,
    ) -> None:
        if not 0.0 <= rise <= latest <= 1.0:
            raise ConfigError(f"closed_loop needs 0 <= rise <= latest <= 1, not {rise}, {latest}")
        if rate < 1.0:
            raise ConfigError(f"closed_loop: rate is {rate}; give how many times fewer weights, at least 1")
        self.peak, self.value, self.rate = peak, value, rate
        self.rise, self.relax, self.latest = rise, _fraction("relax", relax), latest
        self.released: float | None = None

    def __call__(self, t: float) -> float:
        """Weight at the progress ``t``, after what has been observed so far."""
        released = self.latest if self.released is None else self.released
        pressed = self.peak * _ramp(t, 0.0, self.rise)
        return pressed + (self.value - pressed) * _ramp(t, released, released + self.relax)

    def observe(self, record: Mapping[str, Any]) -> None:
        """Look at the record of an epoch: ``progress`` of the run, and ``dense_rate`` of the network."""
        if self.released is None and record["dense_rate"] >= self.rate:
            self.released = float(record["progress"])


def mean_weight(weight: float | Tensor) -> float:
    """One number for a weight: the mean over the elements that have one of their own, but for those without any."""
    if not isinstance(weight, Tensor):
        return weight
    return float(weight.sum() / weight.count_nonzero().clamp(min=1))


def rises(schedule: Schedule, t: float) -> bool:
    """Whether a schedule will be higher later in the run than it is at ``t``, to a hundredth of what is left."""
    ahead = (schedule(t + (1.0 - t) * i / 100) for i in range(1, 101))
    return max(ahead) > (1.0 + 1e-9) * schedule(t)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "closed_loop": ClosedLoop,
    "constant": constant,
    "cosine": cosine,
    "cyclic": cyclic,
    "linear_decay": linear_decay,
    "overweight": overweight,
    "warm_up": warm_up,
}


def named(name: str, **options: float) -> Schedule:
    """Make a schedule by its name.

    :raises ConfigError: for an unknown name, with the nearest one, or an option that it does not have.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"there is no schedule {name!r}{nearest(name, SCHEDULES)}")
    try:
        return SCHEDULES[name](**options)
    except TypeError as error:
        raise ConfigError(f"schedule {name!r}: {error}") from error
