"""The log-uniform prior of complex-valued Variational Dropout, and its relatives |w|^-rho."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl

from pyrosparse.distributions.complex_kl import COMPLEX_FORMS, complex_weight_kl
from pyrosparse.distributions.complex_modulus import relation_term
from pyrosparse.distributions.complex_normal import ComplexNormal, squared_projection
from pyrosparse.distributions.kl import EPSILON, KLForm, common_shape
from pyrosparse.distributions.log_uniform import LOG_RANGE
from pyrosparse.errors import PriorError
from pyrosparse.pairs import squared_modulus

__all__ = ["ComplexLogUniform", "draw_complex_log_uniform"]


def draw_complex_log_uniform(
    shape: torch.Size, *, dtype: torch.dtype | None, device: torch.device | str | None
) -> Tensor:
    """Draw pairs with log|w| uniform on [-20, 0] and a uniform phase; ``shape`` ends in 2."""
    magnitude = torch.rand(shape[:-1], dtype=dtype, device=device).sub_(1.0).mul_(LOG_RANGE).exp_()
    phase = torch.rand(shape[:-1], dtype=dtype, device=device).mul_(2.0 * math.pi)
    return torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], -1)


class ComplexLogUniform(TorchDistribution):
    r"""Improper prior :math:`p(w) \propto |w|^{-\rho}`, :math:`\rho \ge 1`, over real pairs (..., 2).

    Nazarov & Burnaev (2020). With ``rho=2`` log|w| and the phase are uniform, and the KL from a circular Gaussian is
    ``Ein(1/alpha)``, a function of alpha = variance / \|mean\|^2 alone, 0 at alpha = infinity. In general

    .. math:: KL = \tfrac\rho2\left(\mathrm{Ein}(1/\alpha) + D\right) + \left(\tfrac\rho2 - 1\right)\log\sigma^2
        - \tfrac12\log(1 - |\xi|^2),

    with D = 0 for a circular posterior (see :mod:`pyrosparse.distributions.complex_modulus`); a circular
    one's KL equals

    .. math:: (\rho-2)\log|\mu| - \log\alpha - \tfrac\rho2\mathrm{Ei}(-1/\alpha) + \tfrac\rho2\gamma.

    An improper density has no constant of its own: this one is 0 at :math:`\mu = 0,\ \sigma^2 = 1,\ \xi = 0`, which is
    alpha = infinity when ``rho=2``. With another ``rho`` the prior favours a scale, and the KL has no lower bound.

    ``log_prob(w) = -rho/2 log(|w|^2 + 1e-16)``, up to that constant. There is nothing to sample from: ``sample``
    is a **surrogate**, log|w| uniform on [-20, 0] with a uniform phase, which exists so that traces, prototypes and
    ``Predictive`` run; do not read its moments as the prior's.

    Parameters
    ----------
    rho
        Exponent, at least 1.
    kl
        :class:`KLForm` or its value: ``"exact"``, or ``"sigmoid"`` for the published approximation of Ein.
    dtype, device
        Of the surrogate draws; torch's defaults if None.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self,
        rho: float = 2.0,
        *,
        kl: KLForm | str = KLForm.EXACT,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if kl not in set(KLForm):
            names = ", ".join(repr(form.value) for form in KLForm)
            raise PriorError(f"ComplexLogUniform: kl={kl!r} is unknown; choose one of {names}")
        if not (rho >= 1 and math.isfinite(rho)):
            raise PriorError(f"ComplexLogUniform: rho must be a number of at least 1, not {rho!r}")
        self.rho, self.kl = float(rho), KLForm(kl)
        self.dtype, self.device = dtype, device
        super().__init__(torch.Size(), torch.Size([2]), validate_args=validate_args)

    def __repr__(self) -> str:
        return f"ComplexLogUniform(rho={self.rho:g}, kl={self.kl.value!r}, batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: ComplexLogUniform | None = None) -> ComplexLogUniform:
        """Return a ComplexLogUniform of that batch shape."""
        new = self._get_checked_instance(ComplexLogUniform, _instance)
        new.rho, new.kl, new.dtype, new.device = self.rho, self.kl, self.dtype, self.device
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        super(ComplexLogUniform, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Surrogate draws: log|w| uniform on [-20, 0], uniform phase."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            return draw_complex_log_uniform(shape, dtype=self.dtype, device=self.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``-rho log|w|``, guarded at 0 by adding 1e-16 to |w|^2; unnormalised."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return (squared_modulus(value) + EPSILON).log().mul(-0.5 * self.rho).expand(shape)


@register_kl(ComplexNormal, ComplexLogUniform)
def _complex_normal(q: ComplexNormal, p: ComplexLogUniform) -> Tensor:
    value = complex_weight_kl(q.loc, q.log_var, COMPLEX_FORMS[p.kl], variance=q.known_variance, keep=q.keep)
    if p.rho != 2.0:
        value = 0.5 * p.rho * value + q.kept((0.5 * p.rho - 1.0) * q.log_var)
    if q.relation is not None:
        square, kappa = squared_modulus(q.loc) + EPSILON, squared_modulus(q.relation)
        cosine = squared_projection(q.relation, q.loc) / square
        shift = relation_term(q.log_alpha, cosine, kappa)
        value = value + q.kept(0.5 * p.rho * shift - 0.5 * q.rest.log())
    return value.expand(common_shape(q.batch_shape, p.batch_shape))
