"""Metrics against direct formulas and scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error
from torch import nn

from pyrosparse import evaluate
from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError
from pyrosparse.infer.evaluate import evaluate_function, written
from pyrosparse.likelihoods import Categorical, Gaussian, Likelihood, MultiLabel
from tests.infer.cases import CLASSES, FEATURES, labelled


def test_error_and_log_likelihood_are_scikit_learns() -> None:
    x, y = labelled()
    network = nn.Linear(FEATURES, CLASSES)
    metrics = evaluate(network, TensorLoader(x, y, 25))  # the last batch is smaller
    probabilities = torch.softmax(network(x), -1).detach().numpy()
    assert metrics.count == len(y)
    assert metrics.accuracy == pytest.approx(accuracy_score(y, probabilities.argmax(1)))
    assert metrics.error == pytest.approx(1 - metrics.accuracy)
    assert metrics.log_likelihood == pytest.approx(-log_loss(y, probabilities, labels=range(CLASSES)), rel=1e-5)


def test_numbers() -> None:
    x, _ = labelled()
    y = torch.randn(len(x), 2)
    network = nn.Linear(FEATURES, 2)
    metrics = evaluate(network, TensorLoader(x, y, 25), likelihood=Gaussian(num_data=1, scale=0.7))
    output = network(x).detach()
    assert metrics.error == pytest.approx(mean_squared_error(y, output), rel=1e-5)
    exact = torch.distributions.Normal(output, 0.7).log_prob(y).sum(1).mean()
    assert metrics.log_likelihood == pytest.approx(float(exact), rel=1e-5)
    with pytest.raises(DataError, match="mean squared error has no accuracy"):
        _ = metrics.accuracy


def test_errors_are_written_by_their_kind() -> None:
    assert written(0.0123, "error") == "1.23 %"
    assert written(0.5, "label error") == "50.00 %"
    assert written(12.3456, "mean squared error") == "12.35"


def test_soft_labels() -> None:
    x, y = labelled()
    network = nn.Linear(FEATURES, CLASSES)
    hard = evaluate(network, TensorLoader(x, y))
    soft = evaluate(network, TensorLoader(x, nn.functional.one_hot(y, CLASSES).float()))
    assert soft.error == hard.error
    assert soft.log_likelihood == pytest.approx(hard.log_likelihood, rel=1e-5)


def test_runs_in_evaluation_mode_and_gives_every_mode_back() -> None:
    x, y = labelled()
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, CLASSES)).train()
    network[1].eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    first, second = (evaluate(network, TensorLoader(x, y)) for _ in range(2))
    assert first == second
    assert [m.training for m in network.modules()] == [True, True, False, True]
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert network[2].weight.grad is None


def test_modes_come_back_after_an_error() -> None:
    network = nn.Linear(FEATURES, CLASSES).train()
    with pytest.raises(RuntimeError):
        evaluate(network, [(torch.zeros(2, 1), torch.zeros(2))])
    assert network.training


def test_shapes_that_would_broadcast_are_refused() -> None:
    x, _ = labelled()
    loader = TensorLoader(x, torch.randn(len(x)))
    with pytest.raises(DataError, match="Gaussian: targets have shape"):
        evaluate(nn.Linear(FEATURES, 1), loader, likelihood=Gaussian(num_data=1))


def test_nothing_to_evaluate_on() -> None:
    with pytest.raises(DataError, match="no example"):
        evaluate(nn.Linear(1, 1), [])


@pytest.mark.parametrize("likelihood", [Categorical(num_data=1), MultiLabel(num_data=1), Gaussian(num_data=1)])
def test_nan_is_no_class(likelihood: Likelihood) -> None:
    x, y = labelled()
    targets = y if isinstance(likelihood, Categorical) else nn.functional.one_hot(y, CLASSES).float()
    network = nn.Linear(FEATURES, CLASSES)
    evaluate(network, TensorLoader(x, targets), likelihood=likelihood)
    x[7, 1] = float("nan")
    with pytest.raises(DataError, match="NaN for these data"):
        evaluate(network, TensorLoader(x, targets), likelihood=likelihood)


def test_any_function() -> None:
    x, y = labelled()
    metrics = evaluate_function(
        lambda inputs: 10.0 * inputs[:, :CLASSES], TensorLoader(x, y), Categorical(num_data=1), torch.device("cpu")
    )
    assert metrics.error == 0.0
