"""Likelihoods against torch's own losses and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor

from pyrosparse.errors import ConfigError, DataError
from pyrosparse.likelihoods import Categorical, Gaussian, Likelihood, MultiLabel

B, C, N = 7, 4, 70


def observed(likelihood: Likelihood, output: Tensor, y: Tensor | None) -> dict[str, object]:
    return poutine.trace(likelihood.observe).get_trace(output, y).nodes["obs"]


CASES = {
    "labels": (Categorical(N), torch.randn(B, C), torch.randint(C, (B,))),
    "soft labels": (Categorical(N), torch.randn(B, C), torch.softmax(torch.randn(B, C), -1)),
    "numbers": (Gaussian(N, scale=0.3), torch.randn(B, 2), torch.randn(B, 2)),
    "images": (Gaussian(N), torch.randn(B, 1, 3, 3), torch.randn(B, 1, 3, 3)),
    "single numbers": (Gaussian(N), torch.randn(B), torch.randn(B)),
    "several labels": (MultiLabel(N), torch.randn(B, C), torch.randint(2, (B, C)).float()),
    "several soft labels": (MultiLabel(N), torch.randn(B, C), torch.rand(B, C)),
}
ORACLES = {
    "labels": lambda o, y: -F.cross_entropy(o, y, reduction="none"),
    "soft labels": lambda o, y: -F.cross_entropy(o, y, reduction="none"),
    "numbers": lambda o, y: (-((o - y) ** 2) / (2 * 0.09) - math.log(0.3 * math.sqrt(2 * math.pi))).sum(1),
    "images": lambda o, y: -0.5 * ((o - y) ** 2).sum((1, 2, 3)) - 4.5 * math.log(2 * math.pi),
    "single numbers": lambda o, y: -0.5 * (o - y) ** 2 - 0.5 * math.log(2 * math.pi),
    "several labels": lambda o, y: -F.binary_cross_entropy_with_logits(o, y, reduction="none").sum(1),
    "several soft labels": lambda o, y: -F.binary_cross_entropy_with_logits(o, y, reduction="none").sum(1),
}


@pytest.mark.parametrize("case", CASES)
def test_log_likelihood(case: str) -> None:
    likelihood, output, y = CASES[case]
    output = output.clone().requires_grad_()
    likelihood.check(output, y)
    value = likelihood.log_prob(output, y)
    exact = ORACLES[case](output, y)
    assert value.shape == (B,)
    torch.testing.assert_close(value, exact)
    (ours,) = torch.autograd.grad(value.sum(), output)
    (theirs,) = torch.autograd.grad(exact.sum(), output)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_the_observed_site_has_the_same_and_the_scale_of_the_data_set(case: str) -> None:
    """The batch of 7 stands for 70."""
    likelihood, output, y = CASES[case]
    site = observed(likelihood, output, y)
    assert site["is_observed"] and site["scale"] == N / B
    torch.testing.assert_close(site["fn"].log_prob(site["value"]), ORACLES[case](output, y))


@pytest.mark.parametrize("case", CASES)
def test_without_targets_they_are_drawn(case: str) -> None:
    likelihood, output, y = CASES[case]
    site = observed(likelihood, output, None)
    assert not site["is_observed"]
    if case != "soft labels":  # without targets there are only labels
        assert site["value"].shape == y.shape
        likelihood.check(output, site["value"])


def test_soft_labels_that_are_one_hot_are_hard_labels() -> None:
    likelihood, output, y = CASES["labels"]
    one_hot = F.one_hot(y, C).float()
    torch.testing.assert_close(likelihood.log_prob(output, one_hot), likelihood.log_prob(output, y))
    probabilities = likelihood.mean(output)
    assert torch.equal(likelihood.error(probabilities, one_hot), likelihood.error(probabilities, y))


def test_soft_labels_are_linear() -> None:
    """Half of one label and half of another: the mean of their log-likelihoods, and not the larger of them."""
    likelihood, output, _ = CASES["labels"]
    first, second = torch.zeros(B, dtype=torch.int64), torch.full((B,), 2)
    half = 0.5 * F.one_hot(first, C) + 0.5 * F.one_hot(second, C)
    expected = 0.5 * (likelihood.log_prob(output, first) + likelihood.log_prob(output, second))
    torch.testing.assert_close(likelihood.log_prob(output, half), expected)


def test_a_batch_larger_than_the_data_set_is_refused_and_a_prediction_is_not() -> None:
    with pytest.raises(DataError, match="batch has 7 examples.*num_data=3"):
        Categorical(3).observe(torch.randn(B, C), torch.zeros(B, dtype=torch.int64))
    assert observed(Categorical(3), torch.randn(B, C), None)["scale"] == 1.0
    assert observed(Categorical(B), torch.randn(B, C), torch.zeros(B, dtype=torch.int64))["scale"] == 1.0


def test_the_plate_has_the_places_in_the_batch() -> None:
    trace = poutine.trace(Categorical(N).observe).get_trace(torch.randn(B, C), torch.zeros(B, dtype=torch.int64))
    assert torch.equal(trace.nodes["data"]["value"], torch.arange(B))


def test_means_and_errors() -> None:
    output = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    categorical = Categorical(N)
    torch.testing.assert_close(categorical.mean(output), torch.softmax(output, -1))
    assert categorical.error(categorical.mean(output), torch.tensor([0, 0])).tolist() == [0.0, 1.0]
    gaussian = Gaussian(N)
    assert gaussian.mean(output) is output
    assert gaussian.error(output, torch.zeros(2, 2)).tolist() == [2.0, 0.5]
    assert gaussian.error(output[:, 0], torch.zeros(2)).tolist() == [4.0, 0.0]
    multi = MultiLabel(N)
    torch.testing.assert_close(multi.mean(output), torch.sigmoid(output))
    error = multi.error(multi.mean(output), torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    assert error.tolist() == [0.5, 0.5]  # a probability of one half is not yet a yes


def test_the_noise_scale_is_learned_or_fixed() -> None:
    fixed, learned = Gaussian(N, scale=2.0), Gaussian(N, scale=2.0, learn_scale=True)
    assert not list(fixed.parameters()) and "log_scale" in fixed.state_dict()
    (parameter,) = learned.parameters()
    learned.log_prob(torch.zeros(B, 1), torch.ones(B, 1)).sum().backward()
    # d/d log s of −r²/(2s²) − log s is r²/s² − 1
    assert float(parameter.grad) == pytest.approx(B * (1 / 4 - 1))


def test_double_precision() -> None:
    likelihood = Gaussian(N, scale=0.3).double()
    assert likelihood.log_prob(torch.randn(B, 2).double(), torch.randn(B, 2).double()).dtype == torch.float64


BAD = {
    "lengths": (Categorical(N), torch.randn(3, C), torch.zeros(4, dtype=torch.int64), "3 outputs for 4 targets"),
    "no logits": (Categorical(N), torch.randn(3), torch.zeros(3, dtype=torch.int64), r"shape \(batch, classes\)"),
    "label": (Categorical(N), torch.randn(3, C), torch.tensor([0, 4, 1]), "between 0 and 4, and the network has 4"),
    "negative": (Categorical(N), torch.randn(3, C), torch.tensor([0, -1, 1]), "between -1 and 1"),
    "column": (Categorical(N), torch.randn(3, C), torch.zeros(3, 1, dtype=torch.int64), r"shape \(3, 1\)"),
    "soft": (Categorical(N), torch.randn(3, C), torch.ones(3, 2), "soft labels have shape"),
    "soft sum": (Categorical(N), torch.randn(3, C), torch.ones(3, C), "probabilities"),
    "soft sign": (Categorical(N), torch.randn(3, 2), torch.tensor([[2.0, -1.0]] * 3), "probabilities"),
    "gaussian": (Gaussian(N), torch.randn(3, 1), torch.randn(3), "Gaussian: targets have shape"),
    "multi": (MultiLabel(N), torch.randn(3, C), torch.zeros(3, 2), "MultiLabel: targets have shape"),
    "multi range": (MultiLabel(N), torch.randn(3, C), torch.full((3, C), 2.0), "between 0 and 1"),
    "multi type": (MultiLabel(N), torch.randn(3, C), torch.ones(3, C, dtype=torch.int64), r"y\.float\(\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_targets_that_do_not_fit_are_refused(case: str) -> None:
    likelihood, output, y, message = BAD[case]
    with pytest.raises(DataError, match=message):
        likelihood.check(output, y)


@pytest.mark.parametrize("kind", [Categorical, Gaussian, MultiLabel])
@pytest.mark.parametrize("num_data", [0, -3, 2.5, float("nan"), float("inf"), None, "many"])
def test_num_data_must_be_a_count(kind: type[Likelihood], num_data: Any) -> None:
    with pytest.raises(ConfigError, match=f"num_data is {num_data}"):
        kind(num_data=num_data)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), "wide", None])
def test_the_noise_scale_must_be_positive(scale: Any) -> None:
    with pytest.raises(ConfigError, match="scale is"):
        Gaussian(N, scale=scale)


def test_metrics_have_names() -> None:
    assert (Categorical(N).metric, Gaussian(N).metric, MultiLabel(N).metric) == (
        "error",
        "mean squared error",
        "label error",
    )


@pytest.mark.parametrize("likelihood", [Categorical(9), Gaussian(9), MultiLabel(9)], ids=lambda m: type(m).__name__)
def test_complex_numbers_are_refused(likelihood: Likelihood) -> None:
    z, x = torch.zeros(3, 2, dtype=torch.complex64), torch.zeros(3, 2)
    with pytest.raises(DataError, match=r"needs real outputs, and the network gives torch\.complex64: end it with"):
        likelihood.check(z, x)
    with pytest.raises(DataError, match=r"the targets are torch\.complex64"):
        likelihood.check(x, z)
