"""Soft labels from a teacher network."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.data.loader import TensorLoader
from pyrosparse.errors import DataError
from pyrosparse.infer.check import check_batch
from pyrosparse.infer.evaluate import Batches
from pyrosparse.likelihoods import Categorical

__all__ = ["TaughtLoader", "softened"]


def softened(loader: Batches, teacher: nn.Module, weight: float, temperature: float) -> Batches:
    """Mix a loader's labels with a teacher's opinion, ``(1 − a)·onehot(y) + a·softmax(teacher(x)/T)``.

    A :class:`~pyrosparse.data.TensorLoader` asks the teacher once for each image and shift; any other loader
    asks it for every batch.

    :param weight: ``a``, between 0 and 1 (Hinton, Vinyals and Dean, 2015).
    :param temperature: ``T``.
    """
    if isinstance(loader, TensorLoader):
        return loader.soften(teacher, weight=weight, temperature=temperature)
    return TaughtLoader(loader, teacher, weight=weight, temperature=temperature)


class TaughtLoader:
    """A loader whose labels are softened batch by batch; those of the first pass are checked."""

    def __init__(self, loader: Batches, teacher: nn.Module, *, weight: float, temperature: float) -> None:
        self.loader = loader
        self.teacher = deepcopy(teacher).eval()
        self.weight = weight
        self.temperature = temperature
        self._checked = False

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        device = next(self.teacher.parameters()).device
        labels = Categorical(num_data=1)
        for batch, (x, y) in enumerate(self.loader, 1):
            if y.is_floating_point():
                raise DataError(f"a teacher needs labels of shape (B,), and the loader gives {y.dtype}")
            if not self._checked:
                # on a GPU a label without a class would end the whole process
                check_batch(labels, x, y, batch, network=self.teacher)
            x, y = x.to(device), y.to(device)  # noqa: PLW2901
            with torch.no_grad():
                soft = torch.softmax(self.teacher(x) / self.temperature, -1)
            yield x, (1.0 - self.weight) * F.one_hot(y.long(), soft.shape[-1]).to(soft) + self.weight * soft
        self._checked = True
