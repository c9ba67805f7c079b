"""Posteriors of scales: every answer against its closed form and against draws."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import scipy.stats as st
import torch
from pyro import poutine
from scipy import special
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyrosparse.distributions import HalfCauchyProduct, HardConcrete, LogNormal, kl_log_uniform
from pyrosparse.guides.scale import Gate, HorseshoeScale, LogUniformScale, Scale
from pyrosparse.layers import Site
from pyrosparse.poutine import UndrawnScale, local_reparam
from pyrosparse.priors import L0, GroupHorseshoe, GroupLogUniform, GroupPrior

SHAPE = torch.Size([3, 4])
START = torch.tensor([[0.5, 2.0, 1e-2, 1.0]])
KINDS = ["log-uniform", "horseshoe", "gate"]
KEEP = torch.tensor([[True, False, True, True]])


def prior_at(prior: GroupPrior) -> GroupPrior:
    return prior.at(Site("fc1.weight", "fc1", SHAPE, 0, 1), nn.Linear(4, 3))


def scale(kind: str, **options: object) -> Scale:
    """Scales of four input groups with posteriors that differ from their start."""
    made: Scale
    if kind == "log-uniform":
        made = LogUniformScale("fc1.weight", prior_at(GroupLogUniform(**options)), START)  # type: ignore[arg-type]
    elif kind == "horseshoe":
        made = HorseshoeScale("fc1.weight", prior_at(GroupHorseshoe(0.1, **options)), START)  # type: ignore[arg-type]
    else:
        made = Gate("fc1.weight", prior_at(L0(0.3, **options)), START)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return made


def values(made: Scale, count: int) -> Tensor:
    with torch.no_grad():
        return made.compose({name: q.sample((count,)) for name, q in made.posteriors().items()})


def test_scales_start_where_told() -> None:
    """At the size of their groups, with a deviation of e⁻² of it; gates near their drop rate."""
    gnj = LogUniformScale("fc1.weight", prior_at(GroupLogUniform()), START)  # type: ignore[arg-type]
    torch.testing.assert_close(gnj.mean(), START)
    torch.testing.assert_close(gnj.variance().sqrt(), START * math.exp(-2))
    torch.testing.assert_close(gnj.relevance(), torch.full((1, 4), 4.0))
    ghs = HorseshoeScale("fc1.weight", prior_at(GroupHorseshoe(0.1)), START)  # type: ignore[arg-type]
    m, v = ghs.log_moments()
    torch.testing.assert_close(m, START.log())
    torch.testing.assert_close(v, torch.full((1, 4), math.exp(-4)))
    # the layer's factors: one near the prior's own scale τ0², and all the rest in the other
    assert float(ghs.layer_loc[0].detach()) == pytest.approx(2 * math.log(0.1) - 1.5)
    gate = Gate("fc1.weight", prior_at(L0(drop_rate=0.2)), START)  # type: ignore[arg-type]
    assert float((gate.log_alpha.detach().sigmoid() - 0.8).abs().max()) < 0.02
    assert gate.log_alpha.detach().unique().numel() == 4


@pytest.mark.parametrize("kind", KINDS)
def test_variance_and_mean_are_those_of_draws(kind: str) -> None:
    """Within five standard errors; the mean of a gate is what it is at test time."""
    made = scale(kind)
    z = values(made, 200_000).double()
    mean = HardConcrete(made.log_alpha.detach()).mean if isinstance(made, Gate) else made.mean()
    error = (z.var(0) / len(z)).sqrt()
    assert bool(((z.mean(0) - mean[0]).abs() < 5 * error).all())
    spread = (z - z.mean(0)).square()
    assert bool(((spread.mean(0) - made.variance()[0]).abs() < 5 * (spread.var(0) / len(z)).sqrt()).all())


def test_gates_at_test_time() -> None:
    gate = scale("gate")
    assert isinstance(gate, Gate)
    la = gate.log_alpha.detach().double()
    torch.testing.assert_close(gate.mean(), torch.clamp(la.sigmoid() * 1.2 - 0.1, 0, 1).float())
    expected = torch.from_numpy(special.expit(la.numpy() - 2 / 3 * math.log(0.1 / 1.1))).float()
    torch.testing.assert_close(gate.open().detach(), expected)
    assert gate.open().requires_grad


def test_a_gate_is_kept_while_it_is_open_at_test_time() -> None:
    gate = scale("gate")
    assert isinstance(gate, Gate)
    with torch.no_grad():
        gate.log_alpha.copy_(math.log(11.0) * torch.tensor([[-1.01, -0.99, 0.0, 3.0]]))
    assert (gate.relevance() >= -3).tolist() == [[False, True, True, True]]
    assert torch.equal(gate.relevance() >= -3, gate.mean() > 0)


def test_relevance_of_log_uniform_scales() -> None:
    made = scale("log-uniform")
    assert isinstance(made, LogUniformScale)
    log_alpha = (made.variance() / made.mean().square()).log()
    torch.testing.assert_close(made.relevance(), -log_alpha)


def test_relevance_of_horseshoe_scales() -> None:
    """Log of the mode of α_g β_g, which is log-normal itself: e^{m − v}."""
    made = scale("horseshoe")
    assert isinstance(made, HorseshoeScale)
    q = made.group()
    m, v = q.loc.sum(-1).detach(), q.log_var.exp().sum(-1).detach()
    for g in range(4):
        grid = torch.exp(m[g] - v[g] + torch.linspace(-2, 2, 40_001, dtype=torch.float64))
        density = LogNormal(m[g].double(), v[g].double().log()).log_prob(grid)
        assert float(made.relevance()[0, g]) == pytest.approx(float(grid[density.argmax()].log()), abs=1e-3)


def test_log_moments_of_horseshoe_scales() -> None:
    made = scale("horseshoe")
    assert isinstance(made, HorseshoeScale)
    logs = values(made, 50_000).log()
    m, v = (t.detach()[0] for t in made.log_moments())
    assert bool(((logs.mean(0) - m).abs() < 5 * (v / 50_000).sqrt()).all())
    assert bool(((logs.var(0) / v - 1).abs() < 5 * math.sqrt(2 / 50_000)).all())
    # the layer's factors are common to all groups: covariance a quarter of their variance
    common = 0.25 * made.layer().log_var.exp().sum().detach()
    off = torch.cov(logs.T)[~torch.eye(4, dtype=torch.bool)]
    error = ((v[:, None] * v + common**2) / 50_000).sqrt()[~torch.eye(4, dtype=torch.bool)]
    assert bool(((off - common).abs() < 5 * error).all())


@pytest.mark.parametrize("local", [False, True])
def test_draws_of_the_horseshoes_sites(local: bool) -> None:
    """What the guide composes has the same distribution, drawn for each example or not."""
    made = scale("horseshoe")
    assert isinstance(made, HorseshoeScale)
    if local:
        with local_reparam():
            z = made()
        assert isinstance(z, UndrawnScale)
        logs = z.draws(20_000).log().detach()
    else:
        logs = torch.stack([made().detach() for _ in range(2000)]).log()
    m, v = (t.detach()[0] for t in made.log_moments())
    for g in range(4):
        assert st.kstest(logs[:, g].numpy(), st.norm(float(m[g]), float(v[g]) ** 0.5).cdf).pvalue > 1e-4
    common = 0.25 * made.layer().log_var.exp().sum().detach()
    off = torch.cov(logs.T)[~torch.eye(4, dtype=torch.bool)]
    error = ((v[:, None] * v + common**2) / len(logs)).sqrt()[~torch.eye(4, dtype=torch.bool)]
    assert bool(((off - common).abs() < 5 * error).all())


def test_kl_of_log_uniform_scales() -> None:
    made = scale("log-uniform")
    torch.testing.assert_close(made.kl(SHAPE).detach(), kl_log_uniform(-made.relevance()).sum())


def test_kl_of_horseshoe_scales() -> None:
    """Of the layer's two factors and of each group's, against the registered KLs of torch's distributions."""
    made = scale("horseshoe")
    assert isinstance(made, HorseshoeScale)
    half, one = torch.tensor(0.5), torch.tensor(1.0)
    gamma, layer_gamma = torch.distributions.Gamma(half, one), torch.distributions.Gamma(half, torch.tensor(100.0))
    inverse = torch.distributions.InverseGamma(half, one)
    s, z = made.layer(), made.group()

    def factor(q: LogNormal, i: int) -> torch.distributions.LogNormal:
        return torch.distributions.LogNormal(q.loc[..., i], (0.5 * q.log_var[..., i]).exp())

    expected = sum(
        kl_divergence(factor(q, 0), g).sum() + kl_divergence(factor(q, 1), inverse).sum()
        for q, g in ((s, layer_gamma), (z, gamma))
    )
    torch.testing.assert_close(made.kl(SHAPE), expected)
    assert float(kl_divergence(s.to_event(1), HalfCauchyProduct(0.1)).detach()) < float(made.kl(SHAPE).detach())


