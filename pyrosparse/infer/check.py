"""Looking at the data before a fit: what does not fit is said before any work."""

from __future__ import annotations

from collections.abc import Sized

import torch
from torch import Tensor

from pyrosparse.data.loader import TensorLoader
from pyrosparse.errors import DataError, FitError
from pyrosparse.infer.checkpoint import random_state, restore_random_state
from pyrosparse.infer.evaluate import Batches
from pyrosparse.model import SparseModel

__all__ = ["NOTHING", "check_data"]

NOTHING = "the loader yields no batch: give it data, and one that can be gone through more than once"


def check_data(model: SparseModel, loader: Batches, *, batches: int, device: torch.device) -> None:
    """Find data that do not fit a model, without disturbing the order of the batches.

    A :class:`~pyrosparse.data.TensorLoader` is looked through as a whole, of any other loader the first
    batch. The shape of an example is left in ``model.input_shape``.

    :param batches: length of the loader.
    :param device: where the model is.
    :raises FitError: if there is no batch.
    :raises DataError: for NaN, shapes and labels that do not fit, and a ``num_data`` that is too small.
    """
    before = random_state(loader)
    try:
        x, y = next(iter(loader))
    except StopIteration:
        raise FitError(NOTHING) from None
    except (TypeError, ValueError) as error:
        raise DataError(f"the loader must yield pairs (x, y) of tensors: {error}") from error
    finally:
        restore_random_state(before, loader)
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise DataError(f"the loader must yield pairs (x, y) of tensors, not of {type(x).__name__}, {type(y).__name__}")
    x, y = x.to(device), y.to(device)
    inputs, targets = (loader.x, loader.y) if isinstance(loader, TensorLoader) else (x, y)
    for name, values in (("inputs", inputs), ("targets", targets)):
        if not bool(torch.isfinite(values).all()):
            raise DataError(f"the {name} have NaN or infinite values: clean the data first")
    model.network.eval()
    try:
        with torch.no_grad():
            output = model.network(x)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the network cannot take inputs of shape {tuple(x.shape)}: {error}") from error
    model.likelihood.check(output, y)
    if targets.dtype == y.dtype:  # and not labels that a teacher has softened
        model.likelihood.check(output[:1].expand(len(targets), *output.shape[1:]), targets)
    model.input_shape = x.shape[1:]
    total, told = _examples(loader, most=batches * x.shape[0]), model.likelihood.num_data
    if total is not None and total > told:
        raise DataError(
            f"the loader has {total} examples and the likelihood was told num_data={told}: give the size of the "
            "training set, or the KL counts for too much"
        )


def _examples(loader: Batches, most: int) -> int | None:
    """Count the examples of one pass; None when that cannot be known."""
    if isinstance(loader, TensorLoader):
        return loader.num_data
    dataset = getattr(loader, "dataset", None)
    # a sampler may take a part of the data set
    return min(len(dataset), most) if isinstance(dataset, Sized) else None
