"""Block coordinate descent: one group at a time, each to its exact minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrosparse.reconstruction.problem import Matrices, Problem, Solution

__all__ = ["descent"]

_INNER_PASSES = 5
_ROOT_STEPS = 8


def descent(
    problem: Problem, lam: float, *, start: Matrices | None = None, tol: float = 1e-6, max_steps: int = 10_000
) -> Solution:
    """Solve the group lasso group by group.

    With C = G_g + M_g R_gg, the minimum over M_g alone is 0 where ‖C‖ ≤ λω_g, and else M_g = C (R_gg + (λω_g/t) I)⁻¹
    with t = ‖M_g‖, the root of a function of one variable. Each pass over all groups is followed by a few over those
    that are not 0.

    :param lam: λ > 0.
    :param start: where to begin; 0 when None.
    :param tol: relative duality gap at which to stop; it is looked at after each pass over all groups.
    :param max_steps: most passes over all groups.
    """
    M = tuple(m.clone() for m in (problem.zeros() if start is None else start))
    G = tuple(g.clone() for g in problem.correlation(M))
    parts = [_parts(problem, g) for g in range(problem.groups)]
    weight = lam * problem.omega
    step = 0
    while True:
        gap = problem.certify(M, lam).relative
        if gap <= tol or step == max_steps:
            break
        for g in range(problem.groups):
            _visit(problem, parts[g], weight[g], M, G)
        for g in (problem.norms(M) > 0).nonzero().flatten().tolist() * _INNER_PASSES:
            _visit(problem, parts[g], weight[g], M, G)
        step += 1
    return Solution(M, lam, gap, step, problem.norms(M) > 0)


def _parts(problem: Problem, g: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each block: the group's columns, and the eigenvalues and eigenvectors of R_gg."""
    found = []
    for b in problem.blocks:
        columns = (b.group == g).nonzero().flatten()
        values, vectors = torch.linalg.eigh(b.R[columns][:, columns])
        found.append((columns, values.clamp(min=0), vectors))
    return found


def _visit(
    problem: Problem, parts: list[tuple[Tensor, Tensor, Tensor]], weight: Tensor, M: Matrices, G: Matrices
) -> None:
    """Minimise over one group, in place; G is kept up to date."""
    rotated = [
        (g[:, columns] + m[:, columns] @ b.R[columns][:, columns]) @ vectors
        for b, m, g, (columns, _, vectors) in zip(problem.blocks, M, G, parts, strict=True)
    ]
    a = torch.cat([c.square().sum(0) for c in rotated])
    values = torch.cat([v for _, v, _ in parts])
    t = _length(a, values, weight)
    for b, m, g, c, (columns, v, vectors) in zip(problem.blocks, M, G, rotated, parts, strict=True):
        new = torch.where(v > 0, c * (t / (v * t + weight).clamp(min=1e-300)), 0.0) @ vectors.T
        g -= (new - m[:, columns]) @ b.R[columns]  # noqa: PLW2901
        m[:, columns] = new


def _length(a: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Root t ≥ 0 of Σ a_j / (v_j t + w)² = 1, and 0 where the sum is below 1 already.

    φ^-½ of that sum φ is concave and nearly linear in t, so that Newton steps from 0 come from above φ = 1 and
    stop at the root; for one column a single step is exact.
    """
    t = torch.zeros_like(weight)
    for _ in range(_ROOT_STEPS):
        bottom = (values * t + weight).clamp(min=1e-300)
        phi = (a / bottom.square()).sum()
        slope = (a * values / bottom**3).sum() * phi.clamp(min=1e-300) ** -1.5
        t = (t + (1 - phi.clamp(min=1e-300).rsqrt()) / slope.clamp(min=1e-300)).clamp(min=0)
    return torch.where(a.sum() > weight.square(), t, 0.0)
