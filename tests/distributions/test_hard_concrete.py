"""HardConcrete against simulation, quadrature and scipy; the prior that counts open gates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch import Tensor
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import HardConcrete
from pyrosparse.distributions.hard_concrete import BETA, GAMMA, ZETA, L0Prior
from pyrosparse.errors import PriorError

LOG_ALPHA = [-4.0, -1.0, 0.0, 0.7, 5.0]
KEEP = torch.tensor([True, False, True, False, True])


def gates(*, kept: bool = False, leaf: bool = False) -> HardConcrete:
    return HardConcrete(torch.tensor(LOG_ALPHA, dtype=torch.float64, requires_grad=leaf), KEEP if kept else None)


def simulated(log_alpha: float, n: int = 400_000) -> np.ndarray:
    """The definition, by numpy alone."""
    u = np.random.default_rng(3).uniform(size=n)
    s = special.expit((special.logit(u) + log_alpha) / (2 / 3))
    return np.clip(s * 1.2 - 0.1, 0, 1)


def test_the_constants_of_the_paper() -> None:
    assert (BETA, GAMMA, ZETA) == (2 / 3, -0.1, 1.1)


@pytest.mark.parametrize("i", range(5))
def test_moments_and_presence_against_simulation(i: int) -> None:
    """Within five standard errors."""
    z = simulated(LOG_ALPHA[i])
    q = gates()
    root = math.sqrt(len(z))
    assert abs(float(q.mean[i]) - z.mean()) < 5 * z.std() / root
    spread = (z - z.mean()) ** 2
    assert abs(float(q.variance[i]) - spread.mean()) < 5 * spread.std() / root
    open_ = (z > 0).mean()
    assert abs(float(q.presence[i]) - open_) < 5 * math.sqrt(open_ * (1 - open_)) / root + 1e-4


def survival(t: float, log_alpha: float) -> float:
    """P(z > t) = P(logistic > β logit(s) − log α)."""
    s = (t + 0.1) / 1.2
    return float(special.expit(log_alpha - 2 / 3 * special.logit(s)))


@pytest.mark.parametrize("i", range(5))
def test_moments_against_quadrature(i: int) -> None:
    mean = integrate.quad(survival, 0, 1, args=(LOG_ALPHA[i],), epsabs=1e-13)[0]
    second = integrate.quad(lambda t: 2 * t * survival(t, LOG_ALPHA[i]), 0, 1, epsabs=1e-13)[0]
    assert float(gates().mean[i]) == pytest.approx(mean, abs=1e-12)
    assert float(gates().variance[i]) == pytest.approx(second - mean**2, abs=1e-12)


def test_presence_is_the_closed_form_and_a_probability_of_the_density() -> None:
    q = gates()
    expected = special.expit(np.array(LOG_ALPHA) - 2 / 3 * math.log(0.1 / 1.1))
    assert_close(q.presence, torch.from_numpy(expected))
    assert_close(1 - q.presence, q.log_prob(torch.zeros(5, dtype=torch.float64)).exp())


@pytest.mark.parametrize("i", range(5))
def test_density_and_atoms_add_up_to_one(i: int) -> None:
    q = HardConcrete(torch.tensor(LOG_ALPHA[i], dtype=torch.float64))

    def density(t: float) -> float:
        return float(q.log_prob(torch.tensor(t, dtype=torch.float64)).exp())

    inside = integrate.quad(density, 1e-12, 1 - 1e-9)[0]
    assert density(0.0) + inside + density(1.0) == pytest.approx(1.0, abs=1e-6)
    assert density(1.0) == pytest.approx(survival(1 - 1e-12, LOG_ALPHA[i]), rel=1e-6)
    # the density is the slope of the distribution function
    for t in (0.1, 0.5, 0.9):
        assert density(t) == pytest.approx(
            (survival(t - 1e-5, LOG_ALPHA[i]) - survival(t + 1e-5, LOG_ALPHA[i])) / 2e-5, rel=1e-5
        )


@pytest.mark.parametrize("i", range(5))
def test_draws_and_distribution_function(i: int) -> None:
    """The distribution of the draws by numpy's simulation, at and between the steps: within five standard errors."""
    z, n = simulated(LOG_ALPHA[i]), 100_000
    draws = gates().sample((n,))[:, i]
    grid = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.8, 0.99], dtype=torch.float64)
    cdf = gates().cdf(grid[:, None])[:, i]
    for t, below in zip(grid.tolist(), cdf.tolist(), strict=True):
        for found in (draws.numpy(), z):
            error = math.sqrt(max(below * (1 - below), 1e-4) / len(found))
            assert abs((found <= t).mean() - below) < 5 * error
    assert float(gates().cdf(torch.ones(5, dtype=torch.float64))[i]) == 1.0


