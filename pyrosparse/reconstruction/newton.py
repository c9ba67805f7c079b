"""Projected Newton on the variances of the groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyrosparse.reconstruction.problem import Matrices, Problem, Solution

__all__ = ["newton"]

_HALVINGS = 6
_FIXINGS = 10


@dataclass(frozen=True, eq=False)
class _Point:
    """F at η, and the M that belongs to it.

    :param value: F(η).
    :param M: S (R + D⁻¹)⁻¹ of each block.
    :param factors: of each block, the active columns, sqrt of their variances, and the Cholesky factor of B.
    """

    value: Tensor
    M: Matrices
    factors: tuple[tuple[Tensor, Tensor, Tensor], ...]


def newton(
    problem: Problem, lam: float, *, start: Matrices | None = None, tol: float = 1e-6, max_steps: int = 200
) -> Solution:
    """Solve the group lasso by Newton steps on one number a group.

    From λω‖M_g‖ = min over η_g of ½(‖M_g‖²/η_g + (λω_g)² η_g), with D = diag η,

        F(η) = c/2 − ½ tr S (R + D⁻¹)⁻¹ Sᵀ + ½ Σ (λω_g)² η_g,   η ≥ 0,

    which is convex and smooth, with M = S (R + D⁻¹)⁻¹, G = S − M R, ∂F/∂η_g = ½((λω_g)² − ‖G_g‖²), and as its
    Hessian the group sums of (GᵀG) ∘ P, P = (R⁻¹ + D)⁻¹. η is the variance of an ARD prior whose log-determinant
    is left out. A step costs O(a³ + m a d) for a active columns of d.

    The root that is looked for is that of 1/‖G_g‖ = 1/(λω_g) rather than of ‖G_g‖² = (λω_g)²: it is linear in η for
    a group alone, as in trust-region methods, and takes half the steps. Where it does not descend on F, the plain
    Newton direction is taken.

    :param lam: λ ≥ 0.
    :param start: a guess of M, such as the solution of another λ; least squares when None. Where only few groups
        will be kept of very many, ``problem.zeros()`` is cheaper.
    :param tol: relative duality gap at which to stop.
    :param max_steps: most Newton steps.
    """
    weight = lam * problem.omega
    if lam == 0:
        return _unpenalised(problem)
    eta = problem.norms(problem.least_squares(problem.spread > 0) if start is None else start) / weight
    eta = torch.where(problem.spread > 0, eta, 0.0)  # inputs that are constant explain nothing
    point = _evaluate(problem, weight, eta)
    step = 0
    while True:
        G = problem.correlation(point.M)
        gap = problem.certify(point.M, lam, G).relative
        if gap <= tol or step == max_steps:
            break
        norms = problem.norms(G)
        gradient = 0.5 * (weight.square() - norms.square())
        free = (eta > 0) | (gradient < 0)
        direction = torch.zeros_like(eta)
        H = _hessian(problem, point, G, eta, free)
        direction[free] = _direction(H, (norms.square() * (1 - norms / weight))[free], eta[free])
        if bool((direction * gradient).sum() >= 0):
            direction[free] = _direction(H, gradient[free], eta[free])
        found = _search(problem, weight, eta, direction, (gradient, point))
        if found is None:
            # far from the solution many variances reach 0 at once; η_g ‖G_g‖ / (λω_g) = ‖M_g‖ / (λω_g) minimises
            # the bound that F came from, so that F cannot rise
            eta = eta * norms / weight
            found = eta, _evaluate(problem, weight, eta)
        eta, point = found
        step += 1
    return Solution(point.M, lam, gap, step, eta > 0)


def _unpenalised(problem: Problem) -> Solution:
    kept = problem.spread > 0
    M = problem.least_squares(kept)
    return Solution(M, 0.0, problem.certify(M, 0.0).relative, 1, kept)


def _evaluate(problem: Problem, weight: Tensor, eta: Tensor) -> _Point:
    """F, M and the factors of B = I + D^½ R D^½, over the active columns of each block."""
    value = 0.5 * problem.c + 0.5 * (weight.square() * eta).sum()
    found, factors = [], []
    for b in problem.blocks:
        columns = (eta[b.group] > 0).nonzero().flatten()
        root = eta[b.group[columns]].sqrt()
        B = root[:, None] * b.R[columns][:, columns] * root
        B.diagonal().add_(1.0)
        factor, failed = torch.linalg.cholesky_ex(B)
        # rounding may make B indefinite where η is huge: such a step is refused like one that does not fall
        value = torch.where(failed == 0, value, torch.inf)
        Q = torch.linalg.solve_triangular(factor, root[:, None] * b.S[:, columns].T, upper=False)
        value = value - 0.5 * Q.square().sum()
        M = torch.zeros_like(b.S)
        M[:, columns] = (root[:, None] * torch.linalg.solve_triangular(factor.T, Q, upper=True)).T
        found.append(M)
        factors.append((columns, root, factor))
    return _Point(value, tuple(found), tuple(factors))


def _hessian(problem: Problem, point: _Point, G: Matrices, eta: Tensor, free: Tensor) -> Tensor:
    """Group sums of (GᵀG) ∘ P over the free groups, those that are active first."""
    order = torch.cat([(eta > 0).nonzero().flatten(), (free & (eta == 0)).nonzero().flatten()])
    number = torch.empty_like(free, dtype=torch.int64)
    number[order] = torch.arange(len(order), device=order.device)
    H = problem.omega.new_zeros((len(order), len(order)))
    for b, g, (active, root, factor) in zip(problem.blocks, G, point.factors, strict=True):
        entering = (free & (eta == 0))[b.group].nonzero().flatten()
        columns = torch.cat([active, entering])
        product = (g[:, columns].T @ g[:, columns]).mul_(_shrunk(b.R, active, entering, root, factor))
        place = number[b.group[columns]]
        rows = H.new_zeros((len(order), len(columns))).index_add_(0, place, product)
        H.index_add_(1, place, rows)
    back = torch.argsort(order)
    return H[back][:, back]


def _shrunk(R: Tensor, active: Tensor, entering: Tensor, root: Tensor, factor: Tensor) -> Tensor:
    """P = (R⁻¹ + D)⁻¹: D^-½ (I − B⁻¹) D^-½ where D > 0, and R − R D^½ B⁻¹ D^½ R where D = 0."""
    inverse = torch.cholesky_inverse(factor)
    R_AE = root[:, None] * R[active][:, entering]
    K = inverse @ R_AE
    P_EE = R[entering][:, entering] - R_AE.T @ K
    inverse.neg_().diagonal().add_(1.0)
    P_AA = inverse.div_(root[:, None]).div_(root)
    P_AE = K.div_(root[:, None])
    return torch.cat([torch.cat([P_AA, P_AE], 1), torch.cat([P_AE.T, P_EE], 1)])


def _direction(H: Tensor, gradient: Tensor, eta: Tensor) -> Tensor:
    """Minimise the quadratic model: ``gradient·d + ½ dᵀ H d`` over ``d ≥ −η``, by fixing what falls below the bound."""
    fixed = torch.zeros_like(eta, dtype=torch.bool)
    d = torch.zeros_like(eta)
    for _ in range(_FIXINGS):
        rest = (~fixed).nonzero().flatten()
        d = torch.where(fixed, -eta, 0.0)
        d[rest] = _solve(H[rest][:, rest], -(gradient + H @ d)[rest])
        below = ~fixed & (eta + d < 0)
        if not bool(below.any()):
            break
        fixed |= below
    return torch.maximum(d, -eta)


def _solve(H: Tensor, right: Tensor) -> Tensor:
    """H⁻¹ times a vector, with the diagonal scaled to 1 and a ridge at the level of rounding."""
    scale = H.diagonal().clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    H = scale[:, None] * H * scale
    H.diagonal().add_(1e-12)
    factor, failed = torch.linalg.cholesky_ex(H)
    if bool(failed):
        return right * scale.square()
    return scale * torch.cholesky_solve((scale * right)[:, None], factor)[:, 0]


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
        if bool(new.value <= point.value + 1e-4 * (gradient * (candidate - eta)).sum()):
            return candidate, new
        step *= 0.5
    return None
