"""LogNormal against scipy's, its KLs against quadrature, Monte Carlo and gradients, its mask."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as pdist
import pytest
import scipy.stats as st
import torch
from scipy import integrate
from torch import Tensor
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import LogNormal

LOC = np.array([0.5, -2.0, 0.0, 4.0])
LOG_VAR = np.array([-1.0, 0.5, -6.0, -2.0])
KEEP = torch.tensor([True, False, True, False])
SD = np.exp(0.5 * LOG_VAR)
SCIPY = [st.lognorm(s=s, scale=np.exp(m)) for m, s in zip(LOC, SD, strict=True)]


def make(*, kept: bool = False, leaf: bool = False) -> LogNormal:
    loc, log_var = (torch.from_numpy(a.copy()).requires_grad_(leaf) for a in (LOC, LOG_VAR))
    return LogNormal(loc, log_var, KEEP if kept else None)


def oracle(question: Callable[[st.rv_continuous], float]) -> Tensor:
    return torch.tensor([question(d) for d in SCIPY], dtype=torch.float64)


def test_agrees_with_scipy() -> None:
    q = make()
    z = torch.rand(9, 4, dtype=torch.float64) * 5 + 1e-3
    log_prob = np.stack([d.logpdf(z[:, i]) for i, d in enumerate(SCIPY)], 1)
    cdf = np.stack([d.cdf(z[:, i]) for i, d in enumerate(SCIPY)], 1)
    assert_close(q.log_prob(z), torch.from_numpy(log_prob), rtol=1e-10, atol=1e-10)
    assert_close(q.cdf(z), torch.from_numpy(cdf))
    assert_close(q.mean, oracle(lambda d: d.mean()))
    assert_close(q.variance, oracle(lambda d: d.var()))
    assert_close(q.entropy(), oracle(lambda d: d.entropy()))
    assert_close(q.mode, torch.from_numpy(np.exp(LOC - SD**2)))
    m, v = q.log_moments
    assert_close(m, torch.from_numpy(LOC))
    assert_close(v, torch.from_numpy(SD**2))


def test_a_tiny_variance_keeps_its_digits() -> None:
    """(e^v − 1) e^{2m + v} by expm1: in float32 e^v − 1 would be 0."""
    q = LogNormal(torch.tensor(0.0), torch.tensor(-20.0))
    assert float(q.variance) == pytest.approx(math.exp(-20.0), rel=1e-5)


def test_draws_follow_scipy() -> None:
    z = make().sample((4000,)).numpy()
    assert all(st.kstest(z[:, i], d.cdf).pvalue > 1e-4 for i, d in enumerate(SCIPY))


def test_draws_carry_the_gradient_of_the_mean() -> None:
    """Gradients of E z = e^{m + v/2} are E z and v E z / 2, from the draws within five standard errors."""
    loc, log_var = torch.tensor(0.3).requires_grad_(), torch.tensor(-1.0).requires_grad_()
    n = 200_000
    of_loc, of_log_var = torch.autograd.grad(LogNormal(loc, log_var).rsample((n,)).mean(), (loc, log_var))
    v = math.exp(-1.0)
    mean = math.exp(0.3 + v / 2)
    # d z/d m = z, and d z/d log v = z sqrt(v) ε / 2, whose second moment is (v + 4 v²) e^{2m + 2v} / 4
    assert abs(float(of_loc) - mean) < 5 * mean * math.sqrt(math.expm1(v) / n)
    assert abs(float(of_log_var) - mean * v / 2) < 5 * math.sqrt((v + 4 * v * v) / 4 * math.exp(0.6 + 2 * v) / n)


def test_what_is_not_kept_is_one_and_costs_nothing() -> None:
    q = make(kept=True, leaf=True)
    z = q.rsample((50,))
    assert bool((z[:, ~KEEP] == 1).all()) and bool((z[:, KEEP] != 1).all())
    value = torch.full((4,), 0.7, dtype=torch.float64)
    for answer in (q.log_prob(value), q.entropy(), q.variance, *q.log_moments):
        assert bool((answer[~KEEP] == 0).all())
    assert bool((q.mean[~KEEP] == 1).all()) and bool((q.mode[~KEEP] == 1).all())
    assert q.cdf(value)[~KEEP].tolist() == [0.0, 0.0]
    assert q.cdf(2 * value)[~KEEP].tolist() == [1.0, 1.0]
    for p in PRIORS.values():
        kl = kl_divergence(q, p)
        assert bool((kl[~KEEP] == 0).all()) and bool((kl[KEEP] > 0).all())
    total = z.sum() + kl.sum() + q.log_prob(value).sum()
    for gradient in torch.autograd.grad(total, (q.loc, q.log_var)):
        assert bool((gradient[~KEEP] == 0).all()) and bool((gradient[KEEP] != 0).all())


def test_shapes_and_expand() -> None:
    q = LogNormal(torch.zeros(3, 1), torch.zeros(4), keep=KEEP)
    assert q.batch_shape == (3, 4) and q.event_shape == ()
    big = q.expand([2, 3, 4])
    assert type(big) is LogNormal and big.batch_shape == (2, 3, 4)
    assert big.keep is not None and big.keep.shape == (2, 3, 4)
    assert big.rsample((5,)).shape == (5, 2, 3, 4)
    assert big.log_prob(torch.ones(4)).shape == (2, 3, 4)
    assert q.to_event(2).event_shape == (3, 4)
    assert "(3, 4)" in repr(q)
    assert LogNormal(0.0, -1.0).batch_shape == ()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"keep is torch.float32.*keep.bool\(\)"):
        LogNormal(torch.zeros(4), torch.zeros(4), torch.ones(4))
    for value in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="support"):
            make().log_prob(torch.full((4,), value, dtype=torch.float64))


A, B = torch.tensor(0.5, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
PRIORS = {
    "Gamma": pdist.Gamma(A, B),
    "Gamma, other numbers": pdist.Gamma(B, A / 10),
    "InverseGamma": pdist.InverseGamma(A, B),
    "InverseGamma, other numbers": pdist.InverseGamma(B, A / 10),
}
DENSITIES = {
    "Gamma": st.gamma(0.5, scale=1 / 3.0),
    "Gamma, other numbers": st.gamma(3.0, scale=20.0),
    "InverseGamma": st.invgamma(0.5, scale=3.0),
    "InverseGamma, other numbers": st.invgamma(3.0, scale=0.05),
}


@pytest.mark.parametrize("name", PRIORS)
def test_kl_is_the_integral(name: str) -> None:
    """∫ q log(q/p) dz by quadrature in log z, with scipy's densities."""
    p = DENSITIES[name]

    def integral(q: st.rv_continuous, m: float, s: float) -> float:
        def term(t: float) -> float:
            z = math.exp(t)
            return q.pdf(z) * z * (q.logpdf(z) - p.logpdf(z))

        return integrate.quad(term, m - 12 * s, m + 12 * s, points=[m], limit=200)[0]

    expected = [integral(q, m, s) for q, m, s in zip(SCIPY, LOC, SD, strict=True)]
    assert_close(kl_divergence(make(), PRIORS[name]), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_kl_is_the_mean_of_draws(name: str) -> None:
    """Within five standard errors of the Monte Carlo estimate."""
    q = make()
    z = q.sample((100_000,))
    terms = q.log_prob(z) - torch.from_numpy(DENSITIES[name].logpdf(z.numpy()))
    error = terms.std(0) / math.sqrt(len(z))
    assert bool(((terms.mean(0) - kl_divergence(q, PRIORS[name])).abs() < 5 * error + 1e-12).all())


@pytest.mark.parametrize("name", PRIORS)
def test_gradients(name: str) -> None:
    q = make(leaf=True)
    a, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 3.0))
    kind = type(PRIORS[name])
    assert torch.autograd.gradcheck(
        lambda m, lv, c, r: kl_divergence(LogNormal(m, lv, KEEP), kind(c, r)), (q.loc, q.log_var, a, b)
    )


def test_gradcheck_of_draws() -> None:
    def draw(loc: Tensor, log_var: Tensor) -> Tensor:
        torch.manual_seed(5)
        return LogNormal(loc, log_var, KEEP).rsample((3,))

    q = make(leaf=True)
    assert torch.autograd.gradcheck(draw, (q.loc, q.log_var))


def test_torchs_own_log_normal_has_the_same_kl() -> None:
    theirs = pdist.LogNormal(torch.from_numpy(LOC), torch.from_numpy(SD))
    for p in PRIORS.values():
        assert_close(kl_divergence(theirs, p), kl_divergence(make(), p))
    inverse = torch.distributions.InverseGamma(A, B)
    for q in (theirs, make()):
        assert_close(kl_divergence(q, inverse), kl_divergence(q, PRIORS["InverseGamma"]))


def test_kls_broadcast() -> None:
    q = LogNormal(torch.zeros(3, 1), torch.zeros(3, 1))
    p = pdist.Gamma(torch.ones(4), torch.ones(4))
    assert kl_divergence(q, p).shape == kl_divergence(q, pdist.InverseGamma(torch.ones(4), 1.0)).shape == (3, 4)
