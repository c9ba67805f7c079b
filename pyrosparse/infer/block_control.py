"""The weight of the KL by blocks of weights, held at a given number of bits: a schedule that watches the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyrosparse.errors import ConfigError
from pyrosparse.guides.coded import CodedFamily

__all__ = ["BlockControl"]


class BlockControl:
    r"""Bring the KL of each block of weights to a given number of bits, by a weight β of its own.

    For :func:`pyrosparse.fit`, as the schedule of a site with a :class:`~pyrosparse.guides.CodedFamily`. After each
    epoch the weight of each block moves by what its KL is off:
    :math:`\log\beta_b \leftarrow \log\beta_b + \gamma \log(KL_b / C)`, where C is the target in nats. (Havasi, Peharz
    and Hernández-Lobato, 2019, move it by a fixed factor at every step.) The weights are part of the family, and
    so of a checkpoint.

    :param family: posterior of the site.
    :param bits: of each block.
    :param gain: γ.
    :param limit: largest factor by which β may differ from 1, both ways.
    :raises ConfigError: for a number that is not positive.
    """

    def __init__(self, family: CodedFamily, *, bits: float, gain: float = 0.5, limit: float = 1e4) -> None:
        for name, value in (("bits", bits), ("gain", gain), ("limit", limit)):
            if not 0 < value < math.inf:
                raise ConfigError(f"BlockControl: {name} is {value!r}; give a positive number")
        self.family, self.bits, self.gain = family, bits, gain
        self._largest = abs(math.log(limit))
        family.progress.zero_()

    def __call__(self, t: float) -> Tensor:
        """Weight of each element's KL, of the site's shape."""
        return self.family.element_weights()

    @torch.no_grad()
    def block_bits(self) -> Tensor:
        """KL of each block in bits; blocks that were sent have what they had left before."""
        family = self.family
        q = family.elements()
        prior: Any = family.prior.distribution(q.batch_shape)
        kl = kl_divergence(q, prior.base_dist) / math.log(2.0)
        of_block = torch.zeros_like(family.log_beta)
        alive = family.block >= 0
        return of_block.index_add_(0, family.block[alive], kl[alive])

    def observe(self, record: Mapping[str, Any]) -> None:
        """Move the weights of the blocks that are open, once for each epoch."""
        family = self.family
        if record["progress"] <= float(family.progress):
            return
        family.progress.fill_(record["progress"])
        open_ = torch.zeros_like(family.log_beta, dtype=torch.bool)
        open_[family.block[(family.block >= 0) & ~family.sent]] = True
        moved = family.log_beta + self.gain * (self.block_bits() / self.bits).clamp(min=1e-3).log()
        family.log_beta.copy_(torch.where(open_, moved.clamp(-self._largest, self._largest), family.log_beta))
