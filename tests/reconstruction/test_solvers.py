"""Every solver against optimality conditions, invariances, each other and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import MultiTaskLasso

from pyrosparse.reconstruction.descent import descent
from pyrosparse.reconstruction.fista import fista
from pyrosparse.reconstruction.newton import newton
from pyrosparse.reconstruction.problem import Matrices, Problem, Solution
from tests.reconstruction.problems import ALL, activations, correlated, other_target, own_target

SOLVERS: dict[str, Callable[..., Solution]] = {"newton": newton, "fista": fista, "descent": descent}
RATIOS = (0.6, 0.1, 0.02)


# coordinate descent is slow where λ is small and units are correlated
CASES = [(solver, ratio) for solver in SOLVERS for ratio in RATIOS if solver != "descent" or ratio >= 0.1]


@pytest.mark.parametrize(("solver", "ratio"), CASES)
@pytest.mark.parametrize("name", ALL)
def test_optimality(name: str, solver: str, ratio: float) -> None:
    """G_g = λω_g M_g/‖M_g‖ on kept groups, ‖G_g‖ ≤ λω_g on the others."""
    problem = ALL[name]()
    lam = ratio * problem.lam_max
    tol = 1e-11 if solver == "descent" else 1e-13
    found = SOLVERS[solver](problem, lam, tol=tol)
    assert found.gap <= tol
    norms, G = problem.norms(found.M), problem.correlation(found.M)
    assert torch.equal(norms > 0, found.kept)
    weight = lam * problem.omega
    assert (problem.norms(G)[~found.kept] <= weight[~found.kept] * (1 + 1e-6)).all()
    for b, m, g in zip(problem.blocks, found.M, G, strict=True):
        columns = found.kept[b.group]
        pull = (weight / norms)[b.group] * m
        torch.testing.assert_close(g[:, columns], pull[:, columns], rtol=0, atol=1e-5 * problem.lam_max)


@pytest.mark.parametrize("solver", ["newton", "descent"])
@pytest.mark.parametrize("name", ALL)
def test_all_solvers_find_the_same(name: str, solver: str) -> None:
    problem = ALL[name]()
    lam = 0.2 * problem.lam_max
    found, reference = SOLVERS[solver](problem, lam, tol=1e-13), fista(problem, lam, tol=1e-13)
    for a, b in zip(found.M, reference.M, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert torch.equal(found.kept, reference.kept)


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_as_scikit_learn(solver: str) -> None:
    """On X = √n · R^½ and Y = X Wᵀ the two objectives are the same."""
    problem, W = own_target(20, 4)
    R = problem.blocks[0].R
    values, vectors = torch.linalg.eigh(R)
    X = (len(R) ** 0.5 * (vectors * values.sqrt()) @ vectors.T).numpy()
    lam = 0.1 * problem.lam_max
    lasso = MultiTaskLasso(alpha=lam, fit_intercept=False, tol=1e-12, max_iter=100_000)
    expected = lasso.fit(np.asfortranarray(X), X @ W.T.numpy()).coef_
    (M,) = SOLVERS[solver](problem, lam, tol=1e-13).M
    np.testing.assert_allclose(M.numpy(), expected, atol=1e-6)
    assert 0 < np.count_nonzero(np.abs(expected).sum(0)) < 20


@pytest.mark.parametrize("solver", SOLVERS)
def test_everything_is_zero_from_lam_max_on(solver: str) -> None:
    for make in ALL.values():
        problem = make()
        for factor in (1.0, 1.7):
            assert not any(m.any() for m in SOLVERS[solver](problem, factor * problem.lam_max, tol=1e-12).M)
        assert SOLVERS[solver](problem, 0.99 * problem.lam_max, tol=1e-12).units == 1


@pytest.mark.parametrize("solver", ["newton", "fista"])
def test_without_penalty_the_layer_itself_comes_back(solver: str) -> None:
    problem, W = own_target()
    torch.testing.assert_close(SOLVERS[solver](problem, 0.0, tol=1e-16).M[0], W, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_rotating_the_outputs_rotates_the_solution(size: int) -> None:
    problem, W = own_target(size=size)
    b = problem.blocks[0]
    Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    turned = Problem.of(b.R, Q @ b.S, b.c, group=b.group)
    lam = 0.1 * problem.lam_max
    assert turned.lam_max == pytest.approx(problem.lam_max)
    (M,), (N,) = newton(problem, lam, tol=1e-13).M, newton(turned, lam, tol=1e-13).M
    torch.testing.assert_close(N, Q @ M, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [1, 3])
def test_permuting_the_columns_permutes_the_solution(size: int) -> None:
    problem, _ = own_target(size=size)
    b = problem.blocks[0]
    p = torch.randperm(12)
    mixed = Problem.of(b.R[p][:, p], b.S[:, p], b.c, group=b.group[p])
    lam = 0.1 * problem.lam_max
    torch.testing.assert_close(newton(mixed, lam, tol=1e-13).M[0], newton(problem, lam, tol=1e-13).M[0][:, p])


def test_scaling_everything_leaves_the_solution() -> None:
    problem, _ = own_target(size=2)
    b = problem.blocks[0]
    lam = 0.1 * problem.lam_max
    (expected,) = newton(problem, lam, tol=1e-13).M
    for a in (1e-6, 1e6):
        scaled = Problem.of(a * b.R, a * b.S, a * b.c, group=b.group)
        torch.testing.assert_close(newton(scaled, a * lam, tol=1e-13).M[0], expected)


def test_the_bound_of_fista_holds_at_every_step() -> None:
    """L(M_k) − L* ≤ 2 L ‖M_0 − M*‖² / (k+1)²."""
    for make in ALL.values():
        problem = make()
        lam = 0.02 * problem.lam_max
        best = newton(problem, lam, tol=1e-15).M
        lowest = float(problem.objective(best, lam))
        distance = float(sum(m.square().sum() for m in best))
        above: list[tuple[int, float]] = []

        def watch(k: int, M: Matrices, problem: Problem = problem, lam: float = lam, above: list = above) -> None:
            above.append((k, float(problem.objective(M, lam))))

        fista(problem, lam, tol=1e-12, max_steps=1000, restart=False, watch=watch)
        assert len(above) > 50
        for k, value in above:
            assert value - lowest <= 2 * problem.curvature * distance / (k + 1) ** 2 + 1e-12 * lowest


def test_newton_needs_few_steps_from_anywhere() -> None:
    X = correlated(120, 500)
    X[:, 60:80] = X[:, :20] + 1e-4 * X[:, 60:80]  # nearly the same units twice
    X[:, 100:] = 0  # dead units
    W = torch.randn(30, 120, dtype=torch.float64)
    R = X.T @ X / len(X)
    problem = Problem.of(R, W @ R, (W @ R * W).sum())
    for ratio in (0.5, 0.05, 0.001):
        for start in (None, (W,), problem.zeros(), (torch.randn_like(W),)):
            found = newton(problem, ratio * problem.lam_max, start=start, tol=1e-8)
            assert found.gap <= 1e-8
            assert found.steps <= 25
            assert not found.kept[100:].any()


@pytest.mark.parametrize("ratio", [0.3, 0.1, 0.01])
def test_newton_lets_many_groups_in_by_and_by(ratio: float) -> None:
    """More groups would leave 0 than a step lets in, and others return to it: exactly, or steps would be wasted."""
    for seed in range(3):
        torch.manual_seed(seed)
        problem = activations(120)
        lam = ratio * problem.lam_max
        assert int((problem.norms((problem.blocks[0].S,)) > lam).sum()) > 40
        everything = torch.ones(120, dtype=torch.bool)
        found = [newton(problem, lam, start=s) for s in (None, problem.zeros(), problem.least_squares(everything))]
        for solution in found:
            assert solution.gap == problem.certify(solution.M, lam).relative <= 1e-6
            assert solution.steps <= 10
            assert torch.equal(problem.norms(solution.M) > 0, solution.kept)
        values = torch.stack([problem.objective(solution.M, lam) for solution in found])
        assert float(values.max() - values.min()) <= 1e-6 * float(problem.c) / 2


def test_newton_with_more_columns_than_samples() -> None:
    problem, X, Y = other_target(8, 3)
    X, Y = X[:6] - X[:6].mean(0), Y[:6] - Y[:6].mean(0)
    wide = Problem.of(X.T @ X / 6, Y.T @ X / 6, Y.square().sum() / 6)
    assert newton(wide, 0.01 * wide.lam_max, tol=1e-10).gap <= 1e-10
