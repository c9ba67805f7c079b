"""Families of groups: every question against its closed form, the ELBO of the pair, and small fits from end to end."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

import pyrosparse as ps
from pyrosparse import SparseELBO, SparseModel, guides
from pyrosparse.data import TensorLoader
from pyrosparse.distributions import kl_log_uniform
from pyrosparse.errors import NetworkError, PriorError
from pyrosparse.guides import AutoSparse, Criterion, DropoutFamily, Family, GroupFamily, PointFamily, register_family
from pyrosparse.guides.family import _FAMILIES
from pyrosparse.guides.scale import Gate, HorseshoeScale
from pyrosparse.likelihoods import Categorical, Gaussian
from pyrosparse.models import mlp
from pyrosparse.poutine import Scaled, local_reparam
from pyrosparse.priors import ARD, L0, GroupHorseshoe, GroupLogUniform, GroupPrior, LogUniform, Prior
from tests.infer.cases import Interrupted, convolutional, pair, pictures

PRIORS: dict[str, Callable[..., GroupPrior]] = {
    "GNJ": GroupLogUniform,
    "GHS": GroupHorseshoe,
    "L0": L0,
    "L0 normal": lambda **o: L0(slab="normal", **o),
    "GNJ and log-uniform": lambda **o: GroupLogUniform(individual=LogUniform(), **o),
    "GHS and ARD": lambda **o: GroupHorseshoe(individual=ARD(), **o),
    "L0 and log-uniform": lambda **o: L0(slab="normal", individual=LogUniform(), **o),
}
BOTH = [name for name in PRIORS if "and" in name]
every_prior = pytest.mark.parametrize("name", PRIORS)
NETWORKS: dict[str, Callable[[], nn.Module]] = {"linear": lambda: mlp((6, 5, 3)), "convolutional": convolutional}


def examples(network: str, count: int = 12) -> tuple[Tensor, Tensor]:
    if network == "convolutional":
        x, y = pictures()
        return x[:count], y[:count]
    return torch.randn(count, 6), torch.arange(count) % 3


def made(name: str, network: str = "linear", *, moved: bool = True, **options: Any) -> tuple[SparseModel, AutoSparse]:
    """A model and its guide, whose parameters have moved away from where they start."""
    prior = {k: v for k, v in options.items() if k in {"groups", "per_example"}}
    rest = {k: v for k, v in options.items() if k not in prior}
    model = SparseModel(NETWORKS[network](), PRIORS[name](**prior), Categorical(num_data=50))
    guide = AutoSparse(model, log_var=-3.0, **rest)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * moved * torch.randn_like(parameter))
    return model, guide


def family_of(name: str, network: str = "linear", site: str | None = None, **options: Any) -> GroupFamily:
    _, guide = made(name, network, **options)
    found = guide.families[site or {"linear": "fc1.weight", "convolutional": "conv1.weight"}[network]]
    assert isinstance(found, GroupFamily)
    return found


# what a family answers


@every_prior
def test_the_means_start_at_the_networks_weights(name: str) -> None:
    """Times e^{v/2} of the horseshoe's scales, and of gates what is open at test time."""
    for network, layer in (("linear", "fc1"), ("convolutional", "conv1"), ("convolutional", "fc1")):
        model, guide = made(name, network, moved=False)
        family = guide.families[f"{layer}.weight"]
        assert isinstance(family, GroupFamily)
        weight = model.network.get_parameter(f"{layer}.weight")
        if isinstance(family.scale, Gate):
            torch.testing.assert_close(family.mean(), weight * family.scale.mean())
            assert float((family.scale.mean() - 0.5).abs().max()) < 0.02
        else:
            factor = math.exp(0.5 * math.exp(-4)) if isinstance(family.scale, HorseshoeScale) else 1.0
            torch.testing.assert_close(family.mean(), factor * weight)
            # weights of unit size under the scales
            size = family.weights.mean().square().mean([i for i in range(weight.dim()) if i != family.axis])
            torch.testing.assert_close(size, torch.ones_like(size))