def test_the_gate_at_test_time() -> None:
    la = torch.linspace(-6, 6, 101, dtype=torch.float64)
    gate = HardConcrete(la).gate
    assert_close(gate, torch.from_numpy(np.clip(special.expit(la.numpy()) * 1.2 - 0.1, 0, 1)))
    # it shuts at σ(log α) = 1/12 and is wide open from 11/12
    border = math.log(11.0)
    assert HardConcrete(torch.tensor([-border - 1e-3, border + 1e-3])).gate.tolist() == [0.0, 1.0]
    assert bool((HardConcrete(torch.tensor([-border + 1e-3])).gate > 0).all())
    assert float(HardConcrete(torch.tensor([border - 1e-3])).gate) < 1


@pytest.mark.parametrize("log_alpha", [-30.0, -18.0, 18.0, 30.0])
def test_variances_of_decided_gates_in_single_precision(log_alpha: float) -> None:
    """A hundred millionth of 1 and less: the difference of two numbers near 1 would be 0."""

    def below(t: float) -> float:
        return float(special.expit(-log_alpha + 2 / 3 * special.logit((t + 0.1) / 1.2)))

    first = integrate.quad(below, 0, 1, epsabs=0)[0]
    second = integrate.quad(lambda t: 2 * (1 - t) * below(t), 0, 1, epsabs=0)[0]
    if log_alpha < 0:
        first = integrate.quad(survival, 0, 1, args=(log_alpha,), epsabs=0)[0]
        second = integrate.quad(lambda t: 2 * t * survival(t, log_alpha), 0, 1, epsabs=0)[0]
    q = HardConcrete(torch.tensor([log_alpha]))
    assert float(q.variance) == pytest.approx(second - first**2, rel=1e-5)


def test_variances_are_never_negative() -> None:
    """A standard deviation is taken of them: in single precision too, however decided the gate."""
    la = torch.linspace(-40, 40, 4001)
    q = HardConcrete(la)
    assert bool((q.variance >= 0).all()) and bool((q.mean >= 0).all()) and bool((q.mean <= 1 + 1e-6).all())
    assert bool(q.variance.isfinite().all())


def test_what_is_not_kept_is_shut() -> None:
    q = gates(kept=True, leaf=True)
    z = q.rsample((100,))
    value = torch.full((5,), 0.5, dtype=torch.float64)
    for answer in (z, q.presence, q.gate, q.mean, q.variance, q.log_prob(value), kl_divergence(q, L0Prior(2.0))):
        assert bool((answer[..., ~KEEP] == 0).all())
    assert bool((q.cdf(torch.zeros(5, dtype=torch.float64))[~KEEP] == 1).all())
    (gradient,) = torch.autograd.grad(z.sum() + q.presence.sum() + q.log_prob(value).sum(), q.log_alpha)
    assert bool((gradient[~KEEP] == 0).all()) and bool((gradient[KEEP] != 0).all())


def test_gradients() -> None:
    q = gates(leaf=True)
    value = torch.tensor([0.0, 1.0, 0.2, 0.5, 0.9], dtype=torch.float64)

    def draw(la: Tensor) -> Tensor:
        torch.manual_seed(1)
        return HardConcrete(la, KEEP).rsample((4,))

    def answers(la: Tensor) -> tuple[Tensor, ...]:
        q = HardConcrete(la, KEEP)
        return q.presence, q.mean, q.variance, q.log_prob(value), kl_divergence(q, L0Prior(0.3))

    assert torch.autograd.gradcheck(draw, (q.log_alpha,))
    assert torch.autograd.gradcheck(answers, (q.log_alpha,))
    inner = value.clone().requires_grad_()
    (slope,) = torch.autograd.grad(HardConcrete(q.log_alpha).log_prob(inner).sum(), inner)
    assert bool(slope.isfinite().all())


