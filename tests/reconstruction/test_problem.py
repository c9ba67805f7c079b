"""The objective in moments, its dual, and least squares."""

from __future__ import annotations

import pytest
import torch

from pyrosparse.errors import DataError
from pyrosparse.reconstruction.newton import newton
from pyrosparse.reconstruction.problem import Block, Problem
from tests.reconstruction.problems import ALL, other_target, own_target, shared_units


def test_the_loss_in_moments_is_that_of_the_samples() -> None:
    problem, X, Y = other_target()
    M = torch.randn(5, 12, dtype=torch.float64)
    expected = 0.5 * (Y - X @ M.T).square().sum() / len(X)
    torch.testing.assert_close(problem.loss((M,)), expected)
    assert problem.error((M,)) == pytest.approx(float(2 * expected / (Y.square().sum() / len(X))))


def test_correlation_by_few_columns() -> None:
    problem = shared_units()
    M = tuple(torch.randn_like(m) for m in problem.zeros())
    for b, m in zip(problem.blocks, M, strict=True):
        m[:, b.group > 2] = 0
    for few, whole in zip(problem.correlation_of_few(M), problem.correlation(M), strict=True):
        torch.testing.assert_close(few, whole)
    assert all(
        torch.equal(g, b.S) for g, b in zip(problem.correlation_of_few(problem.zeros()), problem.blocks, strict=True)
    )


def test_the_correlation_is_minus_the_gradient() -> None:
    problem, _, _ = other_target()
    M = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    problem.loss((M,)).backward()
    torch.testing.assert_close(problem.correlation((M.detach(),))[0], -M.grad)


@pytest.mark.parametrize("name", ALL)
def test_no_point_is_below_a_dual_bound(name: str) -> None:
    problem = ALL[name]()
    lam = 0.2 * problem.lam_max
    points = [tuple(0.3 * torch.randn_like(b.S) for b in problem.blocks) for _ in range(20)] + [problem.zeros()]
    certificates = [problem.certify(M, lam) for M in points]
    best = float(problem.objective(newton(problem, lam, tol=1e-12).M, lam))
    assert all(c.dual <= best + 1e-12 and c.primal >= best - 1e-12 for c in certificates)
    for M, c in zip(points, certificates, strict=True):
        assert c.primal == pytest.approx(float(problem.objective(M, lam)), rel=1e-12)


def test_least_squares_leaves_nothing_on_the_kept_columns() -> None:
    problem, X, Y = other_target(size=3)
    kept = torch.tensor([True, False, True, True])
    (M,) = problem.least_squares(kept)
    columns = kept[problem.blocks[0].group]
    assert not M[:, ~columns].any()
    assert problem.correlation((M,))[0][:, columns].abs().max() < 1e-7
    expected = torch.linalg.lstsq(X[:, columns], Y).solution.T
    torch.testing.assert_close(M[:, columns], expected, rtol=1e-6, atol=1e-8)


def test_least_squares_does_not_look_at_units_of_measurement() -> None:
    """Columns in other units, by factors of up to 1e6: the same map, and W itself where Y = W X."""
    problem, W = own_target(d=8)
    (block,) = problem.blocks
    scale = torch.logspace(-3, 3, 8, dtype=torch.float64)
    other = Problem.of(scale[:, None] * block.R * scale, block.S * scale, block.c)
    (M,) = other.least_squares(torch.ones(8, dtype=torch.bool))
    torch.testing.assert_close(M * scale, W, rtol=1e-7, atol=1e-7)
    kept = torch.arange(8) % 2 == 0
    (part,), (expected,) = other.least_squares(kept), problem.least_squares(kept)
    torch.testing.assert_close(part * scale, expected, rtol=1e-7, atol=1e-7)


def test_least_squares_with_columns_that_do_not_vary_or_are_there_twice() -> None:
    problem, W = own_target(d=6)
    (block,) = problem.blocks
    copy = torch.tensor([0, 1, 2, 3, 4, 5, 5])
    R = torch.zeros(8, 8, dtype=torch.float64)
    R[:7, :7] = block.R[copy][:, copy]
    S = torch.zeros(len(W), 8, dtype=torch.float64)
    S[:, :7] = block.S[:, copy]
    (M,) = Problem.of(R, S, block.c).least_squares(torch.ones(8, dtype=torch.bool))
    assert not M[:, 7].any()
    torch.testing.assert_close(M[:, :5], W[:, :5], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(M[:, 5] + M[:, 6], W[:, 5], rtol=1e-6, atol=1e-6)


def test_shrinking_is_the_proximal_map() -> None:
    problem = ALL["shared units"]()
    amount = torch.rand(problem.groups, dtype=torch.float64)
    at = tuple(torch.randn_like(b.S) for b in problem.blocks)
    shrunk = problem.shrink(at, amount)
    free = tuple(m.clone().requires_grad_() for m in shrunk)
    near = sum(0.5 * (f - a).square().sum() for f, a in zip(free, at, strict=True))
    value = near + (amount * problem.norms(free)).sum()
    for gradient in torch.autograd.grad(value, free):
        assert gradient.abs().max() < 1e-12


def test_restricting_and_expanding() -> None:
    problem, _ = own_target(size=2)
    kept = torch.tensor([True, False, True, True, False, True])
    small = problem.restrict(kept)
    M = tuple(torch.randn_like(b.S) for b in small.blocks)
    full = problem.expand(M, kept)
    torch.testing.assert_close(small.loss(M), problem.loss(full))
    torch.testing.assert_close(small.norms(M), problem.norms(full)[kept])


def test_moments_that_do_not_fit_are_refused() -> None:
    R, S = torch.eye(3).double(), torch.ones(2, 4).double()
    with pytest.raises(DataError, match=r"R has shape \(3, 3\), S \(2, 4\)"):
        Block(R, S, torch.tensor(1.0).double(), torch.arange(3))
    with pytest.raises(DataError, match="float64"):
        Block(R.float(), S[:, :3].float(), torch.tensor(1.0), torch.arange(3))
    with pytest.raises(DataError, match="one positive number a group"):
        Problem.of(R, S[:, :3], 1.0, omega=torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(DataError, match="at least one block"):
        Problem([])
