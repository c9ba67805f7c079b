"""How much is asked of each layer: λ itself, or what λ should give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from pyrosparse.errors import ConfigError, PruneError
from pyrosparse.reconstruction.path import Solver, at_boundary, solve
from pyrosparse.reconstruction.problem import Problem, Solution
from pyrosparse.reconstruction.units import Units
from pyrosparse.text import nearest

__all__ = ["Aim", "Goal", "goals_of", "meet"]

Wanted = float | Mapping[str, float] | None


class Aim(StrEnum):
    """What a goal's number is."""

    LAM = "lam"
    """λ."""

    LAM_RATIO = "lam_ratio"
    """λ / λ_max, between 0 (nothing goes) and 1 (everything goes)."""

    UNITS = "units"
    """Units that a layer may keep."""

    KIB = "kib"
    """Size in KiB that a layer, or the network, may have."""

    ERROR = "error"
    """Relative error of reconstruction that a layer may have."""


@dataclass(frozen=True)
class Goal:
    """A number and what it is."""

    aim: Aim
    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ConfigError(f"{self.aim} is {self.value}: give a finite number that is not negative")
        if self.aim in {Aim.LAM_RATIO, Aim.ERROR} and self.value > 1:
            raise ConfigError(f"{self.aim} is {self.value}: give a number between 0 and 1")
        if self.aim is Aim.UNITS and (self.value < 1 or self.value != int(self.value)):
            raise ConfigError(f"units is {self.value}: give a whole number from 1 up")


def goals_of(movable: Sequence[Units], /, **wanted: Wanted) -> dict[Units, Goal]:
    """Spread one option of several over the units that can go.

    :param movable: from :func:`~pyrosparse.reconstruction.units.find_units`; those that are pinned have no goal.
    :param wanted: by the names of :class:`Aim`; exactly one is not None. A mapping names layers that read the units,
        and leaves the others as they are.
    :raises ConfigError: for none or several options, unknown layers, and layers whose units cannot go.
    """
    given = {name: value for name, value in wanted.items() if value is not None}
    if len(given) != 1:
        said = ", ".join(given) or "none"
        raise ConfigError(f"give exactly one of {', '.join(Aim)} ({said} given)")
    ((name, value),) = given.items()
    aim = Aim(name)
    if not isinstance(value, Mapping):
        return {u: Goal(aim, float(value)) for u in movable if not u.pinned}
    readers = {layer: u for u in movable for layer in u.consumers}
    goals: dict[Units, Goal] = {}
    for layer, number in value.items():
        if layer not in readers:
            raise ConfigError(f"{aim} names {layer!r}, which is no layer that reads units{nearest(layer, readers)}")
        u, goal = readers[layer], Goal(aim, float(number))
        if u.pinned:
            raise ConfigError(f"{aim} names {layer!r}, whose inputs stay: {u.pinned}")
        if goals.setdefault(u, goal) != goal:
            raise ConfigError(f"{aim} differs between {', '.join(u.consumers)}, which read the same units: give one")
    return goals


def meet(
    problem: Problem,
    goal: Goal,
    *,
    size: Callable[[Tensor], float],
    debias: bool,
    solver: Solver | str,
    tol: float,
) -> Solution:
    """Solve at the λ that a goal asks for.

    That is the smallest one within a bound on units or size, and the largest one within a bound on the error.

    :param size: bytes of the layers at hand for kept units.
    :param debias: whether the error is that of least squares on the kept units.
    :raises PruneError: for a size that no λ gives.
    """
    last: list[Solution] = []

    def at(ratio: float) -> Solution:
        start = last[0].M if last and last[0].units else None
        last[:] = [solve(problem, ratio * problem.lam_max, start=start, solver=solver, tol=tol)]
        return last[0]

    def error(solution: Solution) -> float:
        return problem.error(problem.least_squares(solution.kept) if debias else solution.M)

    if goal.aim is Aim.LAM:
        return solve(problem, goal.value, solver=solver, tol=tol)
    if goal.aim is Aim.LAM_RATIO:
        return at(goal.value)
    if goal.aim is Aim.ERROR:
        return at(at_boundary(lambda ratio: error(at(ratio)) <= goal.value, holds_above=False))
    if goal.aim is Aim.UNITS:
        return at(at_boundary(lambda ratio: at(ratio).units <= goal.value, holds_above=True))
    found = at(at_boundary(lambda ratio: size(at(ratio).kept) <= 1024 * goal.value, holds_above=True))
    smallest = size(found.kept) / 1024
    if smallest > goal.value:
        raise PruneError(f"{goal.value:g} KiB are out of reach for a layer: with no input it is {smallest:.1f} KiB")
    return found