@pytest.mark.parametrize("name", ["GNJ", "GHS"])
@pytest.mark.parametrize("whole", [False, True])
def test_groups_of_zeros_have_a_start_too(name: str, whole: bool) -> None:
    network = mlp((6, 5, 3))
    with torch.no_grad():
        network.fc1.weight[:, slice(None) if whole else slice(2)] = 0  # type: ignore[index]
    guide = AutoSparse(SparseModel(network, PRIORS[name](), Categorical(num_data=50)))
    family = guide.families["fc1.weight"]
    assert isinstance(family, GroupFamily)
    assert bool(family.scale.mean().isfinite().all()) and bool((family.scale.mean() > 0).all())
    assert bool((family.mean()[:, :2] == 0).all()) and family.kl().isfinite()


@every_prior
def test_moments_are_those_of_the_product(name: str) -> None:
    """w = z w̃ with independent factors, whose draws agree within 5.5 standard errors."""
    for network in NETWORKS:
        family = family_of(name, network)
        z, var_z = family.scale.expected(), family.scale.variance()
        mu, var = family.weights.mean(), family.weights.std().square()
        torch.testing.assert_close(family.mean(), family.scale.mean() * mu)  # a gate at test time
        torch.testing.assert_close(family.std().square(), z**2 * var + var_z * mu**2 + var_z * var)
        n = 60_000
        draws = family.draws(n, torch.arange(mu.numel())).double()
        mean, std = (z * mu).flatten(), family.std().flatten()
        assert float(((draws.mean(0) - mean) / (std / n**0.5)).abs().max()) < 5.5
        spread = (draws - mean).square()
        assert float(((spread.mean(0) - std**2) / (spread.std(0) / n**0.5)).abs().max()) < 5.5


@pytest.mark.parametrize("groups", ["input", "output", "weight"])
def test_draws_of_gated_points(groups: str) -> None:
    """A weight is off as often as its gate is shut; weights of one group go on and off together."""
    family = family_of("L0", groups=groups)
    n = 20_000
    draws = family.draws(n, torch.arange(30)).reshape(n, 5, 6)
    open_ = family.presence().expand(5, 6)
    share = (draws != 0).float().mean(0)
    assert float(((share - open_).abs() / (open_ * (1 - open_) / n).sqrt()).max()) < 5.5
    spread = (draws - draws.mean(0)).square()
    assert float(((spread.mean(0) - family.std() ** 2) / (spread.std(0) / n**0.5 + 1e-12)).abs().max()) < 5.5
    if groups != "weight":
        on = (draws != 0).movedim({"input": 2, "output": 1}[groups], 1).flatten(2)
        assert bool((on == on[..., :1]).all())
    chosen = family.draws(4, torch.tensor([7, 0, 29]))
    assert chosen.shape == (4, 3)


@every_prior
def test_as_many_draws_as_groups(name: str) -> None:
    family = family_of(name)
    draws = torch.cat([family.draws(6, torch.arange(30)) for _ in range(2000)])
    if isinstance(family.scale, Gate):
        assert draws.shape == (12_000, 30)
        return
    error = family.std().flatten() / 12_000**0.5
    assert float(((draws.mean(0) - family.mean().flatten()) / error).abs().max()) < 5.5


@every_prior
@pytest.mark.parametrize("network", NETWORKS)
def test_relevance_and_what_is_kept(name: str, network: str) -> None:
    family = family_of(name, network)
    shape, axis = family.mean().shape, family.axis
    assert axis == {"linear": 1, "convolutional": 0}[network]
    of_group = family.scale.relevance().expand(shape)
    assert family.relevance().shape == shape
    if not family.decides:
        assert torch.equal(family.relevance(), of_group)
    else:
        assert isinstance(family.weights, DropoutFamily)
        log_alpha = family.weights.log_var - (family.weights.loc.square() + 1e-16).log()
        torch.testing.assert_close(family.relevance(), torch.minimum(of_group, -log_alpha.detach()))
    for threshold in (-2.0, 0.0, 3.0):
        assert torch.equal(family.keep(threshold), family.relevance() >= -threshold)
    assert not family.relevance().requires_grad


