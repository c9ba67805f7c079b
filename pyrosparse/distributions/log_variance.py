"""The variance of a posterior that has its logarithm as a parameter."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LogVariance"]


class LogVariance:
    """Has ``log_var``, and computes ``exp(log_var)`` once for the layer and the KL."""

    log_var: Tensor
    _known: tuple[Tensor, int] | None = None

    @property
    def sigma2(self) -> Tensor:
        """``exp(log_var)`` whether kept or not, at each call with a graph of its own."""
        if not (torch.is_grad_enabled() and self.log_var.requires_grad):
            return self.known_variance
        value = self.log_var.exp()
        self._keep(value.detach())
        return value

    @property
    def known_variance(self) -> Tensor:
        """``exp(log_var)`` without a gradient, computed once for as long as ``log_var`` is not altered."""
        if self._known is not None and not self.log_var.is_inference():
            value, version = self._known
            if version == self.log_var._version and (torch.is_inference_mode_enabled() or not value.is_inference()):
                return value
        value = self.log_var.detach().exp()
        self._keep(value)
        return value

    def _keep(self, value: Tensor) -> None:
        if not self.log_var.is_inference():  # nobody counts what alters such a tensor
            self._known = value, self.log_var._version
