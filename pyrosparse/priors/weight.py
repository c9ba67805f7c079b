"""Priors of single weights."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor, nn

from pyrosparse import distributions as dist
from pyrosparse.errors import PriorError
from pyrosparse.priors.prior import Prior
from pyrosparse.text import nearest

__all__ = ["ARD", "ComplexARD", "ComplexLogUniform", "LogUniform", "is_positive"]


class _LogUniform(Prior):
    """What the log-uniform priors of real and of complex weights have in common."""

    def __init__(self, kl: str) -> None:
        super().__init__()
        forms = [form.value for form in dist.KLForm]
        if kl not in forms:
            raise PriorError(f"{type(self).__name__}: kl={kl!r} is unknown{nearest(str(kl), forms)}")
        self.kl = dist.KLForm(kl)
        # it has no parameters: one object serves every step
        self._made: dict[torch.Size, TorchDistributionMixin] = {}

    @abstractmethod
    def element(self) -> TorchDistribution:
        """Distribution of one weight."""

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:  # noqa: D102
        if shape not in self._made:
            self._made = {shape: self.element().expand(shape).to_event(len(shape))}
        return self._made[shape]


class LogUniform(_LogUniform):
    r"""Log-uniform prior on each weight, :math:`p(w) \propto 1/|w|` (Sparse VD: Molchanov et al., 2017).

    :param kl: form of the KL divergence, ``"exact"`` or ``"sigmoid"`` (the published approximation).
    :raises PriorError: for another form, with the nearest one.
    """

    counterpart = "ComplexLogUniform"

    def __init__(self, *, kl: str = "exact") -> None:
        super().__init__(kl)

    def element(self) -> TorchDistribution:  # noqa: D102
        return dist.LogUniform(kl=self.kl)


class ComplexLogUniform(_LogUniform):
    r"""Prior :math:`p(w) \propto |w|^{-\rho}` on each complex weight (C-VD: Nazarov & Burnaev, 2020).

    :param rho: exponent, at least 1; 2 is uniform in log|w| and in the phase.
    :param kl: form of the KL divergence, ``"exact"`` or ``"sigmoid"`` (the published approximation).
    :raises PriorError: for another form, with the nearest one, or a ``rho`` out of its range.
    """

    parts = 2
    counterpart = "LogUniform"

    def __init__(self, rho: float = 2.0, *, kl: str = "exact") -> None:
        super().__init__(kl)
        if not (is_positive(rho) and rho >= 1):
            raise PriorError(f"ComplexLogUniform: rho is {rho!r}; give a number of at least 1")
        self.rho = float(rho)

    def element(self) -> TorchDistribution:  # noqa: D102
        return dist.ComplexLogUniform(self.rho, kl=self.kl)


class _ARD(Prior):
    """What the relevance-determination priors of real and of complex weights have in common."""

    log_precision: nn.Parameter | Tensor | None

    def __init__(self, precision: float | None, learn: bool) -> None:
        super().__init__()
        if precision is not None and not is_positive(precision):
            raise PriorError(
                f"{type(self).__name__}: precision is {precision!r}; give a positive number, or None for empirical "
                "Bayes"
            )
        if learn:
            self.log_precision = nn.Parameter(torch.tensor(1.0 if precision is None else float(precision)).log())
        else:
            value = None if precision is None else torch.tensor(float(precision)).log()
            self.register_buffer("log_precision", value)

    @abstractmethod
    def element(self, precision: Tensor | None) -> TorchDistribution:
        """Distribution of one weight."""

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:  # noqa: D102
        precision = None if self.log_precision is None else self.log_precision.exp()
        return self.element(precision).expand(shape).to_event(len(shape))


class ARD(_ARD):
    r"""Automatic relevance determination, :math:`p(w) = N(0, 1/\tau)` (Kharitonov et al., 2018).

    :param precision: ``None`` lets each weight have the :math:`\tau` that maximises the ELBO,
        :math:`\tau^* = 1/(\sigma^2 + \mu^2)` (empirical Bayes); a number fixes :math:`\tau` for all.
    :param learn: train :math:`\log \tau`, one number a site, starting at ``precision`` (1 when None).
    :raises PriorError: unless ``precision`` is positive.
    """

    counterpart = "ComplexARD"

    def __init__(self, precision: float | None = None, *, learn: bool = False) -> None:
        super().__init__(precision, learn)

    def element(self, precision: Tensor | None) -> TorchDistribution:  # noqa: D102
        return dist.ARDNormal(precision)


class ComplexARD(_ARD):
    r"""Automatic relevance determination of complex weights, :math:`p(w) = CN(0, 1/\tau)` (Nazarov & Burnaev, 2020).

    :param precision: as for :class:`ARD`; :math:`1/\tau` is the total variance :math:`E|w|^2`.
    :param learn: as for :class:`ARD`.
    :raises PriorError: unless ``precision`` is positive.
    """

    parts = 2
    counterpart = "ARD"

    def __init__(self, precision: float | None = None, *, learn: bool = False) -> None:
        super().__init__(precision, learn)

    def element(self, precision: Tensor | None) -> TorchDistribution:  # noqa: D102
        return dist.ComplexARD(precision)


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    try:
        return not isinstance(value, str) and math.isfinite(value) and value > 0  # type: ignore[arg-type, operator]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False
