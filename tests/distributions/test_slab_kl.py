"""KL divergence of a layer of weights behind gates, against the sum over its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyrosparse.distributions import ARDNormal, DropoutNormal, HardConcrete, Point, Slab, WeightDecay
from pyrosparse.distributions.hard_concrete import BETA, GAMMA, ZETA

SHAPE = (4, 5, 2)


@pytest.mark.parametrize("groups", [(1, 5, 1), (4, 1, 1), SHAPE])
@pytest.mark.parametrize("precision", [torch.tensor(0.7), torch.rand(SHAPE)])
def test_point_weights_behind_gates(groups: tuple[int, ...], precision: Tensor) -> None:
    value, log_alpha = torch.randn(SHAPE, requires_grad=True), torch.randn(groups, requires_grad=True)
    prior = WeightDecay(precision).expand(SHAPE).to_event(3)
    presence = HardConcrete(log_alpha).presence
    whole = kl_divergence(Slab(Point(value), presence).to_event(3), prior)
    single = (0.5 * precision * presence * value.square()).sum()
    torch.testing.assert_close(whole, single)
    found = torch.autograd.grad(3.0 * whole, (value, log_alpha), retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(3.0 * single, (value, log_alpha)))


def test_gaussian_weights_behind_gates_and_part_of_a_layer() -> None:
    presence = torch.rand(1, 5, 1)
    gaussian, prior = DropoutNormal(torch.randn(SHAPE), torch.randn(SHAPE)), ARDNormal(2.0).expand(SHAPE)
    whole = kl_divergence(Slab(gaussian, presence).to_event(3), prior.to_event(3))
    torch.testing.assert_close(whole, (presence * kl_divergence(gaussian, prior)).sum())
    points, decay = Slab(Point(torch.randn(SHAPE)), presence), WeightDecay(0.3).expand(SHAPE)
    rows = kl_divergence(points.to_event(2), decay.to_event(2))
    torch.testing.assert_close(rows, kl_divergence(points, decay).sum((1, 2)))


def test_gradient_of_a_gate_is_that_of_its_formula() -> None:
    """Against autograd through logit and sigmoid, with the noise of the same seed; far out as well."""
    log_alpha = torch.linspace(-40.0, 40.0, 81, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(500, 81, dtype=torch.float64)
    torch.manual_seed(1)
    z = HardConcrete(log_alpha).rsample((500,))
    torch.manual_seed(1)
    u = torch.rand(500, 81, dtype=torch.float64)
    s = torch.sigmoid((torch.logit(u) + log_alpha) / BETA)
    expected = (s * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)
    torch.testing.assert_close(z, expected)
    (found,) = torch.autograd.grad((weight * z).sum(), log_alpha)
    torch.testing.assert_close(found, torch.autograd.grad((weight * expected).sum(), log_alpha)[0])
    assert bool(torch.isfinite(HardConcrete(torch.tensor([-300.0, 300.0])).rsample((100,))).all())
