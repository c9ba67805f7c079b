"""What every distribution must do: densities, moments, draws, shapes, expand, events."""

from __future__ import annotations

import copy

import numpy as np
import pyro
import pytest
import scipy.stats as st
import torch
from pyro.distributions import Independent
from torch.testing import assert_close

from .cases import CASES, Case, tensor

every_case = pytest.mark.parametrize("case", CASES, ids=str)
with_moments = pytest.mark.parametrize("case", [c for c in CASES if c.mean is not None], ids=str)


@every_case
def test_log_prob(case: Case) -> None:
    w = np.random.default_rng(0).normal(size=(7, 4))
    assert_close(case.make().log_prob(tensor(w)), tensor(case.log_prob(w)), rtol=1e-10, atol=1e-10)


@every_case
def test_log_prob_at_zero_is_finite(case: Case) -> None:
    assert case.make().log_prob(torch.zeros(4, dtype=torch.float64)).isfinite().all()


@with_moments
def test_moments_in_closed_form(case: Case) -> None:
    d = case.make()
    assert_close(d.mean, tensor(case.mean))
    assert_close(d.variance, tensor(case.variance))
    assert_close(d.stddev, tensor(np.sqrt(case.variance)))
    assert_close(d.entropy(), tensor(case.entropy))


@with_moments
def test_moments_of_draws(case: Case) -> None:
    n = 20_000
    w = case.make().sample((n,))
    deviation = np.sqrt(case.variance)
    # five standard errors of the mean and of the variance of a Gaussian
    assert np.all(np.abs(w.mean(0).numpy() - case.mean) <= 5 * deviation / np.sqrt(n) + 1e-15)
    assert np.all(np.abs(w.var(0).numpy() - case.variance) <= 5 * case.variance * np.sqrt(2 / n))


@every_case
def test_draws_follow_their_distribution(case: Case) -> None:
    w = case.make().sample((2000,)).numpy()
    for i in range(4):
        if w[:, i].std() == 0:
            assert np.all(w[:, i] == 0)
            continue
        p = st.kstest(w[:, i], lambda x, i=i: case.cdf(np.repeat(x[:, None], 4, 1))[:, i]).pvalue
        assert p > 1e-4


def test_cdf_of_the_posterior() -> None:
    w = np.linspace(-3, 3, 13)[:, None] * np.ones(4)
    for case in CASES[:2]:
        assert_close(case.make().cdf(tensor(w)), tensor(case.cdf(w)))


@every_case
def test_shapes(case: Case) -> None:
    d = case.make()
    assert d.batch_shape == (4,)
    assert d.event_shape == ()
    assert d.sample().shape == (4,)
    assert d.sample((3, 2)).shape == (3, 2, 4)
    assert d.log_prob(torch.ones(3, 1, dtype=torch.float64)).shape == (3, 4)
    assert d.log_prob(torch.ones((), dtype=torch.float64)).shape == (4,)
    assert d.sample().dtype == torch.float64


@every_case
def test_expand_keeps_the_type_and_the_density(case: Case) -> None:
    d = case.make()
    big = d.expand([3, 4])
    assert type(big) is type(d)
    assert big.batch_shape == (3, 4)
    w = torch.randn(3, 4, dtype=torch.float64)
    assert_close(big.log_prob(w), d.log_prob(w))
    assert big.sample((2,)).shape == (2, 3, 4)
    assert d.batch_shape == (4,)


@every_case
def test_expand_refuses_a_shape_that_does_not_fit(case: Case) -> None:
    with pytest.raises(RuntimeError):
        case.make().expand([3])


@every_case
def test_events(case: Case) -> None:
    d = case.make().expand([3, 4])
    event = d.to_event(2)
    assert isinstance(event, Independent)
    assert type(event.base_dist) is type(d)
    assert event.event_shape == (3, 4)
    w = event.sample()
    assert_close(event.log_prob(w), d.log_prob(w).sum())


@every_case
def test_sample_carries_no_gradient_and_rsample_does_where_it_exists(case: Case) -> None:
    d = case.make()
    assert not d.sample().requires_grad
    if d.has_rsample:
        for name in ("loc", "log_var", "precision"):
            if getattr(d, name, None) is not None:
                setattr(d, name, getattr(d, name).detach().clone().requires_grad_())
        assert d.rsample().requires_grad


@every_case
def test_works_as_a_sample_site_and_in_predictive(case: Case) -> None:
    def model() -> torch.Tensor:
        return pyro.sample("w", case.make().to_event(1))

    assert pyro.poutine.trace(model).get_trace().log_prob_sum().isfinite()
    assert pyro.infer.Predictive(model, num_samples=3)()["w"].shape == (3, 4)


@every_case
def test_validation_refuses_nan(case: Case) -> None:
    with pytest.raises(ValueError, match="[Ss]upport|support"):
        case.make().log_prob(torch.full((4,), float("nan"), dtype=torch.float64))


@every_case
def test_repr_and_copy(case: Case) -> None:
    d = case.make()
    assert repr(d).startswith(type(d).__name__)
    assert "4" in repr(d)
    w = torch.ones(4, dtype=torch.float64)
    assert_close(copy.deepcopy(d).log_prob(w), d.log_prob(w))
