"""The half-Cauchy prior of a scale, as a product of two positive factors."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Independent, constraints, register_kl
from torch.distributions import LogNormal as TorchLogNormal

from pyrosparse.distributions.log_normal import LogNormal, kl_to_gamma, kl_to_inverse_gamma, with_log_var
from pyrosparse.errors import PriorError

__all__ = ["HalfCauchyProduct"]


class HalfCauchyProduct(TorchDistribution):
    r"""Two factors :math:`(a, b)` whose geometric mean is half-Cauchy: :math:`\sqrt{ab} \sim C^+(0, k)`.

    .. math:: a \sim \mathrm{Gamma}(\tfrac12, \text{scale } k^2), \qquad b \sim \mathrm{InvGamma}(\tfrac12, 1)

    (Neville, Ormerod & Wand, 2014; Louizos, Ullrich & Welling, 2017). In this form the KL from log-normal
    factors is closed. The last axis of a value, of length 2, holds ``a`` and ``b``: it is the event.

    Parameters
    ----------
    scale
        k > 0, a number or a tensor.
    """

    arg_constraints = {"scale": constraints.positive}
    support = constraints.independent(constraints.positive, 1)
    has_rsample = False

    def __init__(self, scale: float | Tensor = 1.0, *, validate_args: bool | None = None) -> None:
        if not isinstance(scale, Tensor):
            if not (scale > 0 and math.isfinite(scale)):
                raise PriorError(f"HalfCauchyProduct: the scale must be positive and finite, not {scale!r}")
            scale = torch.tensor(float(scale))
        self.scale = scale
        super().__init__(scale.shape, torch.Size([2]), validate_args=validate_args)

    def __repr__(self) -> str:
        return f"HalfCauchyProduct(batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: HalfCauchyProduct | None = None) -> HalfCauchyProduct:
        """Return a HalfCauchyProduct of that batch shape."""
        new = self._get_checked_instance(HalfCauchyProduct, _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.scale = self.scale.expand(shape)
        super(HalfCauchyProduct, new).__init__(shape, torch.Size([2]), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw ``(a, b)`` along the last axis."""
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape
            half_a, half_b = 0.5 * torch.randn((2, *shape), dtype=self.scale.dtype, device=self.scale.device).square()
            # Gamma(1/2, rate 1) is half the square of a standard normal
            tiny = torch.finfo(self.scale.dtype).tiny
            return torch.stack([self.scale.square() * half_a.clamp_min(tiny), half_b.clamp_min(tiny).reciprocal()], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the pair."""
        if self._validate_args:
            self._validate_sample(value)
        a, b = value.unbind(-1)
        rate = self.scale.square().reciprocal()
        gamma = 0.5 * rate.log() - 0.5 * a.log() - rate * a
        inverse = -1.5 * b.log() - b.reciprocal()
        return gamma + inverse - math.log(math.pi)  # two times log Γ(1/2)


@register_kl(Independent, HalfCauchyProduct)
def _factors(q: Independent, p: HalfCauchyProduct) -> Tensor:
    """KL of two log-normal factors along the last axis, in nats."""
    base = with_log_var(q.base_dist) if isinstance(q.base_dist, TorchLogNormal) else q.base_dist
    if not isinstance(base, LogNormal) or q.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    half = torch.full_like(p.scale, 0.5)
    rate = p.scale.square().reciprocal()
    (m_a, m_b), (v_a, v_b) = base.loc.unbind(-1), base.log_var.unbind(-1)
    kl = torch.stack(
        [kl_to_gamma(m_a, v_a, half, rate), kl_to_inverse_gamma(m_b, v_b, half, torch.ones_like(half))], -1
    )
    return base._kept(kl).sum(-1)
