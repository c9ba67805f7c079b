"""Gaussian posteriors of weights that are sent block by block: what has been sent stands still."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrosparse.distributions import DropoutNormal
from pyrosparse.guides.dropout import DropoutFamily
from pyrosparse.priors import Prior

__all__ = ["CodedFamily"]


class CodedFamily(DropoutFamily):
    r""":math:`q(w) = N(\mu, \sigma^2)` while a weight's block is open; the value that was sent afterwards.

    Each block has a weight of its KL, which :class:`~pyrosparse.infer.BlockControl` moves.

    :param site: name of the weight.
    :param prior: a proper Gaussian one.
    :param weight: initial mean.
    :param log_var: initial :math:`\log\sigma^2`, shape of the weight.
    :param block: block of each weight, −1 where it was pruned; shape of the weight.
    """

    block: Tensor
    sent: Tensor
    value: Tensor
    log_beta: Tensor
    progress: Tensor

    def __init__(self, site: str, prior: Prior, weight: Tensor, log_var: Tensor, block: Tensor) -> None:
        super().__init__(site, prior, weight, 0.0)
        with torch.no_grad():
            self.log_var.copy_(log_var)
        self.freeze(block >= 0)
        self.register_buffer("block", block.clone())
        self.register_buffer("sent", torch.zeros_like(block, dtype=torch.bool))
        self.register_buffer("value", torch.zeros_like(weight))
        self.register_buffer("progress", torch.zeros(()))  # of the run, when the weights of the KL moved last
        self.register_buffer("log_beta", torch.zeros(int(block.max()) + 1, dtype=weight.dtype, device=weight.device))

    def elements(self) -> DropoutNormal:  # noqa: D102
        # of what was sent the deviation is 3e-9, and no gradient comes back
        loc = torch.where(self.sent, self.value, self.loc)
        return DropoutNormal(loc, torch.where(self.sent, -39.0, self.capped_log_var()), keep=self.frozen)

    def send(self, where: Tensor, values: Tensor) -> None:
        """Fix weights at values; boolean mask and values of the weight's shape."""
        self.sent |= where
        self.value.copy_(torch.where(where, values.to(self.value), self.value))

    def element_weights(self) -> Tensor:
        """Weight of the KL of each weight: that of its block, 0 where it is pruned or sent."""
        open_ = (self.block >= 0) & ~self.sent
        return torch.where(open_, self.log_beta.exp()[self.block.clamp(min=0)], 0.0)

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        return super().weight_tensors() | {"block": self.block, "sent": self.sent, "value": self.value}
