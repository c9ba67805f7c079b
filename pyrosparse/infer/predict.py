"""Predictions with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.func import functional_call

from pyrosparse.errors import ConfigError
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
    :param x: a batch of inputs.
    :param draws: passes with weights of their own.
    :param local: draw pre-activations instead of weights: each example then sees noise of its own.
    """
    if draws < 1:
        raise ConfigError(f"predict: draws is {draws}; give at least 1")
    modes = {module: module.training for module in model.modules()}
    model.eval()
    source = local_reparam(guide) if local else guide
    total = square = entropies = torch.zeros(())
    try:
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


def _entropy(model: SparseModel, mean: Tensor) -> Tensor:
    """Entropy of a predictive distribution in nats, per example."""
    surprise = torch.special.entr(mean)
    if isinstance(model.likelihood, MultiLabel):
        surprise = surprise + torch.special.entr(1.0 - mean)
    return surprise.sum(-1)
