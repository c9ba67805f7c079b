"""The log-uniform prior of Sparse Variational Dropout."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, constraints, register_kl

from pyrosparse.distributions.dropout_normal import DropoutNormal
from pyrosparse.distributions.kl import EPSILON, FORMS, KLForm, common_shape, weight_kl
from pyrosparse.errors import PriorError

__all__ = ["LOG_RANGE", "LogUniform", "draw_log_uniform"]

LOG_RANGE = 20.0
"""Width in nats of the range of log|w| from which the surrogate draws are taken."""


def draw_log_uniform(shape: torch.Size, *, dtype: torch.dtype | None, device: torch.device | str | None) -> Tensor:
    """Draw ``w`` with log|w| uniform on [-20, 0] and a random sign."""
    magnitude = torch.rand(shape, dtype=dtype, device=device).sub_(1.0).mul_(LOG_RANGE).exp_()
    return torch.where(torch.rand(shape, dtype=dtype, device=device) < 0.5, -magnitude, magnitude)


class LogUniform(TorchDistribution):
    r"""Improper prior :math:`p(w) \propto 1/|w|` on the real line: uniform in log|w|.

    Kingma, Salimans & Welling (2015); Molchanov, Ashukha & Vetrov (2017). The KL from a Gaussian depends on
    alpha = variance / mean^2 alone and is normalised to 0 at alpha = infinity.

    ``log_prob(w) = -log(w^2 + 1e-16)/2``, up to the constant that an improper density does not have. There
    is nothing to sample from: ``sample`` is a **surrogate**, log|w| uniform on [-20, 0] with a random sign,
    which exists so that traces, prototypes and ``Predictive`` run; do not read its moments as the prior's.

    Parameters
    ----------
    kl
        :class:`KLForm` or its value: ``"exact"`` or ``"sigmoid"``.
    dtype, device
        Of the surrogate draws; torch's defaults if None.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real
    has_rsample = False

    def __init__(
        self,
        *,
        kl: KLForm | str = KLForm.EXACT,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if kl not in set(KLForm):
            names = ", ".join(repr(form.value) for form in KLForm)
            raise PriorError(f"LogUniform: kl={kl!r} is unknown; choose one of {names}")
        self.kl = KLForm(kl)
        self.dtype, self.device = dtype, device
        super().__init__(torch.Size(), validate_args=validate_args)

    def __repr__(self) -> str:
        return f"LogUniform(kl={self.kl.value!r}, batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: LogUniform | None = None) -> LogUniform:
        """Return a LogUniform of that batch shape."""
        new = self._get_checked_instance(LogUniform, _instance)
        new.kl, new.dtype, new.device = self.kl, self.dtype, self.device
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        super(LogUniform, new).__init__(shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Surrogate draws: log|w| uniform on [-20, 0], random sign."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            return draw_log_uniform(shape, dtype=self.dtype, device=self.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``-log|w|``, guarded at 0 by adding 1e-16 to w^2; unnormalised."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        return value.square().add(EPSILON).log().mul(-0.5).expand(shape)


@register_kl(DropoutNormal, LogUniform)
def _dropout_normal(q: DropoutNormal, p: LogUniform) -> Tensor:
    value = weight_kl(q.loc, q.log_var, FORMS[p.kl], variance=q.known_variance, keep=q.keep)
    return value.expand(common_shape(q.batch_shape, p.batch_shape))


@register_kl(Normal, LogUniform)
def _normal(q: Normal, p: LogUniform) -> Tensor:
    value = weight_kl(q.loc, 2.0 * q.scale.log(), FORMS[p.kl])
    return value.expand(common_shape(q.batch_shape, p.batch_shape))
