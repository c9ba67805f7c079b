"""Operations: counted by hand for dense layers, and in expectation against draws of gates."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.distributions import HardConcrete
from pyrosparse.likelihoods import Categorical
from pyrosparse.posterior.cost import count_flops, expected_cost, output_positions

IMAGE = torch.Size((1, 28, 28))
LAYERS = ("conv1", "conv2", "fc1", "fc2")


def test_positions_and_operations_of_lenet_5() -> None:
    network = models.lenet_5_caffe()
    before = torch.get_rng_state()
    positions = output_positions(network, LAYERS, IMAGE)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training
    assert positions == {"conv1": 576, "conv2": 64, "fc1": 1, "fc2": 1}
    shapes = {name: network.get_submodule(name).weight.shape for name in LAYERS}
    counted = {name: count_flops(shapes[name], 0, positions[name], bias=True) for name in LAYERS}
    # a product and a sum for each weight: 2·25·576 for each of 20 filters, and so on
    assert counted == {"conv1": 576 * 20 * 50, "conv2": 64 * 50 * 1000, "fc1": 2 * 400_000, "fc2": 2 * 5_000}
    assert count_flops(shapes["conv1"], 0, 576, bias=False) == 576 * 20 * (2 * 25 - 1)


def test_positions_of_transposed_and_grouped_convolutions() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(2, 6, 3, stride=2), nn.Conv2d(6, 4, 1, groups=2))
    assert output_positions(network, ("0", "1"), torch.Size((2, 5, 5))) == {"0": 121, "1": 121}


def gated(groups: str) -> tuple[ps.SparseModel, guides.AutoSparse]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))
    model = ps.SparseModel(network, priors.L0(groups=groups), Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    for family in guide.families.values():
        nn.init.normal_(family.scale.log_alpha, 0.0, 2.0)  # type: ignore[union-attr, arg-type]
    return model, guide


@pytest.mark.parametrize("groups", ["input", "output"])
def test_expected_operations_are_those_of_drawn_gates(groups: str) -> None:
    model, guide = gated(groups)
    positions = output_positions(model.network, ("0", "3"), torch.Size((2, 4, 4)))
    cost = expected_cost(guide.families, model.sites, positions, biases={"0": True, "3": False})
    weights, flops = [], []
    for _ in range(4000):
        total = operations = 0.0
        for name, family in guide.families.items():
            site = model.sites[name]
            there = (family.scale.elements().sample() != 0).float()  # type: ignore[union-attr, operator]
            axis = site.in_axis if groups == "input" else site.out_axis
            mask = there.reshape([-1 if i == axis else 1 for i in range(len(site.shape))]).expand(site.shape)
            units = float(mask.movedim(site.out_axis, 0).flatten(1).any(1).sum())
            total += float(mask.sum())
            operations += positions[site.layer] * (2 * float(mask.sum()) - (0 if site.layer == "0" else units))
        weights.append(total)
        flops.append(operations)
    for expected, drawn in ((cost.weights, weights), (cost.flops, flops)):
        values = torch.tensor(drawn)
        assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / len(drawn) ** 0.5


@pytest.mark.parametrize("groups", ["input", "output", "weight"])
@pytest.mark.parametrize("masked", [False, True])
def test_expected_operations_are_those_of_every_case(groups: str, masked: bool) -> None:
    """All open and shut gates of a small layer, each with its probability; with and without a mask of weights."""
    torch.manual_seed(0)
    model = ps.SparseModel(nn.Conv1d(2, 2, 2, bias=False), priors.L0(groups=groups), Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    family = guide.families["weight"]
    nn.init.normal_(family.scale.log_alpha, -1.5, 1.0)  # type: ignore[union-attr, arg-type]
    left = torch.ones(2, 2, 2, dtype=torch.bool)
    if masked:
        left[0, 1, 0] = left[1, 0] = False
        family.freeze(left)
    p = HardConcrete(family.scale.log_alpha.detach()).presence.double()  # type: ignore[union-attr, arg-type]
    weights = flops = 0.0
    for case in itertools.product([False, True], repeat=p.numel()):
        there = torch.tensor(case).reshape(p.shape)
        probability = float(torch.where(there, p, 1 - p).prod())
        mask = there & left
        weights += probability * int(mask.sum())
        flops += probability * 3 * (2 * int(mask.sum()) - int(mask.flatten(1).any(1).sum()))
    cost = expected_cost(guide.families, model.sites, {"": 3}, biases={"": False})
    assert (cost.weights, cost.flops) == (pytest.approx(weights, rel=1e-5), pytest.approx(flops, rel=1e-5))


@pytest.mark.parametrize("biased", [False, True])
def test_operations_behind_gates_of_filters_are_those_of_the_paper(biased: bool) -> None:
    """Σ P_f · H·W · (2k²C − 1), and H·W · Σ P_f more with a bias."""
    model, guide = gated("output")
    p = HardConcrete(guide.families["0.weight"].scale.log_alpha.detach()).presence  # type: ignore[union-attr, arg-type]
    cost = expected_cost(
        {"0.weight": guide.families["0.weight"]}, model.sites, {"0": 4}, biases={"0": biased, "3": False}
    )
    assert cost.flops == pytest.approx(float(p.sum()) * 4 * (2 * 9 * 2 - (0 if biased else 1)), rel=1e-5)


def test_without_gates_a_weight_is_there_or_not() -> None:
    torch.manual_seed(0)
    model = ps.SparseModel(nn.Linear(4, 3), priors.LogUniform(), Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    with torch.no_grad():
        guide.families["weight"].log_var[1] = 20.0  # type: ignore[index, operator]
        guide.families["weight"].log_var[0, 0] = 20.0  # type: ignore[index, operator]
    cost = expected_cost(guide.families, model.sites, {"": 1}, biases={"": False})
    assert (cost.weights, cost.flops) == (7.0, 2 * 7 - 2)
