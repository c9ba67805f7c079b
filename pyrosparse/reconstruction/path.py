"""From λ to a solution and back: warm starts, safe screening, and λ by what it should give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

import torch
from torch import Tensor

from pyrosparse.errors import ConfigError
from pyrosparse.reconstruction.descent import descent
from pyrosparse.reconstruction.fista import fista
from pyrosparse.reconstruction.newton import newton
from pyrosparse.reconstruction.problem import Matrices, Problem, Solution
from pyrosparse.text import nearest

__all__ = ["Solver", "path", "screen", "search", "solve"]

Made = TypeVar("Made")

# λ/λ_max that a search looks at, and how often it halves the interval that it finds, in logarithms
_GRID = tuple(10.0 ** (-k / 2) for k in range(17))
_HALVINGS = 12
# of a gap, relative to E‖Y‖²
_ROUNDING = 1e-14


class Solver(StrEnum):
    """How the group lasso is solved."""

    NEWTON = "newton"
    """Projected Newton on the variances of the groups: a few steps, each O(d³)."""

    FISTA = "fista"
    """Proximal gradient with momentum and restart: many cheap steps."""

    DESCENT = "descent"
    """Block coordinate descent."""

    @classmethod
    def named(cls, name: Solver | str) -> Solver:
        """Find a solver by its name.

        :raises ConfigError: for a name that there is not.
        """
        if name not in set(cls):
            raise ConfigError(f"there is no solver {str(name)!r}{nearest(str(name), cls)}")
        return cls(name)


_SOLVERS: dict[Solver, Callable[..., Solution]] = {
    Solver.NEWTON: newton,
    Solver.FISTA: fista,
    Solver.DESCENT: descent,
}


def screen(problem: Problem, lam: float, M: Matrices) -> Tensor:
    """Which groups may be other than 0 at λ: the rest is 0 in every solution, which a duality gap proves.

    With U the dual point of :meth:`Problem.certify` and a gap of γ, the best dual point is within sqrt(2γ) of U, so
    ‖s G_g‖ + sqrt(2γ · tr R_gg) < λω_g leaves group g at 0 (Ndiaye et al., 2017).

    :param M: any point; the nearer to the solution, the more is screened.
    :returns: boolean, shape ``(groups,)``.
    """
    G = problem.correlation_of_few(M)
    certificate = problem.certify(M, lam, G)
    gap = max(0.0, certificate.primal - certificate.dual) + _ROUNDING * float(problem.c)
    radius = math.sqrt(2 * gap)
    reach = abs(certificate.scale) * problem.norms(G) + radius * problem.spread
    return (reach >= lam * problem.omega) & (problem.spread > 0)


def solve(
    problem: Problem,
    lam: float,
    *,
    start: Matrices | None = None,
    solver: Solver | str = Solver.NEWTON,
    tol: float = 1e-6,
) -> Solution:
    """Solve the group lasso at one λ over the groups that screening leaves.

    :param lam: λ ≥ 0; at λ_max and above everything is 0.
    :param start: a guess, such as the solution of another λ.
    :param solver: see :class:`Solver`.
    :param tol: relative duality gap, certified over all groups.
    """
    if not (math.isfinite(lam) and lam >= 0):
        raise ConfigError(f"λ is {lam}: give a finite number that is not negative")
    solver = Solver.named(solver)
    alive = problem.spread > 0 if start is None or lam == 0 else screen(problem, lam, start)
    if lam >= problem.lam_max or not bool(alive.any()):
        M, none = problem.zeros(), torch.zeros_like(problem.omega, dtype=torch.bool)
        return Solution(M, lam, problem.certify(M, lam).relative, 0, none)
    small = problem.restrict(alive)
    guess = None if start is None else tuple(m[:, alive[b.group]] for b, m in zip(problem.blocks, start, strict=True))
    find = newton if lam == 0 else _SOLVERS[solver]  # without a penalty all of them solve least squares
    found = find(small, lam, start=guess, tol=tol)
    kept = alive.clone()
    kept[alive] = found.kept
    return Solution(problem.expand(found.M, alive), lam, found.gap, found.steps, kept)


def path(
    problem: Problem, ratios: Sequence[float], *, solver: Solver | str = Solver.NEWTON, tol: float = 1e-6
) -> Iterator[Solution]:
    """Solve at a row of λ/λ_max, each from the one before, with screening.

    :param ratios: best in descending order, such as ``torch.logspace(0, -3, 30).tolist()``.
    """
    start = problem.zeros()
    for ratio in ratios:
        solution = solve(problem, ratio * problem.lam_max, start=start, solver=solver, tol=tol)
        start = solution.M
        yield solution


def search(make: Callable[[float], Made], holds: Callable[[Made], bool], *, smallest: bool) -> Made | None:
    """Look for the smallest (or largest) λ/λ_max at which something holds, and give what was made there.

    Kept units, sizes and debiased errors need not be monotone in λ. So a grid of ratios, two a decade from 1 down to
    1e-8, is walked from the end that is wished for to the first one at which it holds, and the interval between
    that one and its neighbour, where it does not hold, is halved twelve times. What is given back has itself been
    seen to hold; a stretch of λ that lies between two points of the grid may be missed.

    :param make: what a ratio gives.
    :param holds: whether that is within what is asked for.
    :param smallest: the smallest ratio (few units go first as λ grows), or the largest (a bound on an error).
    :returns: None where it holds nowhere on the grid.
    """
    failed: float | None = None
    for ratio in reversed(_GRID) if smallest else _GRID:
        made = make(ratio)
        if holds(made):
            break
        failed = ratio
    else:
        return None
    if failed is None:
        return made
    held = ratio
    for _ in range(_HALVINGS):
        middle = math.sqrt(held * failed)
        tried = make(middle)
        if holds(tried):
            held, made = middle, tried
        else:
            failed = middle
    return made