@pytest.mark.parametrize("name", BOTH)
def test_a_weight_is_kept_if_its_group_and_itself_are(name: str) -> None:
    family = family_of(name)
    assert isinstance(family.weights, DropoutFamily)
    dead_group, dead_weight = torch.zeros(5, 6, dtype=torch.bool), torch.zeros(5, 6, dtype=torch.bool)
    dead_group[:, 4] = True
    dead_weight[1, 2] = True
    with torch.no_grad():
        family.weights.loc.fill_(1.0)
        family.weights.log_var.fill_(-4.0).masked_fill_(dead_weight, 9.0)
        if isinstance(family.scale, Gate):
            family.scale.log_alpha.fill_(2.0)[0, 4] = -9.0
        elif isinstance(family.scale, HorseshoeScale):
            family.scale.alpha_loc.fill_(2.0)[0, 4] = -9.0
        else:
            family.scale.tensors()["log_var"].copy_(2 * family.scale.tensors()["log_loc"] - 4)[0, 4] += 12.0
    assert torch.equal(family.keep(), ~(dead_group | dead_weight))
    alone = ~dead_weight if isinstance(family.scale, Gate) else family.keep()
    assert torch.equal(family.presence() > 0, alone)


@every_prior
def test_presence(name: str) -> None:
    """A probability of gates; of others whether a weight is kept. A mask counts in both."""
    for criterion in Criterion:
        family = family_of(name, criterion=criterion)
        mask = torch.rand(5, 6) > 0.3
        mask[:, 1] = False
        for masked in (False, True):
            left = mask if masked else torch.ones_like(mask)
            if masked:
                family.freeze(mask)
            present = family.presence().expand(5, 6)
            assert bool((present[~left] == 0).all()) and not present.requires_grad
            if not isinstance(family.scale, Gate):
                assert torch.equal(present, family.keep().float())
            elif not family.decides:
                expected = torch.sigmoid(family.scale.log_alpha - 2 / 3 * math.log(0.1 / 1.1)).detach()
                torch.testing.assert_close(present, expected.expand(5, 6) * left)


@every_prior
def test_a_mask_is_for_good(name: str) -> None:
    for network in NETWORKS:
        family = family_of(name, network)
        mask = torch.rand_like(family.mean()) > 0.4
        mask.select(family.axis or 0, 2).fill_(False)
        mask.select(family.axis or 0, 0).flatten()[0] = True
        family.freeze(mask)
        again = torch.rand_like(family.mean()) > 0.1
        again.select(family.axis or 0, 0).fill_(True)
        family.freeze(again)
        alive = mask & again
        assert torch.equal(family.mean() != 0, alive)
        assert bool((family.std()[~alive] == 0).all())
        assert torch.equal(family.relevance() == -torch.inf, ~alive)
        assert not bool(family.keep(1e9)[~alive].any())
        draws = family.draws(50, torch.arange(mask.numel()))
        assert bool((draws[:, ~alive.flatten()] == 0).all())
        assert bool((family.distribution().rsample()[~alive] == 0).all())
        # groups without a weight are gone, with their price
        others = [i for i in range(mask.dim()) if i != family.axis]
        assert family.scale.frozen is not None
        assert torch.equal(family.scale.frozen, alive.any(dim=others, keepdim=True))
        family.kl().backward()
        for key, tensor in family.weight_tensors().items():
            if tensor.grad is not None:
                assert bool((tensor.grad.expand(mask.shape)[:, 2 if family.axis == 1 else 0].isfinite()).all()), key
                gone = tensor.grad.select(family.axis or 0, 2)
                assert bool((gone == 0).all()), key


@every_prior
@pytest.mark.parametrize("network", NETWORKS)
def test_tensors_that_live_shrinking_cuts(name: str, network: str) -> None:
    family = family_of(name, network)
    parameters = set(dict(family.named_parameters()))
    if isinstance(family.scale, HorseshoeScale):
        parameters -= {"scale.layer_loc", "scale.layer_log_var"}
    tensors = family.weight_tensors()
    own = dict(family.named_parameters())
    assert {k.removeprefix("weights.") for k in parameters} == set(tensors)
    assert all(any(t is p for p in own.values()) for t in tensors.values())
    family.freeze(torch.ones_like(family.mean(), dtype=torch.bool))
    assert set(family.weight_tensors()) == set(tensors) | {"frozen", "scale.frozen"}
    for tensor in family.weight_tensors().values():
        assert tensor.dim() == family.mean().dim()
        assert torch.broadcast_shapes(tensor.shape, family.mean().shape) == family.mean().shape


