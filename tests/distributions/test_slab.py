"""Points, weight decay, and slabs: the joint KL of gate and weight."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import ARDNormal, DropoutNormal, LogUniform, Point, Slab, WeightDecay
from pyrosparse.errors import PriorError

VALUE = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)


def test_points() -> None:
    q = Point(VALUE)
    assert torch.equal(q.sample((4,)), VALUE.expand(4, 3))
    assert torch.equal(q.mean, VALUE) and torch.equal(q.variance, torch.zeros_like(VALUE))
    assert q.log_prob(torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)).tolist() == [0.0, -math.inf, 0.0]
    big = q.expand([2, 3])
    assert type(big) is Point and big.rsample((4,)).shape == (4, 2, 3)
    assert q.to_event(1).event_shape == (3,) and "(2, 3)" in repr(big)
    leaf = VALUE.clone().requires_grad_()
    assert not Point(leaf).sample().requires_grad
    assert torch.autograd.gradcheck(lambda v: Point(v).rsample((2,)), (leaf,))


def test_weight_decay_is_a_gaussian_without_its_constant() -> None:
    tau = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
    p = WeightDecay(tau)
    gaussian = Normal(torch.zeros(3, dtype=torch.float64), tau.rsqrt())
    w = torch.randn(5, 3, dtype=torch.float64)
    assert_close(p.log_prob(w), gaussian.log_prob(w) - gaussian.log_prob(torch.zeros_like(tau)))
    draws = p.sample((20_000,))
    assert bool((draws.var(0) * tau - 1).abs().max() < 5 * math.sqrt(2 / 20_000))
    assert float(WeightDecay(0.0).expand([3]).sample().abs().max()) == 0
    big = p.expand([2, 3])
    assert type(big) is WeightDecay and big.sample((4,)).shape == (4, 2, 3) and "(2, 3)" in repr(big)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(PriorError, match="at least 0"):
            WeightDecay(bad)


def test_the_price_of_a_point() -> None:
    value = VALUE.clone().requires_grad_()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert_close(kl_divergence(Point(value), WeightDecay(tau)), 0.35 * VALUE.square())
    assert torch.autograd.gradcheck(lambda v, t: kl_divergence(Point(v), WeightDecay(t)), (value, tau))
    # minus the log density at the point, whose own entropy counts for nothing
    assert_close(kl_divergence(Point(VALUE), WeightDecay(0.7)), -WeightDecay(0.7).log_prob(VALUE))


PI = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)


def slab(base: Point | DropoutNormal | None = None) -> Slab:
    return Slab(base or DropoutNormal(VALUE, torch.tensor([-1.0, 0.5, -2.0], dtype=torch.float64)), PI)


@pytest.mark.parametrize("prior", [LogUniform(), ARDNormal(), ARDNormal(1.0, dtype=torch.float64)], ids=repr)
def test_the_kl_is_that_of_the_base_times_the_presence(prior: LogUniform | ARDNormal) -> None:
    q = slab()
    assert_close(kl_divergence(q, prior), PI * kl_divergence(q.base_dist, prior))
    whole = kl_divergence(q.to_event(1), prior.expand([3]).to_event(1))
    assert_close(whole, (PI * kl_divergence(q.base_dist, prior)).sum())


def test_of_points_too() -> None:
    assert_close(kl_divergence(slab(Point(VALUE)), WeightDecay(0.7)), PI * 0.35 * VALUE.square())


def test_the_joint_kl_of_gate_and_weight() -> None:
    """z ~ Bernoulli(π), w | z=1 ~ N(μ, σ²), w | z=0 ~ N(0, 1) against Bernoulli(ρ) × N(0, 1), by 400 000 draws."""
    pi, rho, mu, sigma = 0.3, 0.1, 0.8, 0.4
    base, prior = Normal(torch.tensor(mu).double(), sigma), Normal(torch.tensor(0.0).double(), 1.0)
    gate_q, gate_p = torch.distributions.Bernoulli(pi), torch.distributions.Bernoulli(rho)
    n = 400_000
    z = gate_q.sample((n,))
    w = torch.where(z == 1, base.sample((n,)), prior.sample((n,)))
    log_q = gate_q.log_prob(z) + torch.where(z == 1, base.log_prob(w), prior.log_prob(w))
    terms = log_q - gate_p.log_prob(z) - prior.log_prob(w)
    q = Slab(
        DropoutNormal(torch.tensor(mu).double(), 2 * torch.tensor(sigma).double().log()), torch.tensor(pi).double()
    )
    closed = kl_divergence(gate_q, gate_p) + kl_divergence(q, ARDNormal(1.0, dtype=torch.float64))
    assert abs(float(terms.mean() - closed)) < 5 * float(terms.std()) / math.sqrt(n)


def test_gradients_reach_the_base_and_the_gate() -> None:
    loc = VALUE.clone().requires_grad_()
    log_var = torch.tensor([-1.0, 0.5, -2.0], dtype=torch.float64, requires_grad=True)
    pi = torch.tensor([0.1, 0.3, 0.9], dtype=torch.float64, requires_grad=True)

    def kl(m: Tensor, lv: Tensor, p: Tensor) -> Tensor:
        return kl_divergence(Slab(DropoutNormal(m, lv), p, validate_args=False), ARDNormal(1.0, dtype=torch.float64))

    assert torch.autograd.gradcheck(kl, (loc, log_var, pi))


def test_everything_else_is_the_bases() -> None:
    q = slab()
    base = q.base_dist
    w = torch.randn(5, 3, dtype=torch.float64)
    assert_close(q.log_prob(w), base.log_prob(w))
    assert torch.equal(q.mean, base.mean) and torch.equal(q.variance, base.variance)
    assert q.has_rsample and q.support is base.support
    torch.manual_seed(0)
    ours = q.rsample((4,))
    torch.manual_seed(0)
    assert torch.equal(ours, base.rsample((4,)))
    assert not Slab(WeightDecay(1.0).expand([3]), PI).has_rsample  # type: ignore[arg-type]
    big = q.expand([2, 3])
    assert type(big) is Slab and big.presence.shape == (2, 3) and big.rsample().shape == (2, 3)
    assert repr(q).startswith("Slab(DropoutNormal")
    # one presence for a group of weights
    wide = Slab(Point(torch.randn(4, 3, dtype=torch.float64)), PI)
    assert wide.presence.shape == (4, 3)
    with pytest.raises(ValueError, match="presence"):
        Slab(Point(VALUE), torch.tensor(1.5))
