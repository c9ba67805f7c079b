"""How good a network is on data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyrosparse.errors import DataError
from pyrosparse.likelihoods import Categorical, Likelihood

__all__ = ["Metrics", "evaluate", "evaluate_function", "written"]

Batches = Iterable[tuple[Tensor, Tensor]]
# metrics that are fractions of what is wrong: only these can be said in percent
_RATES = {"error", "label error"}


def written(error: float, metric: str) -> str:
    """Write an error for people: a fraction in percent, anything else as it is."""
    return f"{100 * error:.2f} %" if metric in _RATES else f"{error:.4g}"


@dataclass(frozen=True)
class Metrics:
    """Averages over a data set.

    :param error: mean of the likelihood's error: for labels the fraction of wrong ones, between 0 and 1.
    :param log_likelihood: mean log-likelihood of an example in nats.
    :param count: number of examples.
    :param metric: what the error is, in the words of the likelihood.
    """

    error: float
    log_likelihood: float
    count: int
    metric: str = "error"

    @property
    def accuracy(self) -> float:
        """1 − error: the fraction of right labels.

        :raises DataError: where the error is no fraction of wrong labels, such as a mean squared error.
        """
        if self.metric != "error":
            raise DataError(f"the {self.metric} has no accuracy: look at Metrics.error and Metrics.log_likelihood")
        return 1.0 - self.error


def evaluate(network: nn.Module, loader: Batches, *, likelihood: Likelihood | None = None) -> Metrics:
    """Run a network in evaluation mode over a loader; its mode is given back afterwards.

    :param network: gives outputs that the likelihood understands.
    :param loader: yields ``(x, y)``.
    :param likelihood: labels with logits when None.
    :raises DataError: if there is no example, shapes do not fit, or the likelihood is NaN.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        return evaluate_function(network, loader, likelihood or Categorical(num_data=1), device)
    finally:
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def evaluate_function(
    function: Callable[[Tensor], Tensor], loader: Batches, likelihood: Likelihood, device: torch.device
) -> Metrics:
    """As :func:`evaluate`, for any function from inputs to outputs on a device.

    :raises DataError: if there is no example, shapes do not fit, or the likelihood is NaN.
    """
    error = torch.zeros((), device=device)
    log_likelihood = torch.zeros((), device=device)
    count = 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)  # noqa: PLW2901
        output = function(x)
        if count == 0:
            likelihood.check(output, y)  # shapes that broadcast would give wrong numbers without a word
        error += likelihood.error(likelihood.mean(output), y).sum()
        log_likelihood += likelihood.log_prob(output, y).sum()
        count += x.shape[0]
    if count == 0:
        raise DataError("the loader yields no example: there is nothing to evaluate on")
    if math.isnan(log_likelihood):  # the class of NaN would be 0, and the error a sound-looking number
        raise DataError("the network gives NaN for these data: look for NaN in the data, and in the network's weights")
    return Metrics(float(error) / count, float(log_likelihood) / count, count, likelihood.metric)