def test_the_kl_in_closed_form() -> None:
    """Of the log-uniform scales and N(0, 1) weights, of gated points, and of gated Gaussians."""
    gnj = family_of("GNJ")
    mu, var = gnj.weights.mean(), gnj.weights.std().square()
    gaussian = 0.5 * (mu**2 + var - 1 - var.log())
    torch.testing.assert_close(gnj.kl().detach(), kl_log_uniform(-gnj.scale.relevance()).sum() + gaussian.sum())
    for name in ("L0", "L0 normal"):
        family = family_of(name)
        assert isinstance(family.scale, Gate)
        open_ = family.scale.open().detach()
        mu, var = family.weights.mean(), family.weights.std().square()
        cost = 0.5 * 5e-4 * mu**2 if name == "L0" else 0.5 * (mu**2 + var - 1 - var.log())
        torch.testing.assert_close(family.kl().detach(), (open_ * (0.1 + cost)).sum())


# the ELBO of the pair


@every_prior
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_kl_is_that_of_the_pairs_sites(name: str, network: str, masked: bool) -> None:
    model, guide = made(name, network)
    if masked:
        for family in guide.families.values():
            family.freeze(torch.rand_like(family.mean()) > 0.3)
    terms = SparseELBO().terms(model, guide, *examples(network))
    assert set(terms.kl) == {site for family in guide.families.values() for site in family.sites}
    for site, family in guide.families.items():
        layer = site.removesuffix(".weight")
        scales = [f"{layer}.scale.layer", f"{layer}.scale.group"] if "GHS" in name else [f"{layer}.scale"]
        assert family.sites == (site, *scales)
        assert list(family.hidden()) == scales
        torch.testing.assert_close(sum(terms.kl[s] for s in family.sites), family.kl().detach())


@every_prior
@pytest.mark.parametrize("local", [True, False], ids=["local", "weights"])
def test_pyros_elbo_is_the_same(name: str, local: bool) -> None:
    model, guide = made(name)
    x, y = examples("linear")
    drawn = local_reparam(guide) if local else guide
    found = []
    for elbo in (SparseELBO(), TraceMeanField_ELBO()):
        guide.zero_grad()
        pyro.set_rng_seed(7)
        loss = elbo.differentiable_loss(model, drawn, x, y)
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in guide.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert len(found[0][1]) == len(list(guide.parameters()))


@every_prior
def test_no_part_of_the_kl_is_estimated_by_draws(name: str) -> None:
    """Without data the loss is the KL, whatever the seed, and no warning says otherwise."""
    model, guide = made(name)
    expected = sum(float(f.kl().detach()) for f in guide.families.values())
    for elbo in (SparseELBO(), TraceMeanField_ELBO()):
        for seed in (1, 2):
            pyro.set_rng_seed(seed)
            assert elbo.loss(model.weights, guide) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["GNJ", "GHS", "L0", "L0 normal"])
def test_the_expected_likelihood_does_not_depend_on_how_draws_are_made(name: str) -> None:
    """E log N(y; Wx, 1) of an example, from draws of weights, of one scale a batch, and of scales for each example."""
    x, y = torch.randn(6), torch.randn(4)
    model = SparseModel(nn.Linear(6, 4), PRIORS[name](), Gaussian(num_data=20))
    guide = AutoSparse(model, log_var=-1.0)
    family = guide.families["weight"]
    assert isinstance(family, GroupFamily)
    with torch.no_grad():
        for key, parameter in family.scale.named_parameters():
            parameter.add_(2.5 if "log_var" in key else 0.3 * torch.randn_like(parameter))
        n = 40_000
        of_weights = family.draws(n, torch.arange(24)).reshape(n, 4, 6) @ x
        weight = local_reparam(guide)()["weight"]
        for_examples = torch.nn.functional.linear(x.expand(n, 6), weight)
        model.prior_of("weight").per_example = False  # type: ignore[assignment]
        drawn = [torch.nn.functional.linear(x.expand(2, 6), local_reparam(guide)()["weight"])[0] for _ in range(700)]

    def estimate(outputs: Tensor) -> tuple[float, float]:
        values = -0.5 * (outputs - y).square().sum(1)
        return float(values.mean()), float(values.std()) / len(values) ** 0.5

    a, error = estimate(of_weights)
    for outputs in (for_examples, torch.stack(drawn)):
        b, other = estimate(outputs)
        assert abs(a - b) < 5 * math.hypot(error, other)
    assert error < 0.02 * abs(a)  # the comparison has teeth


