"""How a network's output explains the data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import pyro
import pyro.distributions as pdist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.errors import ConfigError, DataError

__all__ = ["Categorical", "Gaussian", "Likelihood", "MultiLabel"]


def _is_finite(value: object) -> bool:
    try:
        return not isinstance(value, str) and math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False


class Likelihood(nn.Module, ABC):
    """Observation model of a batch; it scales the batch to the whole training set.

    :param num_data: size of the training set, so that likelihood and KL have their true proportion.
    :raises ConfigError: unless ``num_data`` is a whole number, 1 or more.
    """

    metric: str = "error"

    def __init__(self, num_data: int) -> None:
        super().__init__()
        if not _is_finite(num_data) or int(num_data) != num_data or num_data < 1:
            raise ConfigError(f"num_data is {num_data}: give the number of training examples")
        self.num_data = int(num_data)

    def observe(self, output: Tensor, y: Tensor | None) -> Tensor:
        """Run the observed site ``obs`` inside the plate ``data`` and return its value.

        :raises DataError: for more targets than ``num_data``; without targets a batch may have any size.
        """
        size = output.shape[0]
        if y is not None and size > self.num_data:
            raise DataError(
                f"a batch has {size} examples and the likelihood was told num_data={self.num_data}: give the size of "
                "the training set"
            )
        # which examples these are is not known, and nothing depends on it
        with pyro.plate("data", max(self.num_data, size), subsample=torch.arange(size, device=output.device)):
            return pyro.sample("obs", self.distribution(output, y), obs=y)

    @abstractmethod
    def distribution(self, output: Tensor, y: Tensor | None = None) -> pdist.TorchDistribution:
        """Distribution of one batch of targets given the network's output; batch shape ``(B,)``."""

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """Expected target for an output: probabilities for labels, a prediction for numbers."""

    @abstractmethod
    def error(self, mean: Tensor, y: Tensor) -> Tensor:
        """Error of each example given :meth:`mean`, shape ``(B,)``; its average is the metric."""

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """Log-likelihood of each example in nats, shape ``(B,)``."""
        # NaN is for the caller to see in the loss, and not for torch to raise from deep inside
        with pyro.validation_enabled(False):
            return self.distribution(output, y).log_prob(y)

    def check(self, output: Tensor, y: Tensor) -> None:
        """Refuse targets that do not fit the output.

        :raises DataError: saying which shapes or labels do not fit, or that numbers are complex where they must be
            real.
        """
        if output.shape[0] != y.shape[0]:
            raise DataError(f"the network gives {output.shape[0]} outputs for {y.shape[0]} targets")


def _refuse_complex(likelihood: Likelihood, output: Tensor, y: Tensor) -> None:
    """Refuse complex outputs and targets, of which torch would make complex densities."""
    name = type(likelihood).__name__
    if output.is_complex():
        raise DataError(
            f"{name} needs real outputs, and the network gives {output.dtype}: end it with RealPart() or Modulus(), or "
            "with ToReal() for both parts"
        )
    if y.is_complex():
        raise DataError(f"{name}: the targets are {y.dtype}: give their parts as ToReal() does at the network's end")


class _SoftCategorical(pdist.OneHotCategorical):
    """Cross-entropy with soft labels; torch's own ``log_prob`` takes only their largest entry."""

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits).sum(-1)


