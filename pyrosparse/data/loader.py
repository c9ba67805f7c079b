"""Batches from tensors in memory: shuffled on their device, with pixel shifts and soft labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.errors import DataError

__all__ = ["TensorLoader"]


class TensorLoader:
    """Iterate over ``(x, y)`` in batches without leaving the device that holds the data.

    One pass draws its permutation, and then the shifts of all its images, from torch's global generator
    as it starts, so that a run that restores the generator's state sees the same batches again.

    :param x: inputs, shape ``(N, ...)``.
    :param y: targets, shape ``(N,)`` (labels) or ``(N, C)`` (soft labels, regression targets).
    :param batch_size: examples a batch; the last batch may be smaller.
    :param shuffle: whether each pass goes through the data in a new order.
    :param shift: for images ``(N, C, H, W)``: each image moves by up to ``shift`` pixels in both
        directions, anew at each pass, with zeros moving in.
    :param drop_last: leave out a last batch that is not full.
    :param device: where the data are put once, at construction; None leaves them where they are.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        shift: int = 0,
        drop_last: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        if x.shape[0] != y.shape[0]:
            raise DataError(f"x has {x.shape[0]} examples and y has {y.shape[0]}: give one target an example")
        if x.shape[0] == 0:
            raise DataError("there are no examples: give at least one")
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}: give at least 1")
        if shift < 0:
            raise DataError(f"shift is {shift}: give the largest number of pixels, 0 for none")
        if shift and x.dim() != 4:
            raise DataError(f"shift needs images of shape (N, C, H, W), not {tuple(x.shape)}: set shift=0")
        self.x = x.to(device)
        self.y = y.to(device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.shift = shift
        self.drop_last = drop_last
        # one (N, C) table of targets for each shift, filled by `soften`
        self._targets: Tensor | None = None
        # every shifted image as a view, and what it was made of
        self._windows: tuple[Tensor, Tensor, int] | None = None

    def __len__(self) -> int:
        n = self.x.shape[0]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    @property
    def num_data(self) -> int:
        """Number of examples that one pass goes through."""
        return len(self) * self.batch_size if self.drop_last else self.x.shape[0]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = self.x.shape[0]
        order, shifts = self._drawn()
        windows = self._shifts() if self.shift else None
        for start in range(0, self.num_data, self.batch_size):
            stop = min(start + self.batch_size, n)
            rows = slice(start, stop) if order is None else order[start:stop]
            if windows is None or shifts is None:
                x, y = self.x[rows], self.y[rows]
                yield x, (y if self._targets is None else self._targets[0, rows])
            else:
                yield self._shifted(windows, rows, shifts[start:stop])

    def _drawn(self) -> tuple[Tensor | None, Tensor | None]:
        """Order of the examples and shift of each place in it, None where there is none of them.

        They are drawn on the CPU, where the generator is the same for every device, and go to the device in
        one transfer: a transfer for each batch would make every step wait for it.
        """
        n = self.x.shape[0]
        drawn = [torch.randperm(n)] if self.shuffle else []
        if self.shift:
            drawn.append(torch.randint((2 * self.shift + 1) ** 2, (n,)))
        if not drawn:
            return None, None
        there = torch.stack(drawn).to(self.x.device)
        return (there[0] if self.shuffle else None), (there[-1] if self.shift else None)

    def soften(self, teacher: nn.Module, *, weight: float = 0.7, temperature: float = 2.0) -> TensorLoader:
        """Mix the labels with a teacher's opinion: ``(1 − a)·onehot(y) + a·softmax(teacher(x)/T)``.

        The teacher is asked once for each image and each possible shift, not at each step.

        :param teacher: a network with logits of shape ``(B, C)``; it is used in evaluation mode.
        :param weight: ``a``, between 0 and 1.
        :param temperature: ``T`` > 0.
        :returns: a new loader over the same data.
        """
        if not 0.0 <= weight <= 1.0:
            raise DataError(f"the teacher's weight is {weight}: give a number between 0 and 1")
        if not temperature > 0:
            raise DataError(f"the teacher's temperature is {temperature}: give a positive number")
        if self.y.dim() != 1 or self.y.is_floating_point():
            raise DataError(
                f"soften needs labels of shape (N,), and y has shape {tuple(self.y.shape)} and type {self.y.dtype}"
            )
        softened = TensorLoader(
            self.x,
            self.y,
            self.batch_size,
            shuffle=self.shuffle,
            shift=self.shift,
            drop_last=self.drop_last,
        )
        modes = {module: module.training for module in teacher.modules()}
        teacher.eval()
        try:
            with torch.no_grad():
                softened._targets = torch.stack(
                    [self._opinion(teacher, d, weight, temperature) for d in range((2 * self.shift + 1) ** 2)]
                )
        finally:
            for module, training in modes.items():
                module.training = training
        return softened

    def _opinion(self, teacher: nn.Module, shift_id: int, weight: float, temperature: float) -> Tensor:
        dy, dx = list(product(range(2 * self.shift + 1), repeat=2))[shift_id]
        device = next((p.device for p in teacher.parameters()), self.x.device)
        parts = []
        for rows in torch.arange(self.x.shape[0], device=self.x.device).split(512):
            x = self.x[rows]
            if self.shift:
                h, w = x.shape[-2:]
                x = F.pad(x, (self.shift,) * 4)[..., dy : dy + h, dx : dx + w]
            soft = torch.softmax(teacher(x.to(device)) / temperature, dim=-1).to(self.y.device)
            hard = F.one_hot(self.y[rows].long(), soft.shape[-1]).to(soft)
            parts.append((1.0 - weight) * hard + weight * soft)
        return torch.cat(parts)

    def _shifts(self) -> Tensor:
        """Each image at each shift, shape ``(N, 2·shift + 1, 2·shift + 1, C, H, W)``: a view of the padded images.

        They are padded once, and anew when ``x`` has been written on or replaced.
        """
        known, written = self._windows, -1 if self.x.is_inference() else self.x._version
        if known is None or known[1] is not self.x or known[2] != written:
            h, w = self.x.shape[-2:]
            padded = F.pad(self.x, (self.shift,) * 4)
            known = (padded.unfold(2, h, 1).unfold(3, w, 1).permute(0, 2, 3, 1, 4, 5), self.x, written)
            self._windows = known
        return known[0]

    def _shifted(self, windows: Tensor, rows: slice | Tensor, shift_id: Tensor) -> tuple[Tensor, Tensor]:
        side = 2 * self.shift + 1
        dy, dx = shift_id // side, shift_id % side
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=shift_id.device)
        y = self.y[rows] if self._targets is None else self._targets[shift_id, rows]
        return windows[rows, dy, dx], y