@pytest.mark.parametrize("network", NETWORKS)
@every_prior
def test_each_example_has_scales_of_its_own(name: str, network: str) -> None:
    x = torch.ones(8, 6) if network == "linear" else torch.ones(8, 1, 4, 4)
    for per_example in (True, False):
        model, guide = made(name, network, per_example=per_example)
        with torch.no_grad():
            weights = local_reparam(guide)()
            assert isinstance(weights["fc1.weight"], Scaled) == per_example
            if name == "L0":  # points: nothing else tells the examples apart
                first = next(iter(model.sites.values())).layer
                out = torch.func.functional_call(
                    model.network.get_submodule(first), {"weight": weights[f"{first}.weight"]}, (x,)
                )
                assert bool((out == out[:1]).all()) != per_example


def test_scales_of_single_weights() -> None:
    model, guide = made("L0", "convolutional", groups="weight")
    for family in guide.families.values():
        assert isinstance(family, GroupFamily) and family.axis is None
        assert family.scale.mean().shape == family.mean().shape
        mask = torch.rand_like(family.mean()) > 0.5
        family.freeze(mask)
        assert torch.equal(family.scale.frozen, mask)
    x, y = examples("convolutional")
    with torch.no_grad():
        out = SparseELBO().terms(model, local_reparam(guide), x, y)
    for family in guide.families.values():
        torch.testing.assert_close(sum(out.kl[s] for s in family.sites), family.kl().detach())


# the guide


def test_which_groups_a_layer_gets() -> None:
    _, guide = made("GNJ", "convolutional")
    axes = {site: f.axis for site, f in guide.families.items() if isinstance(f, GroupFamily)}
    assert axes == {"conv1.weight": 0, "fc1.weight": 1, "fc2.weight": 1}
    _, guide = made("L0", "convolutional")
    assert isinstance(guide.families["fc1.weight"], GroupFamily)
    assert isinstance(guide.families["fc1.weight"].weights, PointFamily)


def test_statistics_for_tables() -> None:
    names = {name: family_of(name).statistic for name in ("GNJ", "GHS", "L0")}
    assert len(set(names.values())) == 3
    assert family_of("GNJ", criterion="information").statistic not in set(names.values())


@pytest.mark.parametrize("name", ["GNJ", "GHS", "L0 normal"])
def test_what_is_known_of_a_group(name: str) -> None:
    """Kept at threshold 3 is what has at least 2 nats, Σ log(1 + μ²/σ²)/2 over the weights of the group."""
    _, guide = made(name, criterion="information")
    family = guide.families["fc1.weight"]
    assert isinstance(family, GroupFamily) and family.criterion is Criterion.INFORMATION
    with torch.no_grad():
        if isinstance(family.scale, Gate):
            family.scale.log_alpha.fill_(4.0)
        family.weights.loc.mul_(torch.tensor([1e-3, 0.1, 1.0, 4.0, 1e-6, 0.3]))
    nats = 0.5 * torch.log1p((family.mean() / family.std()).square()).sum(0)
    assert torch.equal(family.keep().all(0), nats >= 2) and torch.equal(family.keep().any(0), nats >= 2)
    assert 0 < int(family.keep().sum()) < 30
    torch.testing.assert_close(family.keep(1.0).all(0), nats >= 2 * math.exp(2.0))
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[:, 3] = False
    family.freeze(mask)
    assert not bool(family.keep(1e9)[:, 3].any()) and not bool(family.relevance().isnan().any())


def test_criteria_are_known() -> None:
    for bad in ("scales", None, ["scale"]):
        with pytest.raises(PriorError, match="AutoSparse: criterion=.* is unknown.*known: information, scale"):
            made("GNJ", criterion=bad)
    assert isinstance(made("GNJ", criterion=Criterion.SCALE)[1], AutoSparse)


