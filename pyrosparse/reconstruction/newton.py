"""Projected Newton on the variances of the groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyrosparse.reconstruction.problem import Matrices, Problem, Solution

__all__ = ["newton"]

_HALVINGS = 6
_FIXINGS = 10
# groups that may leave 0 in a step where fewer are active: few, so that a small solution is found by small steps
_ENTERING = 32
# λ/λ_max from which on nothing is a better start than least squares
_FEW_ARE_KEPT = 0.025


@dataclass(frozen=True, eq=False)
class _Part:
    """One block at η.

    :param columns: those whose variances are not 0; all below is over them.
    :param root: square roots of their variances.
    :param factor: Cholesky factor of B = I + D^½ R D^½.
    :param M: S (R + D⁻¹)⁻¹.
    """

    columns: Tensor
    root: Tensor
    factor: Tensor
    M: Tensor


@dataclass(frozen=True, eq=False)
class _Point:
    """F at η, and what belongs to it.

    :param value: F(η).
    :param explained: tr S (R + D⁻¹)⁻¹ Sᵀ = tr M Sᵀ.
    :param parts: one a block.
    """

    value: Tensor
    explained: Tensor
    parts: tuple[_Part, ...]


def newton(
    problem: Problem, lam: float, *, start: Matrices | None = None, tol: float = 1e-6, max_steps: int = 200
) -> Solution:
    """Solve the group lasso by Newton steps on one number a group.

    From λω‖M_g‖ = min over η_g of ½(‖M_g‖²/η_g + (λω_g)² η_g), with D = diag η,

        F(η) = c/2 − ½ tr S (R + D⁻¹)⁻¹ Sᵀ + ½ Σ (λω_g)² η_g,   η ≥ 0,

    which is convex and smooth, with M = S (R + D⁻¹)⁻¹, G = S − M R, ∂F/∂η_g = ½((λω_g)² − ‖G_g‖²), and as its
    Hessian the group sums of (GᵀG) ∘ P, P = (R⁻¹ + D)⁻¹. η is the variance of an ARD prior whose log-determinant
    is left out. A step costs O(a³ + m a d) for a active columns of d; of the groups that would leave 0, only the
    worst may, at most as many as are active or 32.

    The root that is looked for is that of 1/‖G_g‖ = 1/(λω_g) rather than of ‖G_g‖² = (λω_g)²: it is linear in η for
    a group alone, as in trust-region methods, and takes half the steps. Where it does not descend on F, the plain
    Newton direction is taken.

    :param lam: λ ≥ 0.
    :param start: a guess of M, such as the solution of another λ. When None, least squares for λ below λ_max/40,
        and 0 from there on, where few groups will be kept.
    :param tol: relative duality gap at which to stop.
    :param max_steps: most Newton steps.
    """
    weight = lam * problem.omega
    if lam == 0:
        return _unpenalised(problem)
    if start is None:
        few = lam >= _FEW_ARE_KEPT * problem.lam_max
        start = problem.zeros() if few else problem.least_squares(problem.spread > 0)
    eta = problem.norms(start) / weight
    eta = torch.where(problem.spread > 0, eta, 0.0)  # inputs that are constant explain nothing
    point = _evaluate(problem, weight, eta)
    step = 0
    while True:
        G = _correlation(problem, point)
        norms = problem.norms(G)
        # M_g = η_g G_g, so that the certificate needs no more than the norms of G
        left = problem.c - point.explained
        twice_loss = left - (eta * norms.square()).sum()
        if step == max_steps or problem.certificate(lam, left, twice_loss, eta * norms, norms).relative <= tol:
            M = _coefficients(problem, point)
            gap = problem.certify(M, lam, G).relative
            if gap <= tol or step == max_steps:
                break
        gradient = 0.5 * (weight.square() - norms.square())
        free = _free(norms / weight, eta)
        H = _hessian(problem, point, G, free, eta)
        direction = torch.zeros_like(eta)
        direction[free] = _direction(H, (norms.square() * (1 - norms / weight))[free], eta[free])
        if bool(direction @ gradient >= 0):
            direction[free] = _direction(H, gradient[free], eta[free])
        found = _search(problem, weight, eta, direction, (gradient, point))
        if found is None:
            # far from the solution many variances reach 0 at once; η_g ‖G_g‖ / (λω_g) = ‖M_g‖ / (λω_g) minimises
            # the bound that F came from, so that F cannot rise
            eta = eta * norms / weight
            found = eta, _evaluate(problem, weight, eta)
        eta, point = found
        step += 1
    return Solution(M, lam, gap, step, eta > 0)


def _unpenalised(problem: Problem) -> Solution:
    kept = problem.spread > 0
    M = problem.least_squares(kept)
    return Solution(M, 0.0, problem.certify(M, 0.0).relative, 1, kept)


def _evaluate(problem: Problem, weight: Tensor, eta: Tensor) -> _Point:
    """F, and M and the factors of B over the active columns of each block."""
    explained = torch.zeros_like(problem.c)
    parts = []
    for b in problem.blocks:
        variance = eta[b.group]
        columns = variance.nonzero().flatten()
        root = variance[columns].sqrt()
        B = root[:, None] * b.R[columns][:, columns] * root
        B.diagonal().add_(1.0)
        factor, failed = torch.linalg.cholesky_ex(B)
        Q = torch.linalg.solve_triangular(factor, root[:, None] * b.S[:, columns].T, upper=False)
        M = (root[:, None] * torch.linalg.solve_triangular(factor.T, Q, upper=True)).T
        # rounding may make B indefinite where η is huge: such a step is refused like one that does not fall
        explained = explained + torch.where(failed == 0, Q.square().sum(), -torch.inf)
        parts.append(_Part(columns, root, factor, M))
    value = 0.5 * (problem.c - explained + weight.square() @ eta)
    return _Point(value, explained, tuple(parts))


def _coefficients(problem: Problem, point: _Point) -> Matrices:
    """M among all columns."""
    full = problem.zeros()
    for whole, part in zip(full, point.parts, strict=True):
        whole[:, part.columns] = part.M
    return full


def _correlation(problem: Problem, point: _Point) -> Matrices:
    """G = S − M R, by the columns of M that are not 0."""
    return tuple(b.S - p.M @ b.R[p.columns] for b, p in zip(problem.blocks, point.parts, strict=True))


def _free(excess: Tensor, eta: Tensor) -> Tensor:
    """Groups that a step may change: the active ones, then the worst of those at 0 that should not be there.

    :param excess: ‖G_g‖ / (λω_g), above 1 where a group at 0 should leave it.
    """
    active = eta.nonzero().flatten()
    most = min(max(_ENTERING, len(active)), len(eta))
    worst, entering = torch.where(eta > 0, 0.0, excess).topk(most)
    return torch.cat([active, entering[worst > 1]])


def _hessian(problem: Problem, point: _Point, G: Matrices, free: Tensor, eta: Tensor) -> Tensor:
    """Group sums of (GᵀG) ∘ P over the free groups, in their order."""
    number = torch.full_like(eta, -1, dtype=torch.int64)
    number[free] = torch.arange(len(free), device=free.device)
    number_entering = torch.where(eta > 0, -1, number)
    H = eta.new_zeros((len(free), len(free)))
    for b, g, part in zip(problem.blocks, G, point.parts, strict=True):
        entering = (number_entering[b.group] >= 0).nonzero().flatten()
        columns = torch.cat([part.columns, entering])
        read = g[:, columns]
        product = (read.T @ read).mul_(_shrunk(b.R, part, entering))
        place = number[b.group[columns]]
        rows = H.new_zeros((len(free), len(columns))).index_add_(0, place, product)
        H.index_add_(1, place, rows)
    return H


def _shrunk(R: Tensor, part: _Part, entering: Tensor) -> Tensor:
    """P = (R⁻¹ + D)⁻¹: D^-½ (I − B⁻¹) D^-½ where D > 0, and R − R D^½ B⁻¹ D^½ R where D = 0."""
    root = part.root
    inverse = torch.cholesky_inverse(part.factor)
    R_E = R[:, entering]
    R_AE = root[:, None] * R_E[part.columns]
    K = inverse @ R_AE
    P_EE = R_E[entering] - R_AE.T @ K
    inverse.neg_().diagonal().add_(1.0)
    P_AA = inverse.div_(root[:, None]).div_(root)
    P_AE = K.div_(root[:, None])
    return torch.cat([torch.cat([P_AA, P_AE], 1), torch.cat([P_AE.T, P_EE], 1)])


def _direction(H: Tensor, gradient: Tensor, eta: Tensor) -> Tensor:
    """Minimise the quadratic model: ``gradient·d + ½ dᵀ H d`` over ``d ≥ −η``, by fixing what falls below the bound.

    The diagonal of H is scaled to 1, with a ridge at the level of rounding.
    """
    scale = H.diagonal().clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    H = scale[:, None] * H * scale
    H.diagonal().add_(1e-12)
    gradient, lowest = scale * gradient, -eta / scale
    fixed = torch.zeros_like(eta, dtype=torch.bool)
    d = _solve(H, -gradient)
    for _ in range(_FIXINGS):
        below = ~fixed & (d < lowest)
        if not bool(below.any()):
            break
        fixed |= below
        rest = (~fixed).nonzero().flatten()
        d = torch.where(fixed, lowest, 0.0)
        d[rest] = _solve(H[rest][:, rest], -(gradient + H @ d)[rest])
    # exactly −η where it is fixed: a variance that is left at the level of rounding would stay active
    return torch.where(fixed, -eta, torch.maximum(scale * d, -eta))


def _solve(H: Tensor, right: Tensor) -> Tensor:
    """H⁻¹ times a vector; the vector itself where rounding makes H indefinite."""
    factor, failed = torch.linalg.cholesky_ex(H)
    if bool(failed):
        return right
    return torch.cholesky_solve(right[:, None], factor)[:, 0]


def _search(
    problem: Problem, weight: Tensor, eta: Tensor, direction: Tensor, at: tuple[Tensor, _Point]
) -> tuple[Tensor, _Point] | None:
    """Halve the step until F falls enough; None when it does not.

    :param at: gradient and point at ``eta``.
    """
    gradient, point = at
    step = 1.0
    for _ in range(_HALVINGS):
        candidate = (eta + step * direction).clamp(min=0)
        new = _evaluate(problem, weight, candidate)
        if bool(new.value <= point.value + 1e-4 * gradient @ (candidate - eta)):
            return candidate, new
        step *= 0.5
    return None
