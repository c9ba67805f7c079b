"""Problems that the tests of reconstruction share."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrosparse.reconstruction.problem import Block, Problem


def correlated(d: int, rows: int = 400) -> Tensor:
    """Centred samples whose columns are correlated, shape ``(rows, d)``, float64."""
    X = torch.randn(rows, d, dtype=torch.float64) @ (torch.eye(d) + 0.25 * torch.randn(d, d)).double()
    return X - X.mean(0)


def own_target(d: int = 12, m: int = 5, size: int = 1) -> tuple[Problem, Tensor]:
    """Y = W X with groups of ``size`` columns; the problem and W."""
    X = correlated(d)
    W = torch.randn(m, d, dtype=torch.float64)
    R = X.T @ X / len(X)
    return Problem.of(R, W @ R, (W @ R * W).sum(), group=torch.arange(d) // size), W


def other_target(d: int = 12, m: int = 5, size: int = 1) -> tuple[Problem, Tensor, Tensor]:
    """Y that is no linear map of X; the problem, X and Y."""
    X = correlated(d)
    Y = torch.tanh(X @ torch.randn(d, m, dtype=torch.float64)) + 0.5 * torch.randn(len(X), m, dtype=torch.float64)
    Y = Y - Y.mean(0)
    n = len(X)
    problem = Problem.of(X.T @ X / n, Y.T @ X / n, Y.square().sum() / n, group=torch.arange(d) // size)
    return problem, X, Y


def activations(d: int = 120, m: int = 30, factors: int = 20, rows: int = 500) -> Problem:
    """Y = W X for rectified units that depend on fewer factors, so that many can go."""
    X = torch.randn(rows, factors, dtype=torch.float64) @ torch.randn(factors, d, dtype=torch.float64)
    X = torch.relu(X + 0.1 * torch.randn_like(X))
    X = X - X.mean(0)
    W = torch.randn(m, d, dtype=torch.float64) / d**0.5
    R = X.T @ X / rows
    return Problem.of(R, W @ R, (W @ R * W).sum())


def shared_units(units: int = 6) -> Problem:
    """Two maps that read the same units, the first three columns a unit and the second one."""
    blocks = []
    for size, m in ((3, 4), (1, 7)):
        X = correlated(units * size)
        W = torch.randn(m, units * size, dtype=torch.float64)
        R = X.T @ X / len(X)
        blocks.append(Block(R, W @ R, (W @ R * W).sum(), torch.arange(units * size) // size))
    return Problem(blocks, torch.linspace(0.5, 2.0, units))


def a_stand_in() -> Problem:
    """A unit that is read at a large λ and gives way to two others at a smaller one: 3 units, then 2, then 3 again."""
    A = torch.tensor(
        [
            [2.8, 0.3, -0.2, -0.3, 0.2],
            [0.0, -0.3, -0.1, -0.3, 1.4],
            [0.0, -0.1, 0.1, -0.1, 0.4],
            [-0.6, -0.1, 1.3, 0.1, 1.6],
            [-1.0, 0.3, 1.3, 0.0, -0.9],
        ],
        dtype=torch.float64,
    )
    W = torch.tensor([[-0.92, 1.28, -0.65, -0.03, 0.02]], dtype=torch.float64)
    R = A @ A.T / 5
    return Problem.of(R, W @ R, (W @ R * W).sum())


ALL = {
    "single columns": lambda: own_target()[0],
    "groups of three": lambda: own_target(size=3)[0],
    "other target": lambda: other_target(size=2)[0],
    "shared units": shared_units,
}