@pytest.mark.parametrize("name", ["GNJ", "GHS", "L0 normal", "GNJ and log-uniform"])
@pytest.mark.parametrize("cap", [0.05, {"fc1": 0.05}, {"fc*": 0.3, "fc1": 0.05}])
def test_caps_hold_after_every_step(name: str, cap: Any) -> None:
    model, guide = made(name, max_std=cap)
    x, y = torch.randn(50, 6), torch.arange(50) % 3
    ps.fit(model, guide, TensorLoader(x, y, 25), epochs=3, lr=0.05, device="cpu", progress=False, shrink_every=0)
    limits = {"fc1.weight": 0.05, "fc2.weight": 0.05 if cap == 0.05 else 0.3 if len(cap) == 2 else math.inf}
    for site, limit in limits.items():
        family = guide.families[site]
        assert isinstance(family, GroupFamily) and family.max_std == (None if limit == math.inf else limit)
        assert float(family.weights.std().max()) <= limit * (1 + 1e-5)
    fc1 = guide.families["fc1.weight"]
    assert isinstance(fc1, GroupFamily)
    assert float(fc1.weights.std().max()) == pytest.approx(0.05, rel=1e-4)  # where it would go up, it stays
    fc1.kl().backward()
    assert isinstance(fc1.weights, DropoutFamily) and fc1.weights.log_var.grad is not None


def test_caps_of_single_weights() -> None:
    model = SparseModel(mlp((6, 5, 3)), LogUniform(), Categorical(num_data=50))
    guide = AutoSparse(model, log_var=0.0, max_std=0.2)
    guide()
    assert float(guide.families["fc2.weight"].std().max()) == pytest.approx(0.2)


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan, math.inf, {"fc1": 0.0}, {"fc1": "0.2"}])
def test_caps_must_be_positive(cap: Any) -> None:
    with pytest.raises(PriorError, match=r"max_std\[.*\] is .*; give a positive number"):
        made("GNJ", max_std=cap)


def test_caps_must_fit_a_layer_that_has_one() -> None:
    with pytest.raises(NetworkError, match=r"max_std\['fc9'\] fits no layer.*did you mean 'fc"):
        made("GNJ", max_std={"fc9": 0.1})


ONE_PRIOR = {
    guides.GroupNormalJeffreys: GroupLogUniform,
    guides.GroupHorseshoe: GroupHorseshoe,
    guides.L0: L0,
}


@pytest.mark.parametrize("guide", ONE_PRIOR)
def test_single_methods_refuse_others(guide: type[AutoSparse]) -> None:
    own = ONE_PRIOR[guide]
    assert isinstance(guide(SparseModel(mlp((4, 3)), own(), Categorical(num_data=10)), max_std=0.2), AutoSparse)
    for other in [*ONE_PRIOR.values(), LogUniform, ARD]:
        if other is not own:
            model = SparseModel(mlp((4, 3)), own(), Categorical(num_data=10), priors={"fc1": other()})
            message = rf"{guide.__name__}: site 'fc1.weight' has the prior {other.__name__}.*use AutoSparse for mixed"
            with pytest.raises(PriorError, match=message):
                guide(model)


def test_methods_mix_from_layer_to_layer() -> None:
    x, y = examples("convolutional")
    mixed = {"fc1": GroupHorseshoe(), "fc2": LogUniform()}
    model = SparseModel(convolutional(), L0(), Categorical(num_data=50), priors=mixed)
    guide = AutoSparse(model)
    terms = SparseELBO().terms(model, local_reparam(guide), x, y)
    for family in guide.families.values():
        torch.testing.assert_close(sum(terms.kl[s] for s in family.sites), family.kl().detach())


def test_single_weights_need_a_gaussian_posterior() -> None:
    class Mine(LogUniform):
        pass

    class MyFamily(PointFamily):
        def __init__(self, site: str, prior: Prior, weight: Tensor, log_var: float) -> None:
            super().__init__(site, prior, weight)

    register_family(Mine)(MyFamily)
    try:
        for prior in (GroupLogUniform(individual=Mine()), L0(slab="normal", individual=Mine())):
            model = SparseModel(mlp((4, 3)), prior, Categorical(num_data=10))
            with pytest.raises(PriorError, match="'fc1.weight'.*need a DropoutFamily.*prior Mine has a MyFamily"):
                AutoSparse(model)
    finally:
        del _FAMILIES[Mine]


