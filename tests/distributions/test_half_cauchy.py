"""HalfCauchyProduct: its root is scipy's half-Cauchy, its density and KL are those of the two factors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro.distributions as pdist
import pytest
import scipy.stats as st
import torch
from scipy import integrate
from torch import Tensor
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import HalfCauchyProduct, LogNormal
from pyrosparse.errors import PriorError

SCALES = [1.0, 1e-5, 30.0]


def factors(k: float) -> tuple[Any, Any]:
    """Gamma(1/2, scale k²) and InvGamma(1/2, 1)."""
    return st.gamma(0.5, scale=k * k), st.invgamma(0.5)


def pair(rows: int = 3, *, leaf: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    loc = torch.randn(rows, 2, dtype=torch.float64, generator=generator)
    log_var = torch.randn(rows, 2, dtype=torch.float64, generator=generator) - 1
    return loc.requires_grad_(leaf), log_var.requires_grad_(leaf)


@pytest.mark.parametrize("k", SCALES)
def test_the_root_of_the_product_is_half_cauchy(k: float) -> None:
    draws = HalfCauchyProduct(torch.tensor(k, dtype=torch.float64)).sample((5000,))
    assert draws.shape == (5000, 2)
    assert st.kstest(draws.prod(-1).sqrt().numpy(), st.halfcauchy(scale=k).cdf).pvalue > 1e-4
    for column, factor in zip(draws.T, factors(k), strict=True):
        assert st.kstest(column.numpy(), factor.cdf).pvalue > 1e-4


def test_single_precision_stays_positive_and_finite() -> None:
    draws = HalfCauchyProduct(1e-5).sample((200_000,))
    assert bool((draws > 0).all()) and bool(draws.isfinite().all())


@pytest.mark.parametrize("k", SCALES)
def test_log_prob_is_that_of_the_factors(k: float) -> None:
    a, b = factors(k)
    value = HalfCauchyProduct(torch.tensor(k, dtype=torch.float64)).sample((20,))
    expected = a.logpdf(value[:, 0]) + b.logpdf(value[:, 1])
    p = HalfCauchyProduct(torch.tensor(k, dtype=torch.float64))
    assert_close(p.log_prob(value), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


def test_the_density_of_the_root() -> None:
    """∫ p(a) p(b = t²/a) 2t/a da, the density of √(ab), is scipy's half-Cauchy density."""
    k = 0.7
    p = HalfCauchyProduct(torch.tensor(k, dtype=torch.float64))
    for t in (0.1, 0.7, 3.0):

        def integrand(log_a: float, t: float = t) -> float:
            a = math.exp(log_a)
            return float(p.log_prob(torch.tensor([a, t * t / a], dtype=torch.float64)).exp()) * 2 * t

        found = integrate.quad(integrand, -30, 30, limit=200)[0]
        assert found == pytest.approx(st.halfcauchy(scale=k).pdf(t), rel=1e-6)


@pytest.mark.parametrize("k", SCALES)
def test_kl_is_the_sum_of_two_integrals(k: float) -> None:
    loc, log_var = pair()
    q = LogNormal(loc, log_var).to_event(1)
    p = HalfCauchyProduct(torch.tensor(k, dtype=torch.float64))

    def integral(m: float, s: float, factor: Any) -> float:
        density = st.norm(m, s)
        # log p(z) z is the density of log z
        return integrate.quad(
            lambda t: density.pdf(t) * (density.logpdf(t) - factor.logpdf(math.exp(t)) - t), m - 12 * s, m + 12 * s
        )[0]

    expected = [
        sum(integral(float(m), math.exp(0.5 * float(lv)), f) for m, lv, f in zip(ms, lvs, factors(k), strict=True))
        for ms, lvs in zip(loc, log_var, strict=True)
    ]
    kl = kl_divergence(q, p.expand([3]))
    assert_close(kl, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_kl_is_the_mean_of_draws() -> None:
    loc, log_var = pair(1)
    q = LogNormal(loc[0], log_var[0]).to_event(1)
    p = HalfCauchyProduct(torch.tensor(0.4, dtype=torch.float64))
    z = q.sample((100_000,))
    terms = q.log_prob(z) - p.log_prob(z)
    error = float(terms.std()) / math.sqrt(len(z))
    assert abs(float(terms.mean()) - float(kl_divergence(q, p))) < 5 * error


def test_kl_gradients() -> None:
    loc, log_var = pair(leaf=True)
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda m, lv, k: kl_divergence(LogNormal(m, lv).to_event(1), HalfCauchyProduct(k)), (loc, log_var, scale)
    )


