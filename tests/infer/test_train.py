"""Ordinary training of the network that a posterior starts from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyrosparse import train
from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError, FitError
from pyrosparse.infer.schedules import linear_decay
from pyrosparse.likelihoods import Gaussian
from pyrosparse.models import mlp
from tests.infer.cases import CLASSES, FEATURES, labelled


def network() -> nn.Module:
    torch.manual_seed(3)
    return mlp((FEATURES, 16, CLASSES))


def loader(batch_size: int = 20) -> TensorLoader:
    return TensorLoader(*labelled(), batch_size)


def test_trains_a_copy() -> None:
    start = network()
    before = {k: v.clone() for k, v in start.state_dict().items()}
    trained = train(start, loader(), epochs=30, lr=0.02, progress=False)
    assert all(torch.equal(before[k], v) for k, v in start.state_dict().items())
    assert all(p.grad is None for p in start.parameters()) and start.training
    assert not trained.training
    x, y = labelled()
    assert float((trained(x).argmax(1) == y).float().mean()) > 0.95


def test_is_adam_on_the_mean_log_likelihood() -> None:
    """Step by step what torch does."""
    x, y = labelled()
    one = train(network(), TensorLoader(x, y, 60, shuffle=False), epochs=5, lr=0.01, progress=False)
    other = network()
    optimizer = torch.optim.Adam(other.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(other(x), y).backward()
        optimizer.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_weight_decay_is_a_quadratic_penalty() -> None:
    x, y = labelled()
    data = TensorLoader(x, y, 60, shuffle=False)
    one = train(network(), data, epochs=3, lr=0.01, weight_decay=0.1, progress=False)
    other = network()
    optimizer = torch.optim.Adam(other.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        penalty = sum(p.square().sum() for p in other.parameters())
        (nn.functional.cross_entropy(other(x), y) + 0.05 * penalty).backward()
        optimizer.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_learning_rate_schedule() -> None:
    """A rate that has fallen to zero moves nothing: after the first of two steps 1 − 1/2, with hold 0."""
    x, y = labelled()
    data = TensorLoader(x, y, 60, shuffle=False)
    start = network()
    one = train(start, data, epochs=1, lr=0.01, lr_schedule=linear_decay(hold=0.0), progress=False)
    two = train(start, data, epochs=2, lr=0.01, lr_schedule=linear_decay(hold=0.0), progress=False)

    def moved(a: nn.Module, b: nn.Module) -> Tensor:
        return torch.cat(
            [(p - q).detach().abs().flatten() for p, q in zip(a.parameters(), b.parameters(), strict=True)]
        )

    assert float(moved(start, one).median()) == pytest.approx(0.01, rel=0.01)
    assert float(moved(one, two).median()) == pytest.approx(0.005, rel=0.1)


def test_no_epochs_give_a_copy() -> None:
    start = network()
    same = train(start, loader(), epochs=0, progress=False)
    assert same is not start
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), same.parameters(), strict=True))


def test_other_likelihoods_and_their_own_parameters() -> None:
    x, _ = labelled()
    y = x @ torch.ones(FEATURES, 1)
    likelihood = Gaussian(num_data=60, learn_scale=True)
    trained = train(
        nn.Linear(FEATURES, 1), TensorLoader(x, y, 20), epochs=60, lr=0.05, likelihood=likelihood, progress=False
    )
    torch.testing.assert_close(trained.weight, torch.ones(1, FEATURES), atol=0.1, rtol=0)
    assert float(likelihood.log_scale.detach()) == 0.0  # what was handed in is left as it was


def test_soft_labels_and_validation() -> None:
    x, y = labelled()
    soft = 0.9 * nn.functional.one_hot(y, CLASSES).float() + 0.1 / CLASSES
    trained = train(
        network(), TensorLoader(x, soft, 20), epochs=30, lr=0.02, val_loader=TensorLoader(x, y), progress=False
    )
    assert float((trained(x).argmax(1) == y).float().mean()) > 0.95


def test_bad_numbers_stop_it() -> None:
    x, y = labelled()
    batches = [(x[:20], y[:20]), (x[20:40] * torch.nan, y[20:40])]
    with pytest.raises(FitError, match="train: the loss is nan at step 2"):
        train(network(), batches, epochs=2, progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, y: TensorLoader(x * torch.nan, y), "inputs have NaN"),
        (lambda x, y: TensorLoader(x, y + 1), "labels must lie between 0 and 2"),
        (lambda x, y: TensorLoader(x[:, 1:], y), "cannot take inputs"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(network(), data(*labelled()), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [(iter([]), "no length"), ([], "no batch"), (type("Empty", (list,), {"__len__": lambda s: 2})(), "no batch")],
)
def test_loaders_without_batches_are_refused(data: object, message: str) -> None:
    with pytest.raises(FitError, match=message):
        train(network(), data, epochs=1, progress=False)