class Categorical(Likelihood):
    """One label an example: logits ``(B, C)``; labels ``(B,)``, or soft labels ``(B, C)`` that sum to 1.

    For soft labels ``t`` the log-likelihood is ``Σ_c t_c log softmax(output)_c``.
    The metric is the fraction of examples whose most probable class is not the label.
    """

    def distribution(self, output: Tensor, y: Tensor | None = None) -> pdist.TorchDistribution:  # noqa: D102
        if y is not None and y.is_floating_point():
            return _SoftCategorical(logits=output, validate_args=False)
        return pdist.Categorical(logits=output)

    def mean(self, output: Tensor) -> Tensor:  # noqa: D102
        return torch.softmax(output, -1)

    def error(self, mean: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        label = y.argmax(-1) if y.is_floating_point() else y
        return (mean.argmax(-1) != label).float()

    def check(self, output: Tensor, y: Tensor) -> None:  # noqa: D102
        super().check(output, y)
        _refuse_complex(self, output, y)
        if output.dim() != 2:
            raise DataError(
                f"Categorical needs logits of shape (batch, classes); the network gives {tuple(output.shape)}"
            )
        if y.is_floating_point():
            if y.shape != output.shape:
                raise DataError(f"soft labels have shape {tuple(y.shape)}; the network gives {tuple(output.shape)}")
            if bool((y < 0).any()) or not bool(((y.sum(-1) - 1).abs() < 1e-3).all()):
                raise DataError("soft labels must be probabilities: not negative, and with sum 1 for each example")
            return
        if y.dim() != 1:
            raise DataError(f"labels have shape {tuple(y.shape)}; give one label an example, shape (batch,)")
        classes = output.shape[-1]
        if y.numel() and (int(y.min()) < 0 or int(y.max()) >= classes):
            raise DataError(
                f"labels lie between {int(y.min())} and {int(y.max())}, and the network has {classes} outputs: "
                f"labels must lie between 0 and {classes - 1}"
            )


class Gaussian(Likelihood):
    """Numbers with Gaussian noise: output and target of shape ``(B, …)``; one noise scale, learned or fixed.

    :param scale: standard deviation of the noise; the start when it is learned.
    :param learn_scale: train the scale (as ``log_scale``).
    :raises ConfigError: unless ``scale`` is positive and finite.

    The metric is the mean squared error of an example.
    """

    metric = "mean squared error"

    def __init__(self, num_data: int, *, scale: float = 1.0, learn_scale: bool = False) -> None:
        super().__init__(num_data)
        if not (_is_finite(scale) and scale > 0):
            raise ConfigError(f"Gaussian: scale is {scale}; give a positive standard deviation")
        log_scale = torch.tensor(float(scale)).log()
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def distribution(self, output: Tensor, y: Tensor | None = None) -> pdist.TorchDistribution:  # noqa: D102
        normal = pdist.Normal(output, self.log_scale.exp().expand(output.shape))
        return normal.to_event(output.dim() - 1)

    def mean(self, output: Tensor) -> Tensor:  # noqa: D102
        return output

    def error(self, mean: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return (mean - y).square().flatten(1).mean(1) if mean.dim() > 1 else (mean - y).square()

    def check(self, output: Tensor, y: Tensor) -> None:  # noqa: D102
        super().check(output, y)
        _refuse_complex(self, output, y)
        if output.shape != y.shape:
            raise DataError(f"Gaussian: targets have shape {tuple(y.shape)}, the network gives {tuple(output.shape)}")


class MultiLabel(Likelihood):
    """Several yes/no labels an example: logits and 0/1 targets of shape ``(B, C)``, independent Bernoulli.

    The metric is the fraction of labels that are wrong at probability one half.
    """

    metric = "label error"

    def distribution(self, output: Tensor, y: Tensor | None = None) -> pdist.TorchDistribution:  # noqa: D102
        # soft targets lie between 0 and 1: outside of the support, but the formula holds
        return pdist.Bernoulli(logits=output, validate_args=False).to_event(1)

    def mean(self, output: Tensor) -> Tensor:  # noqa: D102
        return torch.sigmoid(output)

    def error(self, mean: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return ((mean > 0.5) != (y > 0.5)).float().mean(-1)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return -F.binary_cross_entropy_with_logits(output, y, reduction="none").sum(-1)

    def check(self, output: Tensor, y: Tensor) -> None:  # noqa: D102
        super().check(output, y)
        _refuse_complex(self, output, y)
        if output.shape != y.shape:
            raise DataError(f"MultiLabel: targets have shape {tuple(y.shape)}, the network gives {tuple(output.shape)}")
        if not y.is_floating_point():
            raise DataError(f"MultiLabel: targets are {y.dtype}: give floating-point numbers (y.float())")
        if y.numel() and (float(y.min()) < 0 or float(y.max()) > 1):
            raise DataError("MultiLabel: targets must lie between 0 and 1")
