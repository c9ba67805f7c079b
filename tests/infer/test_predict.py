"""Predictions with uncertainty: against a Gaussian known in closed form, and entropies against scipy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pyro.infer import Predictive
from scipy.stats import entropy as scipy_entropy
from torch import Tensor, nn

from pyrosparse import SparseModel, predict
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, DataError
from pyrosparse.guides import AutoSparse
from pyrosparse.likelihoods import Gaussian, MultiLabel
from pyrosparse.models import mlp
from pyrosparse.priors import LogUniform
from tests.infer.cases import CLASSES, EXAMPLES, FEATURES, labelled, pair


def linear_pair() -> tuple[SparseModel, AutoSparse]:
    model = SparseModel(nn.Linear(FEATURES, 1), LogUniform(), Gaussian(num_data=EXAMPLES))
    return model, AutoSparse(model, log_var=-1.0)


@pytest.mark.parametrize("local", [True, False], ids=["local", "weights"])
def test_moments_of_a_linear_model(local: bool) -> None:
    """y = w·x + b has the mean μ·x + b and the variance σ²·x²."""
    x, _ = labelled(examples=10)
    model, guide = linear_pair()
    draws = 800
    prediction = predict(model, guide, x, draws=draws, local=local)
    family = guide.families["weight"]
    mean = x @ family.mean().T + model.network.get_parameter("bias").detach()
    std = (x.square() @ family.std().square().T).sqrt()
    assert prediction.mean.shape == (10, 1) and prediction.entropy is None and prediction.mutual_information is None
    assert float(((prediction.mean - mean) / std).abs().max()) < 5 / draws**0.5
    assert float((prediction.std / std - 1).abs().max()) < 5 / (2 * draws) ** 0.5


def test_classes() -> None:
    x, _ = labelled()
    model, guide = pair(log_var=-1.0)
    prediction = predict(model, guide, x, draws=50)
    assert prediction.mean.shape == prediction.std.shape == (EXAMPLES, CLASSES)
    torch.testing.assert_close(prediction.mean.sum(1), torch.ones(EXAMPLES))
    assert prediction.entropy is not None and prediction.mutual_information is not None
    expected = torch.tensor(scipy_entropy(prediction.mean.numpy(), axis=1))
    torch.testing.assert_close(prediction.entropy, expected.float(), rtol=1e-4, atol=1e-5)
    assert bool((prediction.entropy <= math.log(CLASSES) + 1e-6).all())
    assert bool((prediction.mutual_information >= 0).all())
    assert bool((prediction.mutual_information <= prediction.entropy + 1e-6).all())
    assert float(prediction.mutual_information.max()) > 0.01


def test_one_draw_knows_nothing_of_the_spread() -> None:
    x, _ = labelled()
    prediction = predict(*pair(), x, draws=1)
    assert float(prediction.std.max()) < 1e-3  # the root of the rounding of x² − x²
    assert prediction.mutual_information is not None
    assert float(prediction.mutual_information.max()) < 1e-6


def test_a_certain_posterior_gives_the_network() -> None:
    x, _ = labelled()
    model, guide = pair(log_var=-40.0)
    prediction = predict(model, guide, x, draws=3)
    with torch.no_grad():
        torch.testing.assert_close(prediction.mean, torch.softmax(model.network(x), -1), rtol=1e-4, atol=1e-5)
    assert float(prediction.std.max()) < 1e-3


def test_several_labels() -> None:
    x, _ = labelled()
    model = SparseModel(mlp((FEATURES, CLASSES)), LogUniform(), MultiLabel(num_data=EXAMPLES))
    prediction = predict(model, AutoSparse(model, log_var=-1.0), x, draws=20)
    p = prediction.mean.double().numpy()
    assert prediction.entropy is not None
    expected = sum(scipy_entropy([p[:, c], 1 - p[:, c]], axis=0) for c in range(CLASSES))
    torch.testing.assert_close(prediction.entropy.double(), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_the_model_is_left_in_its_modes_and_without_gradients() -> None:
    x, _ = labelled()
    model, guide = pair(network=lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(FEATURES, CLASSES)))
    model.train()
    model.network.eval()
    before = [m.training for m in model.modules()]
    prediction = predict(model, guide, x, draws=2)
    assert [m.training for m in model.modules()] == before
    assert not prediction.mean.requires_grad


def test_no_draws_are_refused() -> None:
    with pytest.raises(ConfigError, match="draws is 0"):
        predict(*pair(), torch.zeros(1, FEATURES), draws=0)


class Twice(nn.Module):
    """One weight at two places, and the difference of their outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 1, bias=False)
        self.second = nn.Linear(FEATURES, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) - self.second(x)


@pytest.mark.parametrize("local", [True, False])
def test_a_tied_weight_is_one_weight(local: bool) -> None:
    """Its two places cancel in every draw; noise of their own would not."""
    model = SparseModel(Twice(), LogUniform(), Gaussian(num_data=EXAMPLES))
    assert model.tied == ["first.weight"]
    prediction = predict(model, AutoSparse(model, log_var=0.0), labelled()[0], draws=5, local=local)
    assert float(prediction.mean.abs().max()) < 1e-5 and float(prediction.std.max()) < 1e-5


BAD_INPUTS = {
    "NaN": (lambda x: x * torch.nan, "x has NaN"),
    "infinity": (lambda x: x / 0.0, "x has NaN or infinite"),
    "features": (lambda x: x[:, 1:], r"cannot take examples of shape \(4,\)"),
    "type": (lambda x: x.double(), "float64"),
    "no batch": (lambda x: torch.tensor(1.0), r"shape \(\): give a batch"),
    "empty": (lambda x: x[:0], r"shape \(0, 5\): give a batch"),
    "a list": (lambda x: x.tolist(), "x is a list: give a tensor"),
    "a loader": (lambda x: TensorLoader(x, x), "x is a TensorLoader"),
}


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_that_do_not_fit_are_refused(case: str, local: bool) -> None:
    make, message = BAD_INPUTS[case]
    x, y = labelled()
    model, guide = pair()
    model.train()
    with pytest.raises(DataError, match=message):
        predict(model, guide, make(x), draws=2, local=local)
    assert model.training
    model(x, y)
    with pytest.raises(DataError, match=r"fitted to examples of shape \(5,\)"):
        predict(model, guide, x[:, :3], draws=2)


def test_the_class_of_a_guide_is_no_guide() -> None:
    guide: Any = AutoSparse
    with pytest.raises(ConfigError, match="guide is the class AutoSparse"):
        predict(pair()[0], guide, torch.zeros(1, FEATURES))


def test_pyros_predictive_works() -> None:
    x, y = labelled()
    model, guide = pair()
    drawn = Predictive(model, guide=guide, num_samples=3)(x)
    assert drawn["obs"].shape == (3, EXAMPLES)
    assert drawn["fc1.weight"].shape == (3, 1, 12, FEATURES) or drawn["fc1.weight"].shape == (3, 12, FEATURES)
    assert bool((drawn["obs"] >= 0).all()) and bool((drawn["obs"] < CLASSES).all())


def test_pyros_predictive_works_on_the_prior() -> None:
    x, _ = labelled()
    model, _ = pair()
    drawn = Predictive(model, num_samples=2)(x)
    assert drawn["obs"].shape == (2, EXAMPLES)
