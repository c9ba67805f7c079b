"""The variance of a posterior that has its logarithm as a parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["LogVariance"]


class _KnownExp(torch.autograd.Function):
    """``exp(x)`` of which the value is known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(x, value)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * _KnownExp.apply(*ctx.saved_tensors), None


class LogVariance:
    """Has ``log_var``, and computes ``exp(log_var)`` once for the KL and the layer, each with a graph of its own."""

    log_var: Tensor
    _variance: tuple[Tensor, int] | None = None

    @property
    def sigma2(self) -> Tensor:
        """``exp(log_var)`` whether kept or not, computed once for as long as ``log_var`` is not altered."""
        log_var = self.log_var
        if log_var.is_inference():  # nobody counts what alters it
            return log_var.exp()
        if self._variance is None or self._variance[1] != log_var._version:
            self._variance = log_var.detach().exp(), log_var._version
        value = self._variance[0]
        return _KnownExp.apply(log_var, value) if torch.is_grad_enabled() and log_var.requires_grad else value