def test_kl_of_kept_groups_alone() -> None:
    loc, log_var = pair(leaf=True)
    keep = torch.tensor([True, False, True])[:, None]
    p = HalfCauchyProduct(torch.tensor(2.0, dtype=torch.float64)).expand([3])
    all_of_them = kl_divergence(LogNormal(loc, log_var).to_event(1), p)
    kept = kl_divergence(LogNormal(loc, log_var, keep).to_event(1), p)
    assert_close(kept, all_of_them * keep[:, 0])
    kept.sum().backward()
    assert loc.grad is not None and bool((loc.grad[1] == 0).all())


def test_whole_layers_in_one_event() -> None:
    """As a guide has it: two event dimensions against one."""
    loc, log_var = pair()
    p = HalfCauchyProduct(torch.ones((), dtype=torch.float64)).expand([3])
    whole = kl_divergence(LogNormal(loc, log_var).to_event(2), p.to_event(1))
    assert_close(whole, kl_divergence(LogNormal(loc, log_var).to_event(1), p).sum())


@pytest.mark.parametrize("theirs", [torch.distributions.LogNormal, pdist.LogNormal])
def test_the_log_normal_of_torch_and_pyro_has_the_same_kl(theirs: Any) -> None:
    loc, std = torch.tensor([[0.3, -0.2], [1.0, 0.0]]), torch.tensor([[0.1, 0.5], [1.0, 2.0]])
    p = HalfCauchyProduct(torch.tensor([0.1, 1.0]))
    ours = kl_divergence(LogNormal(loc, 2.0 * std.log()).to_event(1), p)
    assert_close(kl_divergence(torch.distributions.Independent(theirs(loc, std), 1), p), ours)


def test_other_posteriors_have_no_kl() -> None:
    p = HalfCauchyProduct(1.0)
    loc = torch.zeros(2)
    for q in (pdist.Normal(loc, 1.0).to_event(1), LogNormal(torch.zeros(2, 2), torch.zeros(2, 2)).to_event(2)):
        with pytest.raises(NotImplementedError):
            kl_divergence(q, p)


def test_shapes_and_expand() -> None:
    p = HalfCauchyProduct(torch.rand(4) + 0.1)
    assert p.batch_shape == (4,) and p.event_shape == (2,)
    big = p.expand([3, 4])
    assert type(big) is HalfCauchyProduct and big.sample((5,)).shape == (5, 3, 4, 2)
    value = big.sample()
    assert_close(big.log_prob(value), p.log_prob(value))
    assert p.to_event(1).event_shape == (4, 2)
    assert "(3, 4)" in repr(big)
    assert not p.sample().requires_grad
    with pytest.raises(ValueError, match="support"):
        p.log_prob(torch.full((4, 2), -1.0))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_must_be_positive(scale: float) -> None:
    with pytest.raises(PriorError, match="scale must be positive and finite"):
        HalfCauchyProduct(scale)


def test_heavy_tails() -> None:
    """P(√(ab) > x) = 1 − (2/π) arctan(x/k)."""
    draws = HalfCauchyProduct(2.0).sample((100_000,)).prod(-1).sqrt()
    for x in (1.0, 20.0, 200.0):
        tail = 1 - 2 / math.pi * math.atan(x / 2.0)
        assert abs(float((draws > x).float().mean()) - tail) < 5 * math.sqrt(tail / len(draws))
    assert np.isfinite(draws.numpy()).all()
