"""The processes that fit one posterior together, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from pyrosparse.errors import ConfigError, FitError, PyrosparseWarning

__all__ = ["Ranks", "Share", "processes"]

T = TypeVar("T")
# how long a process waits for the others: these may be training the dense network meanwhile
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Share:
    """Rows of a batch that one process computes.

    :param rows: which rows.
    :param total: examples of the whole batch.
    :param weight: part of the batch's gradient that comes from them; 0 for a row that another process computes too.
    """

    rows: slice
    total: int
    weight: float


class Ranks:
    """Where a process stands in the default group of ``torch.distributed``; alone where there is none.

    Each process computes the gradient of its :class:`Share` of every batch, and :meth:`average` gives all of them that
    of the whole batch. The KL terms, which every process computes in full, are averaged too and so counted once.
    """

    def __init__(self) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.index: int = distributed.get_rank() if together else 0
        self.count: int = distributed.get_world_size() if together else 1

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows the bar."""
        return self.index == 0

    def share(self, examples: int) -> Share:
        """Rows of a batch of so many examples, in one piece; one process more has one row more at most."""
        start, stop = (examples * i // self.count for i in (self.index, self.index + 1))
        if start == stop:  # fewer examples than processes: compute one all the same, and count it nowhere
            return Share(slice(0, 1), examples, 0.0)
        return Share(slice(start, stop), examples, (stop - start) / examples)

    def average(self, parameters: Sequence[nn.Parameter], values: Tensor, weight: float) -> Tensor:
        """Average gradients, in place, and some values over the processes, weighted by their shares.

        One message a type of number; nothing waits for the device.

        :param parameters: those without a gradient are left out: they are the same ones everywhere.
        :param values: a vector.
        :param weight: this process's part; the parts of all sum to 1.
        :returns: the averaged values.
        """
        if self.alone:
            return values
        gradients = [p.grad for p in parameters if p.grad is not None]
        for dtype in {g.dtype for g in gradients}:
            found = [g for g in gradients if g.dtype == dtype]
            flat = torch.cat([g.reshape(-1) for g in found]).mul_(weight)
            distributed.all_reduce(flat)
            for gradient, averaged in zip(found, flat.split([g.numel() for g in found]), strict=True):
                gradient.copy_(averaged.view_as(gradient))
        averaged = values * weight
        distributed.all_reduce(averaged)
        return averaged

    def agree(self, *modules: nn.Module) -> None:
        """Give all processes the parameters and buffers of the first, and the state of its random numbers."""
        if self.alone:
            return
        for tensor in _tensors(modules):
            distributed.broadcast(tensor, src=0)
        torch.set_rng_state(self.tell(torch.get_rng_state()))
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(self.tell(torch.cuda.get_rng_state()))

    def average_statistics(self, network: nn.Module) -> None:
        """Average the running statistics of batch normalisation, of which each process has its own."""
        if self.alone:
            return
        for statistic in _statistics(network).values():
            distributed.all_reduce(statistic)
            statistic.div_(self.count)

    def tell(self, value: T) -> T:
        """Value of the first process, in every process."""
        if self.alone:
            return value
        box = [value if self.first else None]
        distributed.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def any(self, value: bool) -> bool:
        """Whether a value is true in one of the processes."""
        if self.alone:
            return value
        found: list[bool] = [False] * self.count
        distributed.all_gather_object(found, value)
        return any(found)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if not self.alone:
            distributed.barrier()

    def check_same(self, what: str, value: object) -> None:
        """Refuse to go on with processes that do not do the same.

        :raises FitError: in every process, if the value differs in one of them.
        """
        if self.alone:
            return
        found: list[object] = [None] * self.count
        distributed.all_gather_object(found, value)
        others = [i for i, other in enumerate(found) if other != found[0]]
        if others:
            raise FitError(
                f"{what} differ between processes: those of {', '.join(map(str, others))} are not those of process 0. "
                "Start all of them with the same script, settings and data; each takes its own rows of every batch"
            )

    def warn_of(self, network: nn.Module) -> None:
        """Say which layers do not compute what one process would."""
        if self.alone or not self.first:
            return
        layers = dict.fromkeys(name.rpartition(".")[0] or type(network).__name__ for name in _statistics(network))
        if layers:
            warnings.warn(
                f"{', '.join(layers)}: with {self.count} processes each normalises by the statistics of its own rows; "
                "the running ones are averaged after each epoch",
                PyrosparseWarning,
                stacklevel=4,
            )


@contextmanager
def processes() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` has started (NCCL with CUDA, gloo without); alone without it.

    :raises ConfigError: for fewer CUDA devices than processes on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield Ranks()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend, local = "nccl", int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"torchrun started process {local} on this machine, and it has {torch.cuda.device_count()} CUDA "
                "devices: start no more than one for each (--nproc-per-node)"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks()
    finally:
        distributed.destroy_process_group()


def _tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    return [t.detach() for m in modules for t in (*m.parameters(), *m.buffers())]


def _statistics(network: nn.Module) -> dict[str, Tensor]:
    """Running statistics of the batches, by name: of torch's batch normalisation, and of the complex one."""
    return {name: buffer for name, buffer in network.named_buffers() if name.rpartition(".")[2].startswith("running_")}
