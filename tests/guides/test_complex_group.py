"""Group priors on complex layers: real scales, complex weights, one draw of the scales for each example."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.func import functional_call

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse.data import TensorLoader
from pyrosparse.errors import PriorError
from pyrosparse.guides.dropout import ComplexDropoutFamily
from pyrosparse.guides.group import GroupFamily
from pyrosparse.poutine import local_reparam
from pyrosparse.priors import L0, ComplexARD, ComplexLogUniform, GroupHorseshoe, GroupLogUniform, LogUniform, Prior
from tests.complex_networks import convnet, dense, pair

PRIORS: dict[str, Callable[..., Prior]] = {
    "GNJ": GroupLogUniform,
    "GHS": lambda **o: GroupHorseshoe(1e-2, **o),
    "L0": lambda **o: L0(0.1, drop_rate=0.3, **o),
    "L0 normal": lambda **o: L0(0.1, slab="normal", drop_rate=0.3, **o),
    "GNJ and C-VD": lambda **o: GroupLogUniform(individual=ComplexLogUniform(), **o),
}
every_prior = pytest.mark.parametrize("name", PRIORS)


def family_of(name: str, **options: object) -> GroupFamily:
    _, guide = pair(dense(6, 5), (6,), prior=PRIORS[name](**options))
    family = next(iter(guide.families.values()))
    assert isinstance(family, GroupFamily)
    return family


def spread(family: GroupFamily) -> GroupFamily:
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if isinstance(family.weights, ComplexDropoutFamily):
            family.weights.log_var.fill_(-1.5)
    return family


@every_prior
@pytest.mark.parametrize("groups", ["input", "output"])
def test_moments_are_those_of_the_draws(name: str, groups: str) -> None:
    family = spread(family_of(name, groups=groups))
    if name.startswith("L0"):
        return  # the mean of a gate is the gate at test time
    n = 40_000
    draws = family.draws(n, torch.arange(30)).reshape(n, 5, 6, 2)
    mean, std = family.mean(), family.std()
    assert mean.shape == std.shape == (5, 6, 2) and family.relevance().shape == (5, 6)
    assert float(((draws.mean(0) - mean).abs() / std).max()) < 5.5 / math.sqrt(n)
    torch.testing.assert_close(draws.std(0), std, rtol=0.08, atol=0)


@every_prior
def test_the_kl_is_that_of_the_pairs_sites(name: str) -> None:
    model, guide = pair(dense(6, 5, 3), (6,), prior=PRIORS[name]())
    for family in guide.families.values():
        assert isinstance(family, GroupFamily)
        spread(family)
    x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
    elbo = ps.SparseELBO()
    elbo.differentiable_loss(model, guide, x, y)
    assert elbo.last is not None
    torch.testing.assert_close(
        elbo.last.total_kl,
        sum(f.kl() for f in guide.families.values()).detach(),
        rtol=1e-5,
        atol=0,  # type: ignore[union-attr]
    )
    site = guide.families["fc1.weight"]
    assert isinstance(site, GroupFamily)
    if name == "L0":
        # λ a number behind an open gate, and weight decay of both parts
        p = site.scale.open().detach()
        by_hand = (p * (0.1 * 10 + 0.5 * 5e-4 * site.weights.loc.detach().square().sum(-1).sum(0, keepdim=True))).sum()
        torch.testing.assert_close(site.kl().detach(), by_hand, rtol=1e-5, atol=0)
    if name == "GNJ":
        loc, log_var = site.weights.loc.detach(), site.weights.log_var.detach()
        of_weights = (log_var.exp() + loc.square().sum(-1) - 1.0 - log_var).sum()
        torch.testing.assert_close((site.kl() - site.scale.kl(torch.Size())).detach(), of_weights, rtol=1e-4, atol=1e-3)


def moments(model: ps.SparseModel, guide: Callable[..., object], x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    outputs = []
    for _ in range(n):
        with poutine.replay(trace=poutine.trace(guide).get_trace(x, None)):
            outputs.append(functional_call(model.network, model.weights(), (x,)).detach())
    stacked = torch.view_as_real(torch.stack(outputs))
    return stacked.mean(0), stacked.var(0)


@pytest.mark.parametrize("layer", ["linear", "convolution", "transposed"])
@pytest.mark.parametrize("groups", ["input", "output"])
@pytest.mark.parametrize("name", ["GNJ", "L0"])
def test_local_draws_have_the_moments_of_draws_of_weights(name: str, groups: str, layer: str) -> None:
    made: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "linear": (psnn.ComplexLinear(3, 2), (3,)),
        "convolution": (psnn.ComplexConv1d(3, 2, 2), (3, 4)),
        "transposed": (psnn.ComplexConvTranspose1d(3, 2, 2), (3, 3)),
    }
    module, shape = made[layer]
    model, guide = pair(nn.Sequential(module), shape, prior=PRIORS[name](groups=groups), complex_input=True)
    family = guide.families["0.weight"]
    assert isinstance(family, GroupFamily)
    spread(family)
    example = torch.randn(1, *shape, dtype=torch.complex64)
    many = example.expand(4000, *shape)
    with poutine.replay(trace=poutine.trace(local_reparam(guide)).get_trace(many, None)):
        drawn = functional_call(model.network, model.weights(), (many,)).detach()
    local = torch.view_as_real(drawn)
    mean, variance = moments(model, guide, example, 4000)
    error = (variance[0] + local.var(0)).sqrt() / math.sqrt(4000) + 1e-6
    assert float(((local.mean(0) - mean[0]).abs() / error).max()) < 4.5
    torch.testing.assert_close(local.var(0), variance[0], rtol=0.35, atol=1e-4)
    # each example has scales of its own
    assert float(local.var(0).min()) > 0


def test_the_door() -> None:
    with pytest.raises(PriorError, match=r"LogUniform on layer 'fc1': it serves real .* priors\.ComplexLogUniform"):
        pair(dense(4, 3), (4,), prior=GroupLogUniform(individual=LogUniform()))
    with pytest.raises(PriorError, match=r"prior ComplexARD on layer '0': .* use priors\.ARD"):
        ps.SparseModel(
            nn.Sequential(nn.Linear(4, 3)), GroupLogUniform(individual=ComplexARD()), ps.likelihoods.Categorical(1)
        )
    model, _ = pair(dense(4, 3), (4,), prior=GroupLogUniform())
    prior = model.prior_of("fc1.weight")
    assert prior.parts == 2 and isinstance(prior.individual, ComplexARD)
    mixed = ps.SparseModel(
        nn.Sequential(psnn.ToComplex(), psnn.ComplexLinear(4, 3), psnn.Modulus(), nn.Linear(3, 2)),
        GroupHorseshoe(), ps.likelihoods.Categorical(1),
    )  # fmt: skip
    assert [mixed.prior_of(site).parts for site in mixed.sites] == [2, 1]


@every_prior
def test_fit_prune_and_file(name: str, tmp_path: object) -> None:
    network = convnet()
    model, guide = pair(network, (1, 8, 8), prior=PRIORS[name]())
    loader = TensorLoader(torch.randn(64, 1, 8, 8), torch.randint(0, 3, (64,)), 32)
    fitted = ps.fit(model, guide, loader, epochs=2, freeze_at=0.5, progress=False)
    assert math.isfinite(fitted.history[-1]["loss"])
    with torch.no_grad():  # no filter of conv1 but the first two
        scale = guide.families["conv1.weight"].scale
        for parameter, shift in ((p, n) for n, p in scale.named_parameters() if "layer" not in n):
            size = {"log_loc": -9.0, "alpha_loc": -9.0, "beta_loc": -9.0, "log_alpha": -30.0}.get(shift, 0.0)
            parameter.flatten()[2:].add_(size)
    small = ps.prune(model, guide)
    assert small.network.conv1.weight.shape[0] == 2 and small.report.difference < 1e-4
    ps.save(f"{tmp_path}/net.psz", small, c=0.5)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(ps.load(f"{tmp_path}/net.psz")(x), ps.coding.quantise(small, 0.5).network(x))
    data = ps.to_arviz(model, guide, draws=20, prior=True)
    assert data.posterior["conv1.scale"].shape[:2] == (1, 20)
    assert data.posterior["conv1.weight"].shape[-1] == 2
    assert ps.summarize(model, guide).total == 2 * sum(site.shape.numel() for site in model.sites.values())


def test_scales_of_single_complex_weights() -> None:
    family = family_of("L0 normal", groups="weight")
    assert family.scale.log_alpha.shape == (5, 6)
    z = family()
    assert z.shape == (5, 6, 2)
    shut = family.mean()[0, 0].clone()
    with torch.no_grad():
        family.scale.log_alpha[0, 0] = -20.0
    assert bool(shut.all()) and not bool(family.mean()[0, 0].any())
    assert family.keep().shape == (5, 6) and not bool(family.keep()[0, 0])