@every_prior
def test_state_with_and_without_masks(name: str) -> None:
    _, masked = made(name)
    _, other = made(name)
    _, plain = made(name)
    for family in masked.families.values():
        family.freeze(torch.rand_like(family.mean()) > 0.4)
    other.load_state_dict(deepcopy(masked.state_dict()))
    for site, family in masked.families.items():
        same = other.families[site]
        for a, b in ((family.mean(), same.mean()), (family.std(), same.std()), (family.relevance(), same.relevance())):
            assert torch.equal(a, b)
        torch.testing.assert_close(family.kl(), same.kl())
    other.load_state_dict(plain.state_dict())
    for site, family in plain.families.items():
        same = other.families[site]
        assert isinstance(same, GroupFamily) and same.scale.frozen is None and same.weights.frozen is None
        assert torch.equal(family.mean(), same.mean())


@every_prior
def test_everything_in_double_precision(name: str) -> None:
    model, guide = made(name, "convolutional")
    model, guide = model.double(), guide.double()
    x, y = examples("convolutional")
    loss = SparseELBO().differentiable_loss(model, local_reparam(guide), x.double(), y)
    loss.backward()
    assert loss.dtype == torch.float64
    assert all(f.kl().dtype == torch.float64 for f in guide.families.values())


def test_a_weight_at_two_places_has_one_draw() -> None:
    """Tied weights get real draws, their scales too, when every site of the family is left out."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    model = SparseModel(network, L0(), Gaussian(num_data=10))
    guide = AutoSparse(model)
    sites = [name for site in model.tied for name in guide.families[site].sites]
    assert sites == ["0.weight", "0.scale"]
    weight = local_reparam(guide, exclude=sites)()["0.weight"]
    assert type(weight) is Tensor


# fits from end to end


def regression() -> tuple[Tensor, Tensor]:
    """300 examples: of ten inputs the third and the eighth matter, for three outputs with noise of 0.5.

    The noise has no correlation with any input in this very sample, so that no other input seems to matter.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 10, generator=generator)
    noise = 0.5 * torch.randn(300, 3, generator=generator)
    noise -= x @ torch.linalg.lstsq(x, noise).solution
    return x, x[:, [2]] * torch.tensor([1.5, -1.5, 0.7]) + x[:, [7]] * torch.tensor([-1.0, -1.0, 1.0]) + noise


FITS: dict[str, tuple[Callable[[], GroupPrior], dict[str, Any]]] = {
    "GHS": (GroupHorseshoe, {}),
    "L0": (lambda: L0(1.0), {}),
    "L0 normal": (lambda: L0(1.0, slab="normal"), {}),
    "GNJ": (GroupLogUniform, {"epochs": 300, "lr_scale": 0.2}),
    "GNJ and log-uniform": (lambda: GroupLogUniform(individual=LogUniform()), {"epochs": 300, "lr_scale": 0.2}),
}
QUICK = {"GHS", "L0 normal"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in FITS])
def test_a_fit_finds_the_inputs_that_matter(name: str) -> None:
    prior, options = FITS[name]
    settings = {"epochs": 200, "lr": 0.02, "lr_log_var": 0.05, "lr_scale": 0.05} | options
    x, y = regression()
    network = nn.Sequential(nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 3))
    model = SparseModel(network, prior(), Gaussian(num_data=300, scale=0.5))
    guide = AutoSparse(model)
    ps.fit(model, guide, TensorLoader(x, y, 100), device="cpu", progress=False, shrink_every=1, **settings)
    # cut while it was trained
    assert model.kept["0"][1].tolist() == [2, 7]
    family = guide.families["0.weight"]
    assert isinstance(family, GroupFamily)
    assert family.mean().shape[1] == 2 and all(t.shape[1] == 2 for t in family.scale.tensors().values())
    small = ps.prune(model, guide)
    assert small.kept["0"][1].tolist() == [2, 7]
    assert small.report.difference is not None and small.report.difference <= 1e-4
    error = (small.network(x).detach() - y).square().mean().sqrt()
    least_squares = (x @ torch.linalg.lstsq(x, y).solution - y).square().mean().sqrt()
    assert float(error) < 1.25 * float(least_squares)


