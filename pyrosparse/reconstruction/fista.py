"""Proximal gradient with momentum: the reference solver."""

from __future__ import annotations

from collections.abc import Callable

from pyrosparse.reconstruction.problem import Matrices, Problem, Solution

__all__ = ["fista"]

_LOOK_EVERY = 10


def fista(
    problem: Problem,
    lam: float,
    *,
    start: Matrices | None = None,
    tol: float = 1e-6,
    max_steps: int = 100_000,
    restart: bool = True,
    watch: Callable[[int, Matrices], None] | None = None,
) -> Solution:
    """Solve the group lasso by FISTA with the fixed step 1/L (Beck & Teboulle, 2009).

        M_k = prox_{λω/L}(A_k + (S − A_k R)/L),   A_{k+1} = M_k + (t_k − 1)/t_{k+1} · (M_k − M_{k−1})

    where S − A R = (W − A) R for the target Y = W X, and L is the largest eigenvalue of R. After k steps without
    restart the objective is above its minimum by at most 2 L ‖M_0 − M*‖² / (k+1)².

    :param lam: λ ≥ 0.
    :param start: M_0; 0 when None.
    :param tol: relative duality gap at which to stop; it is looked at every ten steps.
    :param max_steps: most steps.
    :param restart: forget the momentum where it points uphill (O'Donoghue & Candès, 2015). The bound is that of
        the plain algorithm, the number of steps that of the better conditioned problem.
    :param watch: called with k and M_k after each step.
    """
    L = max(problem.curvature, 1e-300)
    amount = lam * problem.omega / L
    M = A = problem.zeros() if start is None else start
    t = 1.0
    step = 0
    while True:
        if step % _LOOK_EVERY == 0 or step == max_steps:
            gap = problem.certify(M, lam).relative
            if gap <= tol or step >= max_steps:
                break
        G = problem.correlation(A)
        before, M = M, problem.shrink(tuple(a + g / L for a, g in zip(A, G, strict=True)), amount)
        step += 1
        if watch is not None:
            watch(step, M)
        uphill = restart and _inner(A, M, before) > 0
        t_next = 0.5 * (1 + (1 + 4 * t * t) ** 0.5)
        beta, t = (0.0, 1.0) if uphill else ((t - 1) / t_next, t_next)
        A = tuple(m + beta * (m - b) for m, b in zip(M, before, strict=True))
    return Solution(M, lam, gap, step, problem.norms(M) > 0)


def _inner(A: Matrices, M: Matrices, before: Matrices) -> float:
    """⟨A − M, M − M_before⟩: positive where the momentum points uphill."""
    return float(sum(((a - m) * (m - b)).sum() for a, m, b in zip(A, M, before, strict=True)))
