"""Priors of whole weights: shapes, densities, learned precisions, and layers they refuse."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn

from pyrosparse import distributions as dist
from pyrosparse.errors import PriorError
from pyrosparse.priors import ARD, LogUniform, Prior

SHAPE = torch.Size([4, 3, 2])
PRIORS = {
    "log-uniform": LogUniform(),
    "sigmoid": LogUniform(kl="sigmoid"),
    "ARD": ARD(),
    "fixed": ARD(2.0),
    "learned": ARD(2.0, learn=True),
}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("shape", [SHAPE, torch.Size([3]), torch.Size([2, 2])])
def test_one_event_of_the_shape_of_the_weight(name: str, shape: torch.Size) -> None:
    p = PRIORS[name].distribution(shape)
    assert p.batch_shape == torch.Size() and p.event_shape == shape
    draw = p.sample()
    assert draw.shape == shape
    assert p.log_prob(draw).shape == torch.Size()


@pytest.mark.parametrize("name", PRIORS)
def test_the_site_has_the_name_and_the_distribution(name: str) -> None:
    trace = poutine.trace(PRIORS[name].sample).get_trace("fc1.weight", SHAPE)
    assert list(trace.nodes)[1:-1] == ["fc1.weight"]
    assert trace.nodes["fc1.weight"]["fn"].event_shape == SHAPE


@pytest.mark.parametrize("name", PRIORS)
def test_the_kl_is_registered(name: str) -> None:
    q = dist.DropoutNormal(torch.randn(SHAPE), torch.randn(SHAPE)).to_event(3)
    kl = torch.distributions.kl_divergence(q, PRIORS[name].distribution(SHAPE))
    assert kl.shape == torch.Size() and float(kl.detach()) > 0


def test_log_uniform_forms() -> None:
    log_alpha = torch.zeros(1)
    q = dist.DropoutNormal(torch.ones(1), log_alpha).to_event(1)
    # formulas.md: the reference values at log α = 0
    for form, value in (("exact", 0.4267), ("sigmoid", 0.4312)):
        p = LogUniform(kl=form).distribution(torch.Size([1]))
        assert float(torch.distributions.kl_divergence(q, p)) == pytest.approx(value, abs=1e-4)
    with pytest.raises(PriorError, match="kl='sigmod' is unknown; did you mean 'sigmoid'"):
        LogUniform(kl="sigmod")
    with pytest.raises(PriorError, match="known: exact, sigmoid"):
        LogUniform(kl=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("learn", [False, True])
def test_a_given_precision_is_a_gaussian(learn: bool) -> None:
    p = ARD(4.0, learn=learn).distribution(SHAPE)
    w = torch.randn(SHAPE)
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(w).sum()
    torch.testing.assert_close(p.log_prob(w), expected)


def test_a_learned_precision_has_the_gradient_of_the_density() -> None:
    """d/d log τ of ½ log τ − ½ τ w² is ½ (1 − τ w²)."""
    prior = ARD(2.0, learn=True)
    w = torch.randn(SHAPE)
    prior.distribution(SHAPE).log_prob(w).backward()
    assert isinstance(prior.log_precision, nn.Parameter) and prior.log_precision.grad is not None
    torch.testing.assert_close(prior.log_precision.grad, (0.5 * (1 - 2.0 * w.square())).sum())


def test_learning_starts_at_one_unless_told() -> None:
    one, four = ARD(learn=True).log_precision, ARD(4.0, learn=True).log_precision
    assert one is not None and four is not None
    assert float(one.detach()) == 0.0
    assert float(four.detach()) == pytest.approx(math.log(4.0))


def test_precisions_are_saved_and_moved() -> None:
    fixed = ARD(4.0)
    assert set(fixed.state_dict()) == {"log_precision"} and not list(fixed.parameters())
    assert fixed.double().distribution(SHAPE).sample().dtype == torch.float64
    assert ARD().state_dict() == {}


@pytest.mark.parametrize("precision", [0.0, -1.0, float("nan"), float("inf"), "a", "2.0", [1.0, 2.0]])
def test_a_precision_must_be_positive(precision: Any) -> None:
    with pytest.raises(PriorError, match="precision is"):
        ARD(precision)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_weights_that_are_not_real_are_refused(dtype: torch.dtype) -> None:
    layer = nn.Linear(2, 2)
    del layer.weight
    layer.weight = nn.Parameter(torch.zeros(2, 2, dtype=dtype), requires_grad=False)
    with pytest.raises(PriorError, match=r"LogUniform on layer 'fc1'.*exclude the layer"):
        LogUniform().check("fc1", layer)


def test_open_to_a_users_own() -> None:
    class Laplace(Prior):
        def distribution(self, shape: torch.Size) -> pyro.distributions.TorchDistribution:
            return pyro.distributions.Laplace(0.0, 1.0).expand(shape).to_event(len(shape))

    trace = poutine.trace(Laplace().sample).get_trace("w", SHAPE)
    assert trace.nodes["w"]["value"].shape == SHAPE
    Laplace().check("fc", nn.Linear(2, 2))
