"""Looking at the data before training: what does not fit is said before any work."""

from __future__ import annotations

import warnings
from collections.abc import Sized

import torch
from torch import Tensor, nn

from pyrosparse.data.loader import TensorLoader
from pyrosparse.errors import DataError, FitError, NetworkError, PyrosparseWarning
from pyrosparse.infer.checkpoint import random_state, restore_random_state
from pyrosparse.infer.evaluate import Batches
from pyrosparse.likelihoods import Likelihood

__all__ = ["NOTHING", "check_batch", "check_data", "check_validation"]

NOTHING = "the loader yields no batch: give it data, and one that can be gone through more than once"
MOST_MISSING = 0.01  # share of num_data that a loader may lack without a word


def check_data(
    network: nn.Module, likelihood: Likelihood, loader: Batches, *, device: torch.device, batches: int | None = None
) -> Tensor:
    """Find data that do not fit a network, without disturbing the order of the batches.

    A :class:`~pyrosparse.data.TensorLoader` is looked through as a whole, of any other loader the first
    batch. The network is left in evaluation mode.

    :param device: where the network is.
    :param batches: length of the loader, to compare its examples with ``likelihood.num_data``; None does not.
    :returns: one example as a batch of one, on the device.
    :raises FitError: if there is no batch.
    :raises DataError: for NaN, shapes and labels that do not fit, and a ``num_data`` that is too small; one that
        is too large is warned about.
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
    _check_finite(inputs, targets)
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
    if batches is not None and isinstance(loader, TensorLoader):
        _warn_of_missing(loader.x.shape[0], told)
    return x[:1]


def check_batch(likelihood: Likelihood, x: Tensor, y: Tensor, batch: int, *, network: nn.Module | None = None) -> None:
    """Refuse one batch of a loader that :func:`check_data` has not looked through, naming its number.

    For every batch of a first pass: it waits for the device.

    :param batch: number of the batch, from 1, for the message.
    :param network: gives the outputs that targets have to fit (the number of classes). It is asked about one
        example in evaluation mode, and left as it was. Without it only numbers and lengths are looked at.
    :raises DataError: for NaN, shapes and labels that do not fit.
    """
    try:
        if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
            raise DataError(f"give pairs (x, y) of tensors, not of {type(x).__name__}, {type(y).__name__}")
        _check_finite(x, y)
        if x.shape[:1] != y.shape[:1] or len(x) == 0:
            raise DataError(f"inputs have shape {tuple(x.shape)}, targets {tuple(y.shape)}: give one target an example")
        if network is not None:
            output = _one_output(network, x)
            likelihood.check(output.expand(len(y), *output.shape[1:]), y.to(output.device))
    except DataError as error:
        raise DataError(f"batch {batch} of the loader: {error}") from error


def check_validation(network: nn.Module, likelihood: Likelihood, loader: Batches, *, device: torch.device) -> None:
    """As :func:`check_data`, for data that are looked at after the first epoch only."""
    try:
        check_data(network, likelihood, loader, device=device)
    except (DataError, FitError) as error:
        raise type(error)(f"val_loader: {error}") from error


@torch.no_grad()
def _one_output(network: nn.Module, x: Tensor) -> Tensor:
    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), x.device)
    try:
        output: Tensor = network.eval()(x[:1].to(device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the network cannot take inputs of shape {tuple(x.shape)}: {error}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    return output


def _check_finite(x: Tensor, y: Tensor) -> None:
    for name, values in (("inputs", x), ("targets", y)):
        if not bool(torch.isfinite(values).all()):
            raise DataError(f"the {name} have NaN or infinite values: clean the data first")


def _warn_of_missing(examples: int, told: int) -> None:
    """Say that the likelihood stands for more examples than there are; that may be meant, to temper it."""
    if examples < (1.0 - MOST_MISSING) * told:
        warnings.warn(
            f"the loader has {examples} examples and the likelihood was told num_data={told}: it counts for "
            f"{told}/{examples} of its weight against the KL; give num_data={examples} unless this is meant",
            PyrosparseWarning,
            stacklevel=3,
        )


def _examples(loader: Batches, most: int) -> int | None:
    """Count the examples of one pass; None when that cannot be known."""
    if isinstance(loader, TensorLoader):
        return loader.num_data
    dataset = getattr(loader, "dataset", None)
    # a sampler may take a part of the data set
    return min(len(dataset), most) if isinstance(dataset, Sized) else None