def test_price_of_gates() -> None:
    gate = scale("gate")
    assert isinstance(gate, Gate)
    # each gate has three weights behind it
    torch.testing.assert_close(gate.kl(SHAPE), 0.3 * 3 * gate.open().sum())
    torch.testing.assert_close(gate.kl(torch.Size([7, 4])), 0.3 * 7 * gate.open().sum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_for_good_and_costs_nothing(kind: str) -> None:
    made = scale(kind)
    assert made.keep is None
    whole = made.kl(SHAPE).detach()
    mask = KEEP.clone()
    made.freeze(mask)
    mask.fill_(False)  # the family has its own
    made.freeze(torch.tensor([[True, True, False, True]]))
    alive = torch.tensor([[True, False, False, True]])
    assert made.frozen is not None and torch.equal(made.frozen, alive)
    assert made.keep is not None and torch.equal(made.keep, alive[0])
    assert torch.equal(made.relevance() == -torch.inf, ~alive)
    kl = made.kl(SHAPE)
    assert float(kl.detach()) < float(whole)
    kl.backward()
    for name, tensor in made.tensors().items():
        assert tensor.grad is not None, name
        assert bool((tensor.grad[~alive] == 0).all()) and bool((tensor.grad[alive] != 0).all())
    z = values(made, 5)
    gone = 1.0 * (kind == "horseshoe")  # there the weights are 0, and the layer's scale is left
    if kind == "horseshoe":
        assert bool((z[:, 1] == z[:, 2]).all()) and gone
    else:
        assert bool((z[:, ~alive[0]] == 0).all())


def test_a_mask_shuts_gates() -> None:
    gate = scale("gate")
    assert isinstance(gate, Gate)
    gate.freeze(KEEP)
    for answer in (gate.open(), gate.mean(), gate.variance()):
        assert bool((answer[~KEEP] == 0).all()) and bool((answer[KEEP] > 0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_have_the_groups_axis(kind: str) -> None:
    made = scale(kind)
    tensors = made.tensors()
    assert all(t.shape == (1, 4) for t in tensors.values())
    own = dict(made.named_parameters())
    assert all(own[name] is t for name, t in tensors.items())
    # what is left out belongs to the whole layer
    assert set(own) - set(tensors) == ({"layer_loc", "layer_log_var"} if kind == "horseshoe" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_sites_of_the_guide_are_those_of_the_prior(kind: str) -> None:
    made = scale(kind)
    guide = poutine.trace(made).get_trace()
    model = poutine.trace(made._prior[0].sample).get_trace("fc1.weight", SHAPE)
    latent = [n for n in model.nodes if n.startswith("fc1.scale")]
    assert list(made.posteriors()) == [n for n in guide.nodes if n.startswith("fc1.scale")] == latent
    for name in latent:
        q, p = guide.nodes[name]["fn"], model.nodes[name]["fn"]
        assert q.event_shape == p.event_shape and q.batch_shape == p.batch_shape == ()
        assert guide.nodes[name]["infer"]["per_example"] is True
    total = sum(kl_divergence(guide.nodes[n]["fn"], model.nodes[n]["fn"]) for n in latent)
    torch.testing.assert_close(made.kl(SHAPE), total)


@pytest.mark.parametrize("kind", KINDS)
def test_per_example_is_an_option(kind: str) -> None:
    made = scale(kind, per_example=False)
    with local_reparam():
        z = made()
    # of Gaussian scales local reparameterisation makes an undrawn weight: one draw for all examples as well
    assert not isinstance(z, UndrawnScale) and z.shape == (4,)


@pytest.mark.parametrize("kind", KINDS)
def test_state_with_and_without_a_mask(kind: str) -> None:
    masked, other = scale(kind), scale(kind)
    masked.freeze(KEEP)
    other.load_state_dict(deepcopy(masked.state_dict()))
    assert other.frozen is not None and torch.equal(other.frozen, KEEP)
    torch.testing.assert_close(other.kl(SHAPE), masked.kl(SHAPE))
    other.load_state_dict(scale(kind).state_dict())
    assert other.frozen is None


@pytest.mark.parametrize("kind", KINDS)
def test_answers_carry_no_gradient(kind: str) -> None:
    made = scale(kind)
    assert not any(a.requires_grad for a in (made.mean(), made.variance(), made.relevance()))
    assert made.kl(SHAPE).requires_grad


def test_gates_of_single_weights() -> None:
    prior = L0(0.3, groups="weight").at(Site("fc1.weight", "fc1", SHAPE, 0, 1), nn.Linear(4, 3))
    gate = Gate("fc1.weight", prior, torch.ones(SHAPE))
    assert gate.log_alpha.shape == SHAPE and gate.elements().batch_shape == SHAPE
    torch.testing.assert_close(gate.kl(SHAPE), 0.3 * gate.open().sum())
    assert gate.infer == {"per_example": False}
    with local_reparam():
        assert gate().shape == SHAPE
    assert np.isfinite(values(gate, 3).numpy()).all()
