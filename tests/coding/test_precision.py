from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse.coding import precision_bits
from pyrosparse.coding.precision import make_plan, quantise
from pyrosparse.coding.steps import round_step
from pyrosparse.errors import NetworkError, PyrosparseWarning
from pyrosparse.pruning.pruned import LayerReport, PruneReport
from tests.coding.networks import equal, lenet


@pytest.mark.parametrize("step", [1e-20, 0.05, 0.0501, 1.0, 3.7e5])
def test_steps_are_rounded_up_to_eight_bits(step: float) -> None:
    rounded = round_step(step)
    assert step <= rounded < step * (1 + 2**-7)
    assert math.frexp(rounded)[0] * 256 == int(math.frexp(rounded)[0] * 256)
    assert round_step(rounded) == rounded


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_weights_become_the_nearest_multiples_of_c_sigma(c: float) -> None:
    pruned = lenet()
    small = quantise(pruned, c)
    for name, sigma in pruned.sigma.items():
        step = round_step(c * float(np.median(sigma[sigma > 0].double().numpy())))
        before = pruned.network.get_parameter(name).detach()
        after = small.network.get_parameter(name).detach()
        assert (before - after).abs().max() <= step / 2 * (1 + 1e-6)
        levels = after.double() / step
        assert torch.allclose(levels, levels.round(), atol=1e-5)
        assert (after[before == 0] == 0).all()


def test_rounding_to_zero_leaves_masks_and_counts() -> None:
    pruned = lenet()
    layer = LayerReport("fc1.weight", (300, 784), (54, 472), 1700, 235_200, 54, 300, 472, 784)
    pruned = replace(pruned, report=PruneReport(threshold=3.0, layers=[layer]))
    small = quantise(pruned, 4.0)
    for site, mask in small.masks.items():
        kept = int(small.network.get_parameter(site).count_nonzero())
        assert int(mask.sum()) == kept < int(pruned.masks[site].sum())
        assert (mask <= pruned.masks[site]).all()
    assert small.report.layers[0].kept == int(small.masks["fc1.weight"].sum())
    assert pruned.report.layers[0].kept == 1700


def test_nothing_handed_in_is_changed_and_rounding_twice_changes_nothing() -> None:
    pruned, again = lenet(), lenet()
    once = quantise(pruned, 0.71)
    assert equal(pruned.network, again.network)
    assert torch.equal(pruned.masks["fc1.weight"], again.masks["fc1.weight"])
    assert equal(quantise(once, 0.71).network, once.network)


def test_biases_are_as_precise_as_asked() -> None:
    pruned = lenet()
    exact = pruned.network.get_parameter("fc1.bias").detach()
    for bits in (4, 8, 10):
        error = (quantise(pruned, 1.0, bias_bits=bits).network.get_parameter("fc1.bias") - exact).abs().max()
        assert error <= float(exact.abs().max()) / (2**bits - 2) * 1.01
    step = make_plan(pruned.network, pruned.sigma, 1.0).contents["fc1.weight"].step
    error = (quantise(pruned, 1.0).network.get_parameter("fc1.bias") - exact).abs().max()
    assert error <= step / 4 * 1.01


@pytest.mark.parametrize("inputs", [torch.tensor([0, 2, 5]), torch.tensor([0, 2])])  # two: as many as outputs
def test_masks_of_transposed_convolutions(inputs: torch.Tensor) -> None:
    network = nn.Sequential(nn.ConvTranspose2d(len(inputs), 2, 2))
    deviation = torch.full_like(network[0].weight, 0.05).detach()
    outputs = torch.tensor([1, 4])
    mask = torch.zeros(6, 5, 2, 2, dtype=torch.bool)
    mask[inputs[:, None], outputs[None, :]] = True
    pruned = replace(
        lenet(),
        network=network,
        masks={"0.weight": mask},
        sigma={"0.weight": deviation},
        kept={"0": (outputs, inputs)},
    )
    small = quantise(pruned, 3.0)
    alive = small.network[0].weight != 0  # type: ignore[index]
    assert torch.equal(small.masks["0.weight"][inputs[:, None], outputs[None, :]], alive)
    assert int(small.masks["0.weight"].sum()) == int(alive.sum())
    with pytest.raises(NetworkError, match=r"0\.weight"):
        quantise(replace(pruned, kept={"0": (outputs, inputs[:1])}), 3.0)


def test_what_has_no_posterior_is_kept_as_it_is() -> None:
    pruned = lenet()
    sigma = {name: value for name, value in pruned.sigma.items() if name != "fc2.weight"}
    plan = make_plan(pruned.network, sigma, 1.0)
    assert plan.contents["fc2.weight"].codec == "x"
    assert torch.equal(plan.state()["fc2.weight"], pruned.network.get_parameter("fc2.weight"))
    exact = make_plan(pruned.network, None, None).apply(pruned.network)
    assert equal(exact, pruned.network)


def test_a_posterior_that_is_far_too_narrow_is_said() -> None:
    pruned = lenet()
    sigma = {"fc1.weight": pruned.sigma["fc1.weight"] * 1e-9}
    with pytest.warns(PyrosparseWarning, match=r"fc1\.weight"):
        plan = make_plan(pruned.network, sigma, 1.0)
    assert torch.equal(plan.state()["fc1.weight"], pruned.network.get_parameter("fc1.weight"))


def test_weights_without_any_deviation_are_not_rounded_to_zero() -> None:
    """Points behind gates that are surely open: the posterior says no precision, so they are sent as they are."""
    torch.manual_seed(0)
    model = ps.SparseModel(nn.Linear(4, 3), ps.priors.L0(), ps.likelihoods.Categorical(num_data=10))
    guide = ps.guides.AutoSparse(model)
    with torch.no_grad():
        guide.families["weight"].scale.log_alpha.fill_(200.0)  # type: ignore[union-attr, operator]
    small = ps.prune(model, guide, example=torch.zeros(1, 4))
    assert not small.sigma["weight"].any()
    with pytest.warns(PyrosparseWarning, match="weight: .* stored without rounding.*points"):
        again = quantise(small, 0.5)
    assert torch.equal(again.network.weight, small.network.weight)
    assert precision_bits(small)[0].each == 32


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_bad_standard_deviations_are_refused(bad: float) -> None:
    pruned = lenet()
    pruned.sigma["fc2.weight"][0, 0] = bad
    with pytest.raises(NetworkError, match=r"fc2\.weight"):
        quantise(pruned, 1.0)


def test_other_bad_input_is_refused() -> None:
    pruned = lenet()
    for c in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(NetworkError, match="c must"):
            quantise(pruned, c)
    with pytest.raises(NetworkError, match="bias_bits"):
        quantise(pruned, 1.0, bias_bits=40)
    with pytest.raises(NetworkError, match="not in the network"):
        make_plan(pruned.network, {"fc9.weight": torch.ones(1)}, 1.0)
    with pytest.raises(NetworkError, match=r"fc1\.weight has shape"):
        make_plan(pruned.network, {"fc1.weight": torch.ones(3)}, 1.0)
    counter = nn.Linear(2, 2)
    for value in (1 << 40, -(1 << 40)):
        counter.register_buffer("count", torch.tensor([3, value]))
        with pytest.raises(NetworkError, match="count holds integers of 2"):
            make_plan(counter, None, None)
    with torch.no_grad():
        pruned.network.get_parameter("fc3.bias")[0] = float("nan")
    with pytest.raises(NetworkError, match=r"fc3\.bias"):
        quantise(pruned, 1.0)
