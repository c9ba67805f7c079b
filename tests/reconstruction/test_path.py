"""Screening, paths and searches."""

from __future__ import annotations

import math

import pytest
import torch

from pyrosparse.errors import ConfigError
from pyrosparse.reconstruction.fista import fista
from pyrosparse.reconstruction.path import Solver, path, screen, search, solve
from pyrosparse.reconstruction.problem import Problem
from tests.reconstruction.problems import ALL, other_target, own_target


@pytest.mark.parametrize("name", ALL)
def test_what_is_screened_is_zero(name: str) -> None:
    problem = ALL[name]()
    screened = 0
    for ratio in (0.7, 0.3, 0.1):
        lam = ratio * problem.lam_max
        exact = fista(problem, lam, tol=1e-14)
        for start in (problem.zeros(), solve(problem, 1.3 * lam).M, exact.M):
            maybe = screen(problem, lam, start)
            assert not (exact.kept & ~maybe).any()
            screened += int((~maybe).sum())
    assert screened > 0


@pytest.mark.parametrize("solver", Solver)
def test_a_path_is_its_points(solver: Solver) -> None:
    problem = ALL["groups of three"]()
    ratios = torch.logspace(0, -1 if solver == Solver.DESCENT else -2, 5).tolist()
    for ratio, solution in zip(ratios, path(problem, ratios, solver=solver, tol=1e-12), strict=True):
        assert solution.gap <= 1e-12
        assert problem.certify(solution.M, solution.lam).relative <= 2e-12  # over all groups
        alone = solve(problem, ratio * problem.lam_max, tol=1e-12)
        assert torch.equal(alone.kept, solution.kept)
        torch.testing.assert_close(solution.M, alone.M, rtol=0, atol=1e-5)


def test_dead_inputs_are_never_kept() -> None:
    problem, W = own_target()
    R = problem.blocks[0].R.clone()
    R[3], R[:, 3] = 0, 0
    dead = Problem.of(R, W @ R, (W @ R * W).sum())
    for lam in (0.0, 0.1 * dead.lam_max):
        found = solve(dead, lam)
        assert not found.kept[3]
        assert not found.M[0][:, 3].any()


def test_constant_targets_need_nothing() -> None:
    R = torch.eye(4).double()
    found = solve(Problem.of(R, torch.zeros(2, 4).double(), 0.0), 0.0)
    assert found.units == 0
    assert math.isfinite(found.gap)


def test_searching_an_edge() -> None:
    few = search(lambda r: r, lambda r: r >= 0.03, smallest=True)
    assert few >= 0.03
    assert few == pytest.approx(0.03, rel=1e-3)
    small = search(lambda r: r, lambda r: r <= 0.2, smallest=False)
    assert small <= 0.2
    assert small == pytest.approx(0.2, rel=1e-3)
    assert search(lambda r: r, lambda r: True, smallest=True) == pytest.approx(1e-8)
    assert search(lambda r: r, lambda r: True, smallest=False) == 1.0
    assert search(lambda r: r, lambda r: False, smallest=True) is None


def test_searching_what_is_not_monotone() -> None:
    """Two stretches where it holds: the one at the end that is wished for is found."""

    def holds(ratio: float) -> bool:
        return 0.012 <= ratio <= 0.05 or ratio >= 0.4

    assert search(lambda r: r, holds, smallest=True) == pytest.approx(0.012, rel=1e-3)
    assert search(lambda r: r, lambda r: not holds(r), smallest=False) == pytest.approx(0.4, rel=1e-3)
    made: list[float] = []
    found = search(lambda r: made.append(r) or r, holds, smallest=True)
    assert found in made  # what is given back has been looked at, and is not made again


def test_bad_numbers_and_names_are_refused() -> None:
    problem, _, _ = other_target()
    with pytest.raises(ConfigError, match="λ is -1"):
        solve(problem, -1.0)
    with pytest.raises(ConfigError, match="λ is nan"):
        solve(problem, math.nan)
    with pytest.raises(ConfigError, match="no solver 'simplex'"):
        solve(problem, 1.0, solver="simplex")
