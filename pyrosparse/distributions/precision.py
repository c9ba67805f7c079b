"""What Gaussian priors with a precision for each weight share, whether their weights are real or complex."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyrosparse.errors import PriorError

__all__ = ["PrecisionPrior"]


class PrecisionPrior(TorchDistribution):
    """Zero-mean Gaussian whose precision tau is given, learned, or set by empirical Bayes.

    Parameters
    ----------
    precision
        tau > 0: None, a number, or a tensor of the batch shape; gradients reach it.
    dtype, device
        Of the surrogate draws when ``precision`` is None, and of a precision given as a number.
    """

    numbers: ClassVar[torch.Size] = torch.Size()
    """Event shape: that of the numbers of one weight."""

    surrogate: ClassVar[Callable[..., Tensor]]
    """Draws in place of those of a prior without a precision."""

    def __init__(
        self,
        precision: float | Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if precision is not None and not isinstance(precision, Tensor):
            if not (precision > 0 and math.isfinite(precision)):
                name = type(self).__name__
                raise PriorError(f"{name}: the precision must be positive and finite, not {precision!r}")
            precision = torch.tensor(float(precision), dtype=dtype, device=device)
        self.precision, self.dtype, self.device = precision, dtype, device
        shape = torch.Size() if precision is None else precision.shape
        super().__init__(shape, self.numbers, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraint of the precision, where there is one."""
        return {} if self.precision is None else {"precision": constraints.positive}

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients: with a precision they do, surrogate draws do not."""
        return self.precision is not None

    def __repr__(self) -> str:
        tau = self.precision
        given = None if tau is None else tau.item() if tau.numel() == 1 else f"tensor{tuple(tau.shape)}"
        return f"{type(self).__name__}(precision={given}, batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Any, _instance: Self | None = None) -> Self:
        """Return one of that batch shape."""
        new: Self = self._get_checked_instance(type(self), _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.precision = None if self.precision is None else self.precision.expand(shape)
        new.dtype, new.device = self.dtype, self.device
        TorchDistribution.__init__(new, shape, self.numbers, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @abstractmethod
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw with gradients to the precision."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw; without a precision, surrogate draws (see the class)."""
        with torch.no_grad():
            if self.precision is not None:
                return self.rsample(sample_shape)
            shape = self._extended_shape(torch.Size(sample_shape))
            return type(self).surrogate(shape, dtype=self.dtype, device=self.device)

    def _given(self) -> Tensor:
        if self.precision is None:
            raise NotImplementedError(f"{type(self).__name__} without a precision has no moments: give it a precision")
        return self.precision
