"""Looking at the data before training: what does not fit is said before any work."""

from __future__ import annotations

from collections.abc import Sized

import torch
from torch import Tensor, nn

from pyrosparse.data.loader import TensorLoader
from pyrosparse.errors import DataError, FitError, NetworkError
from pyrosparse.infer.checkpoint import random_state, restore_random_state
from pyrosparse.infer.evaluate import Batches
from pyrosparse.likelihoods import Likelihood

__all__ = ["NOTHING", "check_data", "check_validation"]

NOTHING = "the loader yields no batch: give it data, and one that can be gone through more than once"


def check_data(
    network: nn.Module, likelihood: Likelihood, loader: Batches, *, device: torch.device, batches: int | None = None
) -> torch.Size:
    """Find data that do not fit a network, without disturbing the order of the batches.

    A :class:`~pyrosparse.data.TensorLoader` is looked through as a whole, of any other loader the first
    batch. The network is left in evaluation mode.

    :param device: where the network is.
    :param batches: length of the loader, to compare its examples with ``likelihood.num_data``; None does not.
    :returns: shape of one example.
    :raises FitError: if there is no batch.
    :raises DataError: for NaN, shapes and labels that do not fit, and a ``num_data`` that is too small.
    :raises NetworkError: if the network gives NaN.
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
    network.eval()
    try:
        with torch.no_grad():
            output = network(x)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the network cannot take inputs of shape {tuple(x.shape)}: {error}") from error
    likelihood.check(output, y)
    if not bool(torch.isfinite(output).all()):
        raise NetworkError("the network gives NaN or infinite numbers for sound inputs: its weights are not usable")
    if targets.dtype == y.dtype:  # and not labels that a teacher has softened
        likelihood.check(output[:1].expand(len(targets), *output.shape[1:]), targets)
    told = likelihood.num_data
    total = None if batches is None else _examples(loader, most=batches * x.shape[0])
    if total is not None and total > told:
        raise DataError(
            f"the loader has {total} examples and the likelihood was told num_data={told}: give the size of the "
            "training set, or the KL counts for too much"
        )
    return x.shape[1:]


def check_validation(network: nn.Module, likelihood: Likelihood, loader: Batches, *, device: torch.device) -> None:
    """As :func:`check_data`, for data that are looked at after the first epoch only."""
    try:
        check_data(network, likelihood, loader, device=device)
    except (DataError, FitError) as error:
        raise type(error)(f"val_loader: {error}") from error


def _examples(loader: Batches, most: int) -> int | None:
    """Count the examples of one pass; None when that cannot be known."""
    if isinstance(loader, TensorLoader):
        return loader.num_data
    dataset = getattr(loader, "dataset", None)
    # a sampler may take a part of the data set
    return min(len(dataset), most) if isinstance(dataset, Sized) else None