def test_the_gradient_of_draws_is_that_of_the_mean() -> None:
    """d E z / d log α, by the quadrature and by 200 000 draws, within five standard errors."""
    la = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(HardConcrete(la).mean, la)
    many = la.detach().expand(200_000).clone().requires_grad_()
    (slopes,) = torch.autograd.grad(HardConcrete(many).rsample().sum(), many)
    assert abs(float(slopes.mean() - exact)) < 5 * float(slopes.std()) / math.sqrt(len(slopes))


def test_shapes_expand_and_refusals() -> None:
    q = HardConcrete(torch.zeros(3, 4), keep=torch.tensor([True, False, True, True]))
    assert q.batch_shape == (3, 4) and q.event_shape == ()
    big = q.expand([2, 3, 4])
    assert type(big) is HardConcrete and big.keep is not None and big.keep.shape == (2, 3, 4)
    assert big.rsample((5,)).shape == (5, 2, 3, 4)
    assert big.mean.shape == big.variance.shape == (2, 3, 4)
    assert q.to_event(2).event_shape == (3, 4)
    assert "(3, 4)" in repr(q)
    with pytest.raises(ValueError, match=r"keep is torch.int64.*keep.bool\(\)"):
        HardConcrete(torch.zeros(2), torch.ones(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="support"):
        gates().log_prob(torch.full((5,), 1.5, dtype=torch.float64))


def test_draws_in_single_precision_are_finite() -> None:
    la = torch.tensor([-30.0, 0.0, 30.0]).requires_grad_()
    z = HardConcrete(la).rsample((100_000,))
    z.sum().backward()
    assert la.grad is not None and bool(la.grad.isfinite().all()) and bool(z.isfinite().all())
    assert bool((z[:, 0] == 0).all()) and bool((z[:, 2] == 1).all())


@pytest.mark.parametrize("penalty", [0.0, 0.1, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)])
def test_the_price_of_an_open_gate(penalty: Any) -> None:
    q, p = gates(), L0Prior(penalty)
    assert_close(kl_divergence(q, p), torch.as_tensor(penalty) * q.presence)
    z = torch.tensor([0.0, 0.0, 0.3, 1.0, 1.0], dtype=torch.float64)
    assert_close(p.log_prob(z).double(), -torch.as_tensor(penalty).double() * (z != 0))
    # the mean of the log density over draws is minus the KL
    draws = q.sample((50_000,))
    error = 5 * torch.as_tensor(penalty) * 0.5 / math.sqrt(len(draws))
    assert bool(((p.log_prob(draws).mean(0) + kl_divergence(q, p)).abs() <= error + 1e-6).all())


def test_the_bound_holds() -> None:
    """Of a spike and slab whose slab is the prior's own, −log π with π = e^{−λ} bounds the KL by λ P(z ≠ 0)."""
    lam = 1.3
    prior_open = math.exp(-lam)
    for pi in (0.01, 0.2, 0.7, 0.99):
        bernoulli = pi * math.log(pi / prior_open) + (1 - pi) * math.log((1 - pi) / (1 - prior_open))
        assert bernoulli <= lam * pi - math.log(1 - prior_open) + 1e-12


def test_the_prior_itself() -> None:
    p = L0Prior(torch.tensor([0.5, 2.0]))
    big = p.expand([3, 2])
    assert type(big) is L0Prior and big.sample((4,)).shape == (4, 3, 2)
    assert p.to_event(1).event_shape == (2,) and "(3, 2)" in repr(big)
    draws = p.sample((20_000,)).mean(0)
    open_ = torch.sigmoid(-p.penalty)
    assert bool(((draws - open_).abs() < 5 * (open_ * (1 - open_) / 20_000).sqrt()).all())
    assert kl_divergence(gates().to_event(1), L0Prior(1.0).expand([5]).to_event(1)).shape == ()
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(PriorError, match="at least 0"):
            L0Prior(bad)
