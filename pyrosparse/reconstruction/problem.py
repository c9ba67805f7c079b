"""The group lasso of linear reconstruction, written in moments: its cost is free of the number of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyrosparse.errors import DataError

__all__ = ["Block", "Certificate", "Matrices", "Problem", "Solution"]

Matrices = tuple[Tensor, ...]

# relative to the variance of each column, so that the units in which inputs are measured do not matter
_RIDGE = 1e-10


@dataclass(frozen=True, eq=False)
class Block:
    """One linear map to be found, by the centred moments of its inputs X and its targets Y.

    :param R: Cov X, shape ``(d, d)``, float64.
    :param S: Cov(Y, X), shape ``(m, d)``; W·R where the target is Y = W X.
    :param c: tr Cov Y, a scalar.
    :param group: group of each column, int64, shape ``(d,)``.
    """

    R: Tensor
    S: Tensor
    c: Tensor
    group: Tensor

    def __post_init__(self) -> None:
        d = self.R.shape[0]
        fits = self.R.shape == (d, d) and self.S.dim() == 2 and self.S.shape[1] == d and self.group.shape == (d,)
        if not fits:
            raise DataError(
                f"moments do not fit: R has shape {tuple(self.R.shape)}, S {tuple(self.S.shape)}, groups "
                f"{tuple(self.group.shape)}: give (d, d), (m, d) and (d,)"
            )
        if not all(t.dtype == torch.float64 for t in (self.R, self.S, self.c)):
            raise DataError("moments must be float64: certificates of 1e-6 are lost in float32; call .double()")


@dataclass(frozen=True)
class Certificate:
    """What a duality gap proves: the objective is within ``primal − dual`` of the lowest.

    :param primal: objective at M.
    :param dual: a lower bound of the lowest objective.
    :param scale: factor that makes the residual dual feasible, in [−1, 1].
    :param relative: (primal − dual) / objective at M = 0.
    """

    primal: float
    dual: float
    scale: float
    relative: float


@dataclass(frozen=True, eq=False)
class Solution:
    """A minimiser and its certificate.

    :param M: one matrix a block, shape ``(m, d)``; columns of groups that are not kept are exactly 0.
    :param lam: λ.
    :param gap: relative duality gap.
    :param steps: iterations that were made.
    :param kept: which groups are not 0, boolean, shape ``(groups,)``.
    """

    M: Matrices
    lam: float
    gap: float
    steps: int
    kept: Tensor

    @property
    def units(self) -> int:
        """Number of groups that are kept."""
        return int(self.kept.sum())


class Problem:
    """min over M of  ½ E‖Y − M X‖² + λ Σ_g ω_g ‖M_g‖  (Robin & Jain, 2019).

    ½ E‖Y − M X‖² = c/2 − tr M Sᵀ + ½ tr M R Mᵀ, so that the moments are all that is needed. With several blocks,
    several maps read the same units: their losses add up, and the columns of a unit in all of them are one group.

    :param blocks: one for each map.
    :param omega: ω, shape ``(groups,)``, positive; ones when None.
    """

    def __init__(self, blocks: Sequence[Block], omega: Tensor | None = None) -> None:
        if not blocks:
            raise DataError("a problem needs at least one block of moments")
        self.blocks = tuple(blocks)
        count = int(torch.stack([b.group.max() for b in self.blocks]).max()) + 1
        self.omega = self.blocks[0].R.new_ones(count) if omega is None else omega.to(self.blocks[0].R)
        if self.omega.numel() < count or not bool((self.omega > 0).all()):
            raise DataError(f"ω has {self.omega.numel()} entries for {count} groups: give one positive number a group")

    @classmethod
    def of(
        cls, R: Tensor, S: Tensor, c: Tensor | float, *, group: Tensor | None = None, omega: Tensor | None = None
    ) -> Problem:
        """Make a problem of one map; each column is a group of its own when ``group`` is None."""
        group = torch.arange(R.shape[0], device=R.device) if group is None else group
        return cls([Block(R, S, torch.as_tensor(c).to(R), group)], omega)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.omega.numel()

    @cached_property
    def c(self) -> Tensor:
        """E‖Y‖²: twice the objective at M = 0."""
        return torch.stack([b.c for b in self.blocks]).sum()

    @cached_property
    def lam_max(self) -> float:
        """Smallest λ at which M = 0: max_g ‖S_g‖ / ω_g."""
        return float((self.norms(tuple(b.S for b in self.blocks)) / self.omega).max())

    @cached_property
    def curvature(self) -> float:
        """Lipschitz constant of the gradient, the largest eigenvalue of R."""
        return max(float(torch.linalg.eigvalsh(b.R)[-1]) for b in self.blocks)

    @cached_property
    def spread(self) -> Tensor:
        """Square root of the trace of R_gg, which bounds the operator norm of X_g; shape ``(groups,)``."""
        total = torch.zeros_like(self.omega)
        for b in self.blocks:
            total.index_add_(0, b.group, b.R.diagonal())
        return total.clamp(min=0).sqrt()

    def zeros(self) -> Matrices:
        """M = 0."""
        return tuple(torch.zeros_like(b.S) for b in self.blocks)

    def norms(self, M: Matrices) -> Tensor:
        """‖M_g‖ over all blocks, shape ``(groups,)``."""
        total = torch.zeros_like(self.omega)
        for b, m in zip(self.blocks, M, strict=True):
            total.index_add_(0, b.group, m.square().sum(0))
        return total.sqrt()

    def correlation(self, M: Matrices) -> Matrices:
        """G = S − M R, the covariance of what is left of Y with X: minus the gradient of the loss."""
        return tuple(b.S - m @ b.R for b, m in zip(self.blocks, M, strict=True))

    def correlation_of_few(self, M: Matrices) -> Matrices:
        """Return ``correlation(M)`` by the columns of M that are not 0: cheaper where they are few."""
        found = []
        for b, m in zip(self.blocks, M, strict=True):
            columns = m.any(0).nonzero().flatten()
            found.append(b.S - m[:, columns] @ b.R[columns])
        return tuple(found)

    def loss(self, M: Matrices, G: Matrices | None = None) -> Tensor:
        """½ E‖Y − M X‖², from G = S − M R where it is known: c/2 − ½ tr M (S + G)ᵀ."""
        G = self.correlation_of_few(M) if G is None else G
        explained = [(m * (b.S + g)).sum() for b, m, g in zip(self.blocks, M, G, strict=True)]
        return 0.5 * (self.c - torch.stack(explained).sum())

    def error(self, M: Matrices) -> float:
        """E‖Y − M X‖² / E‖Y‖², between 0 and 1 for anything better than nothing."""
        return max(0.0, float(2 * self.loss(M) / self.c.clamp(min=torch.finfo(torch.float64).tiny)))

    def objective(self, M: Matrices, lam: float) -> Tensor:
        """½ E‖Y − M X‖² + λ Σ ω_g ‖M_g‖."""
        return self.loss(M) + lam * (self.omega * self.norms(M)).sum()

    def certify(self, M: Matrices, lam: float, G: Matrices | None = None) -> Certificate:
        """Duality gap at M.

        The dual is max over U of ½ E‖Y‖² − ½ E‖Y − U‖² with ‖E[U Xᵀ]_g‖ ≤ λ ω_g; U = s (Y − M X) is feasible for
        |s| ≤ min_g λ ω_g / ‖G_g‖, and the best such s is taken.

        :param G: ``correlation(M)``, where it is known.
        """
        G = self.correlation(M) if G is None else G
        left = self.c - torch.stack([(m * b.S).sum() for b, m in zip(self.blocks, M, strict=True)]).sum()
        return self.certificate(lam, left, 2 * self.loss(M, G), self.norms(M), self.norms(G))

    def certificate(self, lam: float, left: Tensor, twice_loss: Tensor, size: Tensor, slope: Tensor) -> Certificate:
        """Duality gap from what M and G = S − M R come down to.

        :param left: E‖Y‖² − tr M Sᵀ, which is E (Y − M X)ᵀY.
        :param twice_loss: E‖Y − M X‖².
        :param size: ‖M_g‖, shape ``(groups,)``.
        :param slope: ‖G_g‖, likewise.
        """
        tiny = torch.finfo(torch.float64).tiny
        weight = lam * self.omega
        primal = 0.5 * twice_loss + weight @ size
        twice_loss = twice_loss.clamp(min=tiny)
        bound = (weight / slope.clamp(min=tiny)).min()
        scale = (left / twice_loss).clamp(-bound, bound)
        dual = scale * left - 0.5 * scale.square() * twice_loss
        values = torch.stack([primal, dual, scale, (primal - dual) / (0.5 * self.c).clamp(min=tiny)]).tolist()
        return Certificate(*values)

    def shrink(self, M: Matrices, amount: Tensor) -> Matrices:
        """Proximal map of Σ amount_g ‖M_g‖: each group is shortened by ``amount``, down to 0."""
        norms = self.norms(M)
        factor = (1 - amount / norms.clamp(min=torch.finfo(torch.float64).tiny)).clamp(min=0)
        return tuple(m * factor[b.group] for b, m in zip(self.blocks, M, strict=True))

    def least_squares(self, kept: Tensor) -> Matrices:
        """M that reads only the kept groups and has the least error: S_K (R_KK + 1e-10·diag R_KK)⁻¹.

        Columns that do not vary explain nothing and stay at 0.
        """
        found = []
        for b in self.blocks:
            columns = (kept[b.group] & (b.R.diagonal() > 0)).nonzero().flatten()
            M = torch.zeros_like(b.S)
            if columns.numel():
                R = b.R[columns][:, columns]
                R.diagonal().mul_(1 + _RIDGE)
                factor = torch.linalg.cholesky(R)
                M[:, columns] = torch.cholesky_solve(b.S[:, columns].T, factor).T
            found.append(M)
        return tuple(found)

    def restrict(self, kept: Tensor) -> Problem:
        """The problem of some groups alone; the others are 0."""
        number = torch.cumsum(kept, 0) - 1
        blocks = []
        for b in self.blocks:
            columns = kept[b.group].nonzero().flatten()
            R = b.R[columns][:, columns]
            blocks.append(Block(R, b.S[:, columns], b.c, number[b.group[columns]]))
        return Problem(blocks, self.omega[kept])

    def expand(self, M: Matrices, kept: Tensor) -> Matrices:
        """Bring a solution of ``restrict(kept)`` back among all columns."""
        full = self.zeros()
        for b, whole, part in zip(self.blocks, full, M, strict=True):
            whole[:, kept[b.group]] = part
        return full