@pytest.mark.parametrize("name", ["GNJ", "GHS", "L0"])
@pytest.mark.parametrize("network", NETWORKS)
def test_pruning_without_shrinking_is_proved(name: str, network: str) -> None:
    """Groups that were made irrelevant by hand go for real, and the outputs stay what they were."""
    model, guide = made(name, network)
    x, y = examples(network)
    SparseELBO().loss(model, guide, x, y)  # the model sees the shape of its inputs
    for family in guide.families.values():
        assert isinstance(family, GroupFamily)
        last = family.scale.tensors()[{"GNJ": "log_loc", "GHS": "alpha_loc", "L0": "log_alpha"}[name]]
        with torch.no_grad():
            last.select(family.axis or 0, 1).fill_(-30.0)
    small = ps.prune(model, guide)
    assert small.report.difference is not None and small.report.difference <= 1e-4
    assert small.kept["fc1"][1].numel() < model.network.get_submodule("fc1").in_features
    if network == "convolutional":
        assert small.kept["conv1"][0].numel() == 5
    table = ps.summarize(model, guide)
    assert table.kept == sum(int(f.keep().sum()) for f in guide.families.values())
    assert table.kl_bits == pytest.approx(
        sum(float(f.kl().detach()) for f in guide.families.values()) / math.log(2), rel=1e-4
    )


# as tests/infer/test_resume.py has it, for one method with dead groups from the start


def dying(prior: Callable[[], GroupPrior]) -> tuple[SparseModel, AutoSparse]:
    model, guide = pair(prior=prior())
    with torch.no_grad():
        for site, groups in (("fc1.weight", [0]), ("fc2.weight", [1, 2, 5]), ("fc3.weight", [3])):
            family = guide.families[site]
            assert isinstance(family, GroupFamily)
            tensors = family.scale.tensors()
            dead = tensors.get("alpha_loc", tensors.get("log_alpha", tensors.get("log_loc")))
            assert dead is not None
            dead[:, groups] = -30.0
    return model, guide


def run(folder: Path, both: tuple[SparseModel, AutoSparse], *, after: int | None = None, **options: Any) -> ps.Fit:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    loader: Any = TensorLoader(x, x[:, :3].argmax(1), 20)
    settings = {"epochs": 6, "lr": 1e-3, "device": "cpu", "progress": False, "checkpoint": folder, "freeze_at": 0.7}
    if after is not None:
        loader = Interrupted(loader, after + 1, KeyboardInterrupt)  # the check before the run takes the first
    return ps.fit(*both, loader, **(settings | options))


def everything(both: tuple[SparseModel, AutoSparse]) -> dict[str, Tensor]:
    model, guide = both
    found = {f"model.{k}": v for k, v in model.state_dict().items()}
    found |= {f"guide.{k}": v for k, v in guide.state_dict().items()}
    return found | {f"kept.{layer}.{i}": v for layer, kept in model.kept.items() for i, v in enumerate(kept)}


@pytest.mark.parametrize("prior", [GroupHorseshoe, L0, GroupLogUniform])
def test_resumed_is_straight_bit_for_bit(tmp_path: Path, prior: Callable[[], GroupPrior]) -> None:
    pyro.set_rng_seed(42)
    straight = dying(prior)
    whole = run(tmp_path / "straight", straight)
    assert len(straight[0].kept["fc1"][0]) == 9 and len(straight[0].kept["fc2"][0]) == 7
    pyro.set_rng_seed(42)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", dying(prior), after=10)
    pyro.set_rng_seed(4711)
    resumed = dying(prior)
    again = run(tmp_path / "killed", resumed, resume=True)
    a, b = everything(straight), everything(resumed)
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]
    assert [r["loss"] for r in whole.history] == [r["loss"] for r in again.history]


def test_the_kl_of_a_family_is_torchs_for_its_distribution() -> None:
    for name in PRIORS:
        family: Family = family_of(name)
        q, p = family.distribution(), family.prior.distribution(family.mean().shape)
        scales = family.kl() - kl_divergence(q, p)
        with poutine.trace() as trace:
            family.prior.sample("fc1.weight", family.mean().shape)
        expected = sum(kl_divergence(d, trace.trace.nodes[n]["fn"]) for n, d in family.hidden().items())
        torch.testing.assert_close(scales, expected)
