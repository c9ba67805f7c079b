"""Pyro's TraceMeanField_ELBO takes the registered KL, not a Monte Carlo estimate."""

from __future__ import annotations

import pyro
import pyro.distributions as pdist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import ARDNormal, DropoutNormal, LogUniform

SHAPE = torch.Size([3, 4])


@pytest.mark.parametrize("prior", [LogUniform(), LogUniform(kl="sigmoid"), ARDNormal(), ARDNormal(2.0)], ids=repr)
@pytest.mark.parametrize("kept", [False, True])
def test_loss_is_the_analytic_kl(prior: pdist.TorchDistribution, kept: bool) -> None:
    loc, log_var = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE, requires_grad=True)
    keep = torch.rand(SHAPE) > 0.5 if kept else None

    def model() -> None:
        pyro.sample("w", prior.expand(SHAPE).to_event(2))

    def guide() -> None:
        pyro.sample("w", DropoutNormal(loc, log_var, keep).to_event(2))

    elbo = TraceMeanField_ELBO()
    loss = elbo.differentiable_loss(model, guide)
    expected = kl_divergence(DropoutNormal(loc, log_var, keep), prior).sum()
    assert_close(loss, expected)  # a Monte Carlo estimate differs from draw to draw
    assert_close(elbo.differentiable_loss(model, guide), loss, rtol=0, atol=0)
    assert_close(torch.autograd.grad(loss, (loc, log_var)), torch.autograd.grad(expected, (loc, log_var)))


def test_normal_guide_has_the_analytic_kl() -> None:
    loc, scale = torch.randn(SHAPE), torch.rand(SHAPE) + 0.1
    loss = TraceMeanField_ELBO().loss(
        lambda: pyro.sample("w", LogUniform().expand(SHAPE).to_event(2)),
        lambda: pyro.sample("w", pdist.Normal(loc, scale).to_event(2)),
    )
    assert loss == pytest.approx(kl_divergence(pdist.Normal(loc, scale), LogUniform()).sum().item(), rel=1e-6)


def test_to_event_gives_independent_of_the_same_prior() -> None:
    p = LogUniform().expand(SHAPE).to_event(2)
    assert isinstance(p, pdist.Independent)
    assert type(p.base_dist) is LogUniform
    assert p.base_dist.batch_shape == SHAPE
