"""A batch that several processes compute together: the noise of each one's rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

__all__ = ["drawn_rows", "noise_like", "shared"]


class _Shared(Messenger):
    """While it is on the stack, noise is drawn for the whole batch and the process's own rows of it are used."""

    def __init__(self, rows: slice, total: int) -> None:
        super().__init__()
        self.rows, self.total = rows, total


def shared(rows: slice, total: int) -> Messenger:
    """Context in which the examples are some rows of a batch of which other processes compute the others.

    The noise is that of one process with the whole batch, and the generators of all processes, which must start in the
    same state, stay in step: what is drawn once a batch is the same everywhere.

    :param rows: the rows that are here.
    :param total: examples of the whole batch.
    """
    return _Shared(rows, total)


def drawn_rows(draw: Callable[[int], Tensor], length: int) -> Tensor:
    """``draw(length)``, or the part of a draw for the whole batch that belongs to this process's rows.

    :param draw: gives noise with so many entries along its first axis.
    :param length: entries that are needed: a whole number for each example. Any other number is no axis of examples,
        and all processes get the same draw.
    """
    share = next((handler for handler in reversed(_PYRO_STACK) if isinstance(handler, _Shared)), None)
    if share is None:
        return draw(length)
    each, rest = divmod(length, share.rows.stop - share.rows.start)
    if rest:
        return draw(length)
    return draw(each * share.total)[each * share.rows.start : each * share.rows.stop]


def noise_like(x: Tensor) -> Tensor:
    """Standard normal numbers of the shape of ``x`` that lie in memory as ``x`` does.

    Operations on tensors of different layouts are several times slower, and so is ``normal_`` in place on a tensor
    whose channels come last.
    """
    strides = torch.empty_like(x).stride()
    if x.dim() == 0 or len(x) * strides[0] != x.numel():  # examples are not the outermost axis in memory
        return torch.randn(x.numel(), dtype=x.dtype, device=x.device).as_strided(x.shape, strides)

    def draw(length: int) -> Tensor:
        noise = torch.randn(length * strides[0], dtype=x.dtype, device=x.device)
        return noise.as_strided((length, *x.shape[1:]), strides)

    return drawn_rows(draw, len(x))
