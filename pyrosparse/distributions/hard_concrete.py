"""Gates that are exactly 0 or 1 with positive probability, and the prior that counts the open ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints, register_kl

from pyrosparse.distributions.kl import common_shape, expanded_shape
from pyrosparse.errors import PriorError

__all__ = ["BETA", "GAMMA", "ZETA", "HardConcrete", "L0Prior"]

BETA, GAMMA, ZETA = 2.0 / 3.0, -0.1, 1.1
"""Temperature and stretch of Louizos, Welling & Kingma (2018)."""


class _Stretched(torch.autograd.Function):
    """The gate of uniform noise, with its gradient in one pass: there is none where the gate is 0 or 1."""

    @staticmethod
    def forward(ctx: Any, log_alpha: Tensor, u: Tensor) -> Tensor:
        # s = 1 / (1 + ((1 − u)/u · 1/α)^(1/β)), where 1/β = 3/2 needs neither logarithms nor exponentials of the noise
        odds = u.reciprocal_().sub_(1.0)
        power = torch.sqrt(odds).mul_(odds).mul_(torch.exp(log_alpha / -BETA))
        z = power.add_(1.0).reciprocal_().mul_(ZETA - GAMMA).add_(GAMMA).clamp_(0.0, 1.0)
        ctx.shape = log_alpha.shape
        ctx.save_for_backward(z)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        # ds/dlog α = s(1 − s)/β, times the stretch; at the ends it is stopped
        slope = torch.addcmul(z, z, z, value=-1.0).sub_(GAMMA * ZETA).div_(BETA * (ZETA - GAMMA))
        passed = torch.ops.aten.hardtanh_backward(grad_outputs[0], z, 0.0, 1.0)
        return slope.mul_(passed).sum_to_size(ctx.shape), None


class HardConcrete(TorchDistribution):
    r"""A binary gate that is relaxed, stretched and cut: exactly 0 or 1 with positive probability.

    .. math::
        u \sim U(0, 1), \quad s = \sigma\big((\log u - \log(1-u) + \log\alpha)/\beta\big), \quad
        z = \min(1, \max(0, s(\zeta - \gamma) + \gamma))

    Louizos, Welling & Kingma (2018), section 2.3. :math:`P(z \ne 0) = \sigma(\log\alpha - \beta\log(-\gamma/\zeta))`.
    Where ``keep`` is False the gate is shut for good: z = 0, and log_prob and every KL are 0 there.

    ``log_prob`` is a density on (0, 1) and a probability at 0 and at 1.

    Parameters
    ----------
    log_alpha
        Location :math:`\log\alpha`: open gates have large ones.
    keep
        Optional bool tensor that broadcasts to the same shape.
    share
        Part of what is behind each gate that is still there, between 0 and 1; broadcasts to the same shape. The price
        of :class:`L0Prior` counts for that part alone. All of it when None.
    """

    arg_constraints = {"log_alpha": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        log_alpha: Tensor,
        keep: Tensor | None = None,
        *,
        share: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.log_alpha = log_alpha
        self.share = None if share is None else share.expand(log_alpha.shape)
        if keep is not None:
            if keep.dtype != torch.bool:
                raise ValueError(f"HardConcrete: keep is {keep.dtype}, not torch.bool; pass keep.bool()")
            keep = keep.expand(log_alpha.shape)
        self.keep = keep
        super().__init__(log_alpha.shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"HardConcrete(batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: HardConcrete | None = None) -> HardConcrete:
        """Return a HardConcrete of that batch shape."""
        new = self._get_checked_instance(HardConcrete, _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.log_alpha = self.log_alpha.expand(shape)
        new.keep = None if self.keep is None else self.keep.expand(shape)
        new.share = None if self.share is None else self.share.expand(shape)
        super(HardConcrete, new).__init__(shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def presence(self) -> Tensor:
        r""":math:`P(z \ne 0) = \sigma(\log\alpha - \beta \log(-\gamma/\zeta))`."""
        return self._kept(torch.sigmoid(self.log_alpha - BETA * math.log(-GAMMA / ZETA)))

    @property
    def gate(self) -> Tensor:
        r"""The gate at test time, :math:`\min(1, \max(0, \sigma(\log\alpha)(\zeta-\gamma)+\gamma))`."""
        return self._kept((torch.sigmoid(self.log_alpha) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0))

    @property
    def mean(self) -> Tensor:
        r""":math:`\int_0^1 P(z > t)\,dt`, by Gauss–Legendre quadrature."""
        return self._kept(self._integral(self._above))

    @property
    def variance(self) -> Tensor:
        r""":math:`\int_0^1 2t P(z > t)\,dt - (E z)^2`, by the same quadrature; that of 1 − z for gates mostly open."""
        # the smaller of z and 1 − z: of a gate that is all but open, rounding would leave nothing of 1 − 1
        opening = self.log_alpha > 0.0
        first = torch.where(opening, self._integral(self._below), self._integral(self._above))
        second = torch.where(
            opening,
            self._integral(lambda t: 2.0 * (1.0 - t) * self._below(t)),
            self._integral(lambda t: 2.0 * t * self._above(t)),
        )
        return self._kept((second - first.square()).clamp_min(0.0))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw; the gradient passes where the gate is neither 0 nor 1."""
        shape = self._extended_shape(torch.Size(sample_shape))
        eps = torch.finfo(self.log_alpha.dtype).eps
        u = torch.rand(shape, dtype=self.log_alpha.dtype, device=self.log_alpha.device).clamp_(eps, 1.0 - eps)
        return self._kept(_Stretched.apply(self.log_alpha, u))

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function, with steps at 0 and 1."""
        if self._validate_args:
            self._validate_sample(value)
        below = torch.where(value >= 1.0, 1.0, self._below(value))
        return below if self.keep is None else torch.where(self.keep, below, torch.ones_like(below))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density inside (0, 1), log probability at 0 and at 1; 0 where not kept."""
        if self._validate_args:
            self._validate_sample(value)
        inside = value.clamp(1e-12, 1.0 - 1e-7)
        s = (inside - GAMMA) / (ZETA - GAMMA)
        scaled = BETA * torch.logit(s) - self.log_alpha
        log_density = (
            math.log(BETA)
            - math.log(ZETA - GAMMA)
            - (s * (1.0 - s)).log()
            + torch.nn.functional.logsigmoid(scaled)
            + torch.nn.functional.logsigmoid(-scaled)
        )
        at_zero = torch.nn.functional.logsigmoid(BETA * math.log(-GAMMA / ZETA) - self.log_alpha)
        at_one = torch.nn.functional.logsigmoid(self.log_alpha - BETA * math.log((1.0 - GAMMA) / (ZETA - 1.0)))
        return self._kept(torch.where(value <= 0.0, at_zero, torch.where(value >= 1.0, at_one, log_density)))

    def _below(self, t: Tensor) -> Tensor:
        """P(z ≤ t) for 0 ≤ t < 1."""
        return torch.sigmoid(self._log_odds(t))

    def _above(self, t: Tensor) -> Tensor:
        """P(z > t) for 0 ≤ t < 1."""
        return torch.sigmoid(-self._log_odds(t))

    def _log_odds(self, t: Tensor) -> Tensor:
        s = ((t - GAMMA) / (ZETA - GAMMA)).clamp(max=1.0 - 1e-7)
        return BETA * torch.logit(s) - self.log_alpha

    def _integral(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """Integrate over t from 0 to 1."""
        nodes, weights = (torch.as_tensor(a).to(self.log_alpha) for a in _QUADRATURE)
        column = [-1, *[1] * self.log_alpha.dim()]
        return (weights.reshape(column) * of(nodes.reshape(column))).sum(0)

    def _kept(self, x: Tensor) -> Tensor:
        return x if self.keep is None else torch.where(self.keep, x, 0.0)


def _unit_interval(order: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return 0.5 * (nodes + 1.0), 0.5 * weights


# the integrand is smooth: 32 nodes leave an error below 1e-12
_QUADRATURE = _unit_interval(32)


class L0Prior(TorchDistribution):
    r"""Prior that charges :math:`\lambda` nats for an open gate: a spike at 0 and anything else.

    .. math:: KL(q \| p) := \lambda\, P_q(z \ne 0)

    the bound of Louizos, Welling & Kingma (2018), section 2.1, on the KL divergence of a spike-and-slab
    posterior. ``log_prob(z)`` is :math:`-\lambda` for z ≠ 0 and 0 at 0. Its ``sample`` is a **surrogate**:
    1 with probability :math:`e^{-\lambda}/(1+e^{-\lambda})`, else 0.

    Parameters
    ----------
    penalty
        :math:`\lambda \ge 0` nats for each gate: a number or a tensor.
    """

    arg_constraints = {"penalty": constraints.nonnegative}
    support = constraints.unit_interval
    has_rsample = False

    def __init__(self, penalty: float | Tensor, *, validate_args: bool | None = None) -> None:
        if not isinstance(penalty, Tensor):
            if not (penalty >= 0 and math.isfinite(penalty)):
                raise PriorError(f"L0Prior: the penalty must be a number of at least 0, not {penalty!r}")
            penalty = torch.tensor(float(penalty))
        self.penalty = penalty
        super().__init__(penalty.shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"L0Prior(batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: L0Prior | None = None) -> L0Prior:
        """Return an L0Prior of that batch shape."""
        new = self._get_checked_instance(L0Prior, _instance)
        shape = expanded_shape(self.batch_shape, batch_shape)
        new.penalty = self.penalty.expand(shape)
        super(L0Prior, new).__init__(shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Surrogate draws: 1 with the probability σ(−λ)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            return torch.bernoulli(torch.sigmoid(-self.penalty).expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """``−λ`` where the gate is not 0; unnormalised."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value != 0, -self.penalty, torch.zeros_like(self.penalty))


@register_kl(HardConcrete, L0Prior)
def _open(q: HardConcrete, p: L0Prior) -> Tensor:
    price = p.penalty if q.share is None else p.penalty * q.share
    return (price * q.presence).expand(common_shape(q.batch_shape, p.batch_shape))
