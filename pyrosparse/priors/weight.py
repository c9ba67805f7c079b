"""Priors of single weights."""

from __future__ import annotations

import math

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyrosparse import distributions as dist
from pyrosparse.errors import PriorError
from pyrosparse.priors.prior import Prior
from pyrosparse.text import nearest

__all__ = ["ARD", "LogUniform", "is_positive"]


class LogUniform(Prior):
    r"""Log-uniform prior on each weight, :math:`p(w) \propto 1/|w|` (Sparse VD: Molchanov et al., 2017).

    :param kl: form of the KL divergence, ``"exact"`` or ``"sigmoid"`` (the published approximation).
    :raises PriorError: for another form, with the nearest one.
    """

    def __init__(self, *, kl: str = "exact") -> None:
        super().__init__()
        forms = [form.value for form in dist.KLForm]
        if kl not in forms:
            raise PriorError(f"LogUniform: kl={kl!r} is unknown{nearest(str(kl), forms)}")
        self.kl = dist.KLForm(kl)
        # it has no parameters: one object serves every step
        self._made: dict[torch.Size, TorchDistributionMixin] = {}

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:  # noqa: D102
        if shape not in self._made:
            self._made = {shape: dist.LogUniform(kl=self.kl).expand(shape).to_event(len(shape))}
        return self._made[shape]


class ARD(Prior):
    r"""Automatic relevance determination, :math:`p(w) = N(0, 1/\tau)` (Kharitonov et al., 2018).

    :param precision: ``None`` lets each weight have the :math:`\tau` that maximises the ELBO,
        :math:`\tau^* = 1/(\sigma^2 + \mu^2)` (empirical Bayes); a number fixes :math:`\tau` for all.
    :param learn: train :math:`\log \tau`, one number a site, starting at ``precision`` (1 when None).
    :raises PriorError: unless ``precision`` is positive.
    """

    log_precision: nn.Parameter | Tensor | None

    def __init__(self, precision: float | None = None, *, learn: bool = False) -> None:
        super().__init__()
        if precision is not None and not is_positive(precision):
            raise PriorError(f"ARD: precision is {precision!r}; give a positive number, or None for empirical Bayes")
        if learn:
            self.log_precision = nn.Parameter(torch.tensor(1.0 if precision is None else float(precision)).log())
        else:
            value = None if precision is None else torch.tensor(float(precision)).log()
            self.register_buffer("log_precision", value)

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:  # noqa: D102
        precision = None if self.log_precision is None else self.log_precision.exp()
        return dist.ARDNormal(precision).expand(shape).to_event(len(shape))


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    try:
        return not isinstance(value, str) and math.isfinite(value) and value > 0  # type: ignore[arg-type, operator]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False
