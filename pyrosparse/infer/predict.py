"""Predictions with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.func import functional_call

from pyrosparse.errors import ConfigError, DataError
from pyrosparse.infer.pair import tied_sites
from pyrosparse.likelihoods import Categorical, MultiLabel
from pyrosparse.model import SparseModel
from pyrosparse.poutine import local_reparam

__all__ = ["Prediction", "predict"]


@dataclass(frozen=True)
class Prediction:
    """Posterior predictive of a batch.

    :param mean: expected target, averaged over the posterior: probabilities ``(B, C)`` or predictions.
    :param std: standard deviation of the expected target over the posterior, shape of ``mean``.
    :param entropy: entropy of the averaged prediction in nats, ``(B,)``: total uncertainty; None for numbers.
    :param mutual_information: entropy minus the average entropy of single draws, nats, ``(B,)``: what the
        posterior does not know about the weights (Houlsby et al., 2011); None for numbers.
    """

    mean: Tensor
    std: Tensor
    entropy: Tensor | None
    mutual_information: Tensor | None


@torch.no_grad()
def predict(
    model: SparseModel, guide: Callable[..., Any], x: Tensor, *, draws: int = 20, local: bool = False
) -> Prediction:
    """Average a model's prediction over draws from the posterior.

    :param model: the model.
    :param guide: its guide.
    :param x: a batch of inputs, a tensor ``(B, ...)``; it is moved to the model's device.
    :param draws: passes with weights of their own.
    :param local: draw pre-activations instead of weights: each example then sees noise of its own. A weight
        that stands at several places in the network is drawn all the same.
    :returns: on the model's device.
    :raises ConfigError: unless ``draws`` is positive, and for a guide's class in place of a guide.
    :raises DataError: for anything but a tensor, for NaN, and for shapes that the network cannot take.
    """
    if draws < 1:
        raise ConfigError(f"predict: draws is {draws}; give at least 1")
    if isinstance(guide, type):
        raise ConfigError(
            f"predict: guide is the class {guide.__name__}: give a guide, such as {guide.__name__}(model)"
        )
    modes = {module: module.training for module in model.modules()}
    model.eval()
    source = local_reparam(guide, exclude=tied_sites(model, guide)) if local else guide
    total = square = entropies = torch.zeros(())
    try:
        x = _checked(model, x)
        for _ in range(draws):
            drawn = poutine.trace(source).get_trace(x, None)
            with poutine.replay(trace=drawn):
                weights = model.weights()
            mean = model.likelihood.mean(functional_call(model.network, weights, (x,)))
            total = total + mean
            square = square + mean.square()
            entropies = entropies + _entropy(model, mean)
    finally:
        for module, training in modes.items():
            module.training = training
    mean = total / draws
    std = (square / draws - mean.square()).clamp_min(0.0).sqrt()
    if not isinstance(model.likelihood, Categorical | MultiLabel):
        return Prediction(mean, std, None, None)
    entropy = _entropy(model, mean)
    return Prediction(mean, std, entropy, (entropy - entropies / draws).clamp_min(0.0))


def _checked(model: SparseModel, x: Tensor) -> Tensor:
    """Move inputs to the model's device; refuse those that its network cannot take."""
    if not isinstance(x, Tensor):
        raise DataError(f"predict: x is a {type(x).__name__}: give a tensor, a batch of inputs")
    if x.dim() == 0 or x.shape[0] == 0:
        raise DataError(f"predict: x has shape {tuple(x.shape)}: give a batch, with the examples along the first axis")
    x = x.to(next(model.network.parameters()).device)
    if not bool(torch.isfinite(x).all()):
        raise DataError("predict: x has NaN or infinite values: clean the data first")
    try:
        model.network(x[:1])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        known = "" if model.input_shape is None else f", it was fitted to examples of shape {tuple(model.input_shape)}"
        raise DataError(
            f"predict: the network cannot take examples of shape {tuple(x.shape[1:])} ({x.dtype}){known}: {error}"
        ) from error
    return x


def _entropy(model: SparseModel, mean: Tensor) -> Tensor:
    """Entropy of a predictive distribution in nats, per example."""
    surprise = torch.special.entr(mean)
    if isinstance(model.likelihood, MultiLabel):
        surprise = surprise + torch.special.entr(1.0 - mean)
    return surprise.sum(-1)
