"""A classification data set in memory: train, validation and test, checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrosparse.errors import DataError

__all__ = ["Dataset"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and labels of three splits; the constructor checks them.

    :param name: what the data are, for messages and reports.
    :param x_train: inputs, shape ``(N, ...)``, float32 or complex64; likewise ``x_val`` and ``x_test``.
    :param y_train: one label an example, 0 … ``num_classes`` − 1, shape ``(N,)``, int64; or several that hold together,
        1 or 0 for each class, shape ``(N, num_classes)``, float32; likewise ``y_val`` and ``y_test``.
    :param num_classes: number of classes.
    :raises DataError: for NaN or Inf (naming the split and the first place), labels out of range,
        shapes that differ between splits, and splits without examples.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        for split, x, y in self.splits():
            _check_split(self.name, split, x, y, self.num_classes)
            if x.shape[1:] != self.x_train.shape[1:] or x.dtype != self.x_train.dtype:
                raise DataError(
                    f"{self.name}: x_{split} has examples of shape {tuple(x.shape[1:])} ({x.dtype}), "
                    f"x_train of shape {self.input_shape} ({self.x_train.dtype}): make them alike"
                )
            if y.dim() != self.y_train.dim():
                raise DataError(
                    f"{self.name}: y_{split} has shape {tuple(y.shape)} and y_train {tuple(self.y_train.shape)}: give "
                    "one label an example in both, or several"
                )

    def splits(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Go through the splits: ``("train", x, y)``, ``("val", x, y)``, ``("test", x, y)``."""
        for split in SPLITS:
            yield split, getattr(self, f"x_{split}"), getattr(self, f"y_{split}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x_train.shape[1:])

    @property
    def several(self) -> bool:
        """Whether an example may have several labels."""
        return self.y_train.dim() == 2  # noqa: PLR2004 - examples and classes

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return self.x_train.shape[0]

    def __str__(self) -> str:
        counts = ", ".join(f"{x.shape[0]} {split}" for split, x, _ in self.splits())
        labels = "labels that may hold together" if self.several else "classes"
        return f"{self.name}: {counts}, examples of shape {self.input_shape}, {self.num_classes} {labels}"


def _check_split(name: str, split: str, x: Tensor, y: Tensor, num_classes: int) -> None:
    if x.shape[0] == 0:
        raise DataError(f"{name}: the {split} split has no examples")
    if y.shape not in {(x.shape[0],), (x.shape[0], num_classes)}:
        raise DataError(
            f"{name}: x_{split} has {x.shape[0]} examples and y_{split} has shape {tuple(y.shape)}: "
            f"give one label an example, shape ({x.shape[0]},), or 1 or 0 for each label, "
            f"shape ({x.shape[0]}, {num_classes})"
        )
    parts = torch.view_as_real(x) if x.is_complex() else x
    finite = torch.isfinite(parts)
    if not bool(finite.all()):
        first = (~finite).nonzero()[0].tolist()
        value = float(parts[tuple(first)])
        place = ", ".join(str(i) for i in first[: x.dim()])
        raise DataError(
            f"{name}: x_{split} has {int((~finite).sum())} values that are NaN or infinite, the first "
            f"({value}) at x_{split}[{place}]: clean the data"
        )
    if y.dim() == 2:  # noqa: PLR2004 - examples and classes
        bad = ~((y == 0) | (y == 1))
        if bool(bad.any()):
            example, label = bad.nonzero()[0].tolist()
            raise DataError(
                f"{name}: y_{split}[{example}, {label}] is {float(y[example, label]):g}, and labels that may "
                f"hold together must be 1 or 0 ({int(bad.sum())} are not)"
            )
        return
    bad = (y < 0) | (y >= num_classes)
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        raise DataError(
            f"{name}: y_{split}[{i}] is {int(y[i])}, and labels must lie in 0 … {num_classes - 1} "
            f"({int(bad.sum())} do not)"
        )
