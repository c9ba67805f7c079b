"""One step of a fit: loss, gradient, and what the optimiser makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.infer.elbo import SparseELBO
from pyrosparse.infer.layout import layout_of
from pyrosparse.infer.optimizer import scale_learning_rates
from pyrosparse.infer.ranks import Ranks
from pyrosparse.infer.replay import Replay
from pyrosparse.infer.schedules import Schedule
from pyrosparse.model import SparseModel
from pyrosparse.poutine.share import shared

__all__ = ["Step"]


class Step:
    """Takes steps on the β-ELBO of a pair; of every batch each process computes its own rows.

    :param model: network, priors and likelihood; on its device.
    :param guide: the guide, perhaps under local reparameterisation.
    :param parameters: what is trained, as the optimiser has it.
    :param optimizer: its Adam.
    :param schedules: weight of the KL divergence, by sample site.
    :param lr_schedule: factor on all learning rates.
    :param clip: largest norm of the gradient.
    :param autocast: type of the matrix products and convolutions; None for that of the parameters.
    :param example: a batch of inputs, on the model's device.
    :param ranks: the processes that fit together.
    """

    def __init__(
        self,
        model: SparseModel,
        guide: Callable[..., Any],
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        schedules: Mapping[str, Schedule],
        lr_schedule: Schedule | None,
        clip: float | None,
        autocast: torch.dtype | None,
        example: Tensor,
        ranks: Ranks,
    ) -> None:
        self.model, self.guide = model, guide
        self.parameters, self.optimizer = parameters, optimizer
        self.schedules, self.lr_schedule, self.clip = schedules, lr_schedule, clip
        self.autocast, self.ranks = autocast, ranks
        self.layout = layout_of(model.network, example[:2], autocast=autocast is not None)
        self.elbo = SparseELBO()
        self.replay: Replay | None = None

    def gradient(self, x: Tensor, y: Tensor, t: float) -> Tensor:
        """Put the gradient of a whole batch into the parameters; nothing waits for the device.

        :param t: progress of the run, from 0 to 1.
        :returns: loss an example, log-likelihood and KL.
        """
        self.elbo.site_scale = {site: schedule(t) for site, schedule in self.schedules.items()}
        if self.lr_schedule is not None:
            scale_learning_rates(self.optimizer, self.lr_schedule(t))
        self.optimizer.zero_grad(set_to_none=True)
        if self.replay is not None:
            return self.replay(self._backward, x, y)
        if self.ranks.alone:
            return self._backward(x, y)
        share = self.ranks.share(x.shape[0])
        with shared(share.rows, share.total):
            values = self._backward(x[share.rows], y[share.rows])
        return self.ranks.average(self.parameters, values, share.weight)

    def use_tape(self, guide: nn.Module, *, asked: bool) -> None:
        """Take steps from a tape where that gives the same numbers.

        :param guide: its tensors, and those of the model, are what a step reads.
        :param asked: whether the user wants it, and is told where it cannot be done.
        """
        self.replay = Replay(self.elbo, self.parameters, [self.model, guide], asked=asked)

    def doubt(self) -> None:
        """Look at the tape, if there is one, before it is played again: an epoch begins."""
        if self.replay is not None:
            self.replay.doubt()

    @property
    def played(self) -> int:
        """Steps of this epoch that were played from a tape."""
        return 0 if self.replay is None else self.replay.played

    def update(self) -> None:
        """Let the optimiser go down the gradient."""
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()

    @property
    def kl(self) -> dict[str, Tensor]:
        """KL divergence of each site at the last step, in nats; empty before the first."""
        return {} if self.elbo.last is None else self.elbo.last.kl

    def _backward(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None):
            loss = self.elbo.differentiable_loss(self.model, self.guide, self.layout(x), y)
        loss = loss / self.model.likelihood.num_data
        loss.backward()
        terms = self.elbo.last
        assert terms is not None
        return torch.stack([loss.detach(), terms.log_likelihood, terms.total_kl])
