"""Steps by row and by column: sent and read back, and taken where the same error then costs less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyrosparse import coding
from pyrosparse.coding import psz
from pyrosparse.coding.content import Content
from pyrosparse.coding.groups import ROOT, Groups, worthwhile_groups
from pyrosparse.coding.precision import Plan, layer_steps, make_plan
from pyrosparse.nn import ComplexLinear
from tests.coding.networks import equal, lenet
from tests.coding.test_codecs import there_and_back


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("shape", "inner"), [((5, 7), "s"), ((5, 7), "a"), ((4, 3, 2, 2), "s"), ((6, 5, 2), "p")])
def test_groups_travel(axis: int, shape: tuple[int, ...], inner: str) -> None:
    rng = np.random.default_rng(0)
    exponents = rng.integers(-5, 6, shape[axis])
    levels = rng.integers(-2, 3, shape).astype(np.int32)
    content = Content("g", torch.float32, levels, 0.375, groups=Groups(axis, exponents), inner=inner)
    got = there_and_back(content, shape)
    steps = 0.375 * np.array([2.0 ** (e // 2) * (ROOT if e % 2 else 1.0) for e in exponents])
    expected = levels * steps.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    assert np.array_equal(got.tensor().double().numpy(), expected)


def test_the_factor_is_a_root_of_two() -> None:
    assert Groups(0, np.array([2, -4, 1, -1])).factors(2).ravel().tolist() == [2, 0.25, ROOT, ROOT / 2]
    assert ROOT == pytest.approx(2**0.5, rel=2e-4)


def spread(
    axis: int, *, by: float, seed: int = 0, shape: tuple[int, int] = (60, 80)
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Weights whose deviations differ between rows or columns, and who are as large as these say."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < 0.5
    sizes = [shape[axis] if i == axis else 1 for i in (0, 1)]
    sigma = 0.1 * torch.exp(by * torch.randn(sizes, generator=generator)) * keep
    network = nn.Sequential(nn.Linear(shape[1], shape[0], bias=False))
    network[0].weight.data = sigma * 4 * torch.randn(shape, generator=generator)
    return network, {"0.weight": sigma}


def scaled_error(network: nn.Module, sigma: dict[str, Tensor], plan: Plan) -> float:
    kept = sigma["0.weight"] > 0
    moved = plan.state()["0.weight"] - network.state_dict()["0.weight"]
    return float(((moved / sigma["0.weight"])[kept] ** 2).sum())


@pytest.mark.parametrize("axis", [0, 1])
def test_where_deviations_differ_groups_pay(axis: int) -> None:
    network, sigma = spread(axis, by=1.0)
    plan = make_plan(network, sigma, 1.0)
    content = plan.contents["0.weight"]
    assert content.codec == "g"
    assert content.groups is not None
    assert content.groups.axis == axis
    flat = replace(content, codec="s", groups=None, inner="", walk=None)
    step = 0.1 * np.median((sigma["0.weight"][sigma["0.weight"] > 0] / 0.1).numpy())
    levels = np.rint(network[0].weight.detach().numpy() / step).astype(np.int32)
    layer = Plan({"0.weight": replace(flat, levels=levels, step=float(np.float32(step)))}, 1.0)
    assert scaled_error(network, sigma, plan) <= 1.02 * scaled_error(network, sigma, layer)
    grouped, whole = (len(psz.encode(network, p, 4800)) for p in (plan, layer))
    weights = int((sigma["0.weight"] > 0).sum())
    # the variance of the log-deviations in nats a weight, less what the groups cost and what steps of √2 miss
    assert whole - grouped > 0.7 * weights / np.log(2) / 8


def test_where_they_do_not_one_step_does() -> None:
    for axis in (0, 1):
        assert worthwhile_groups(spread(axis, by=0.0)[1]["0.weight"].double().numpy()) == []
    assert not {"g"} & {c.codec for c in make_plan(lenet().network, lenet().sigma, 1.0).contents.values()}


@pytest.mark.parametrize("rate_weight", [0.0, 0.05])
def test_what_is_loaded_is_what_was_rounded(tmp_path, rate_weight: float) -> None:
    pruned = lenet()
    for site, sigma in pruned.sigma.items():
        pruned.sigma[site] = sigma * torch.exp(torch.linspace(-1.5, 1.5, len(sigma)))[:, None]
    rounded = coding.quantise(pruned, 1.0, rate_weight=rate_weight)
    info = coding.save(tmp_path / "net.psz", pruned, c=1.0, rate_weight=rate_weight)
    assert "g" in {layer.codec for layer in info.layers}
    assert equal(coding.load(tmp_path / "net.psz"), rounded.network)
    assert coding.info(tmp_path / "net.psz") == info
    assert info.sections["fc1.weight steps"] > 0
    if not rate_weight:
        assert equal(coding.quantise(rounded, 1.0).network, rounded.network)


def test_a_network_on_the_grid_of_its_layers_stays_there() -> None:
    """What a quantisation-aware ending has trained is not blurred by another grid."""
    network, sigma = spread(0, by=1.0)
    grid = layer_steps(dict(network.state_dict()), sigma, 1.0)["0.weight"]
    network[0].weight.data = torch.round(network[0].weight.data / grid) * grid
    plan = make_plan(network, sigma, 1.0)
    assert plan.contents["0.weight"].codec == "s"  # as it comes from rounding: how it is sent is decided later
    assert torch.equal(plan.state()["0.weight"], network[0].weight.detach())


def test_complex_layers_have_groups_too(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(ComplexLinear(60, 40, bias=False))
    keep = (torch.rand(40, 60, 1, generator=generator) < 0.4).expand(40, 60, 2)
    sigma = 0.1 * torch.exp(torch.randn(40, 1, 1, generator=generator)) * keep
    weight = next(iter(network.parameters()))
    weight.data = sigma * 5 * torch.randn(40, 60, 2, generator=generator)
    name = next(iter(dict(network.named_parameters())))
    info = coding.save(tmp_path / "net.psz", network, sigma={name: sigma}, c=1.0)
    assert info.layers[0].codec == "g"
    step = layer_steps(dict(network.state_dict()), {name: sigma}, 1.0)[name]
    got, plain = coding.load(tmp_path / "net.psz").state_dict()[name], torch.round(weight.detach() / step) * step
    errors = [float((((v - weight.detach())[keep] / sigma[keep]) ** 2).sum()) for v in (got, plain)]
    assert errors[0] <= errors[1]
