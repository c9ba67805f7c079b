"""How much is asked of each layer: λ itself, or what λ should give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import SupportsFloat

import torch
from torch import Tensor

from pyrosparse.errors import ConfigError, PruneError
from pyrosparse.reconstruction.path import Solver, search, solve
from pyrosparse.reconstruction.problem import Problem, Solution
from pyrosparse.reconstruction.report import ReconstructionReport
from pyrosparse.reconstruction.units import Units
from pyrosparse.text import nearest

__all__ = ["Aim", "Goal", "goals_of", "meet", "missed"]

# of a relative error: that of the ridge of least squares
_ROUNDING = 1e-9

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
        return {u: Goal(aim, _number(aim, value)) for u in movable if not u.pinned}
    if not value:
        raise ConfigError(f"{aim} names no layer: give a number for all, or a mapping from layers to numbers")
    readers = {layer: u for u in movable for layer in u.consumers}
    goals: dict[Units, Goal] = {}
    for layer, number in value.items():
        if layer not in readers:
            raise ConfigError(f"{aim} names {layer!r}, which is no layer that reads units{nearest(layer, readers)}")
        u, goal = readers[layer], Goal(aim, _number(aim, number))
        if u.pinned:
            raise ConfigError(f"{aim} names {layer!r}, whose inputs stay: {u.pinned}")
        if goals.setdefault(u, goal) != goal:
            raise ConfigError(f"{aim} differs between {', '.join(u.consumers)}, which read the same units: give one")
    return goals


def _number(aim: Aim, value: object) -> float:
    if isinstance(value, bool | str) or not isinstance(value, SupportsFloat):
        raise ConfigError(f"{aim} is {value!r}: give a number, or a mapping from layers to numbers")
    return float(value)


def meet(
    problem: Problem,
    goal: Goal,
    *,
    size: Callable[[Tensor], float],
    debias: bool,
    solver: Solver | str,
    tol: float,
) -> tuple[Solution, list[str]]:
    """Solve at the λ that a goal asks for, and say what is not as asked.

    That is the smallest λ found within a bound on units or size, and the largest one found within a bound on the error,
    as :func:`~pyrosparse.reconstruction.path.search` looks for it. The solution is the one that was seen to be within
    the bound. One unit always stays, and it is in what is measured. An error that is out of reach, as may be where
    inputs have been reconstructed before, leaves every unit that says anything.

    :param size: bytes of the layer at hand for kept units; of several the largest.
    :param debias: whether M is that of least squares on the kept units.
    :param solver: for a λ that is given; one that is searched for is found by Newton's method.
    :returns: what is kept, with the M that is wished for, and notes.
    :raises PruneError: for a size that no λ gives.
    """
    last: list[Solution] = []

    def at(ratio: float) -> Solution:
        # a search goes to a small λ, where the steps of Newton's method stay few and those of others do not
        start = last[0].M if last and last[0].units else None
        last[:] = [solve(problem, ratio * problem.lam_max, start=start, tol=tol)]
        return _finished(problem, last[0], debias=debias)

    if goal.aim in {Aim.LAM, Aim.LAM_RATIO}:
        lam = goal.value * (problem.lam_max if goal.aim is Aim.LAM_RATIO else 1.0)
        found = _finished(problem, solve(problem, lam, solver=solver, tol=tol), debias=debias)
    elif goal.aim is Aim.ERROR:
        within = search(at, lambda solution: _largest_error(problem, solution) <= goal.value, smallest=False)
        found = within or at(0.0)
    else:

        def fits(solution: Solution) -> bool:
            if goal.aim is Aim.UNITS:
                return solution.units <= goal.value
            return size(solution.kept) <= 1024 * goal.value

        within = search(at, fits, smallest=True)
        if within is None:
            least = size(at(1.0).kept) / 1024
            raise PruneError(f"{goal.value:g} KiB are out of reach for a layer: with one input it is {least:.3g} KiB")
        found = within
    notes = []
    if found.gap > tol and found.lam > 0:  # without a penalty it is least squares, and the dual says nothing
        notes.append(f"the solver stopped at a relative duality gap of {found.gap:.1e}")
    if found.lam >= problem.lam_max:
        notes.append("no unit would be left; the one that explains most stays")
    return found, notes


def missed(goals: Mapping[Units, Goal], report: ReconstructionReport) -> list[str]:
    """Say which layers have a larger error than was asked for in the end, and how large it is."""
    return [
        f"{layer}: its relative error is {report[layer].error:.3g}, and {goal.value:g} was asked for"
        for units, goal in goals.items()
        for layer in units.consumers
        if goal.aim is Aim.ERROR and report[layer].error > goal.value + _ROUNDING
    ]


def _finished(problem: Problem, solution: Solution, *, debias: bool) -> Solution:
    """Least squares on the kept units if that is wished for; on the one that explains most where none is kept."""
    if solution.units == 0:
        best = (problem.norms(tuple(b.S for b in problem.blocks)) / problem.omega).argmax()
        kept = torch.zeros_like(solution.kept).index_fill_(0, best, True)
        return replace(solution, kept=kept, M=problem.least_squares(kept), lam=max(solution.lam, problem.lam_max))
    return replace(solution, M=problem.least_squares(solution.kept)) if debias else solution


def _largest_error(problem: Problem, solution: Solution) -> float:
    """Relative error of the worst of the layers that read the units."""
    return max(Problem([block], problem.omega).error((m,)) for block, m in zip(problem.blocks, solution.M, strict=True))
