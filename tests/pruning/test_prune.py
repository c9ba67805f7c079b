from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.coding import encoded_size
from pyrosparse.data import TensorLoader
from pyrosparse.errors import PruneError, PyrosparseWarning
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.shrink import Shrinker
from pyrosparse.pruning.threshold import candidates
from tests.pruning.networks import (
    Residual,
    apart,
    check_in_original_coordinates,
    convnet,
    loader,
    mean_network,
    mlp,
    ones,
    pair,
    random_masks,
)


def learned(inputs: int = 6, hidden: int = 12) -> tuple[ps.SparseModel, guides.AutoSparse, TensorLoader]:
    """A perceptron that knows which of the first three inputs is largest; its other weights are noise."""
    network = mlp(inputs, hidden, 3)
    with torch.no_grad():
        for layer in (network.fc1, network.fc2):
            layer.weight.mul_(0.05)
            layer.bias.zero_()
        network.fc1.weight[range(3), range(3)] = 1.0
        network.fc1.weight[range(3, 6), range(3)] = -1.0
        network.fc2.weight[range(3), range(3)] = 1.0
        network.fc2.weight[range(3), range(3, 6)] = -1.0
    model, guide = pair(network, None, (inputs,))
    with torch.no_grad():
        for family in guide.families.values():
            family.log_var.fill_(-5.0)
    return model, guide, loader(inputs, count=300)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [lambda: mlp(7, 9, 8, 3, activation=nn.Sigmoid), convnet])
def test_smaller_network_gives_what_the_masked_one_gives(make: Callable[[], nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    network = make()
    shape = (7,) if isinstance(network[0], nn.Linear) else (1, 8, 8)
    network(torch.zeros(1, *shape))
    masks = random_masks(network, 0.7)
    model, guide = pair(network, masks, shape)
    before = deepcopy((network.state_dict(), model.state_dict(), guide.state_dict()))
    model.train()
    random = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PyrosparseWarning)  # a layer may be empty
        pruned = ps.prune(model, guide)
    assert torch.equal(torch.get_rng_state(), random)
    assert apart(mean_network(model, guide), pruned.network, torch.randn(10, *shape)) < 1e-5
    assert pruned.report.difference is not None
    assert pruned.report.difference < 1e-5
    assert not [note for note in pruned.report.notes if "changes the outputs" in note]
    check_in_original_coordinates(pruned, {s: f.mean() for s, f in guide.families.items()})
    # nothing that was handed in has changed
    for old, new in zip(before, (network, model, guide), strict=True):
        assert old.keys() == new.state_dict().keys()
        assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.items())
    assert model.network.training
    assert not any(module.training for module in pruned.network.modules())
    assert pruned.original_parameters == sum(p.numel() for p in network.parameters())


def test_report_has_the_right_numbers_and_prints_them() -> None:
    network = mlp(5, 4, 3)
    masks = ones(network)
    masks["fc1"][:, 1] = False
    masks["fc1"][2, 0] = False
    masks["fc2"][:, 3] = False
    model, guide = pair(network, masks, (5,))
    pruned = ps.prune(model, guide)
    first, second = pruned.report.layers
    assert (first.site, first.shape, first.small_shape) == ("fc1.weight", (4, 5), (3, 4))
    # of the 15 weights of fc1 that the threshold keeps, 4 lead to a unit that nothing reads
    assert (first.kept, first.total) == (11, 20)
    assert (first.units, first.original_units, first.inputs, first.original_inputs) == (3, 4, 4, 5)
    assert (second.small_shape, second.kept, second.total) == ((3, 3), 9, 12)
    assert isinstance(pruned.network.fc1, SelectLinear)
    report = pruned.report
    assert (report.kept, report.total, report.ratio) == (20, 32, 1.6)
    assert report.dense_ratio == 32 / 21
    assert pruned.nonzero == 20
    assert report.to_dict() == json.loads(json.dumps(report.to_dict())) | {"layers": report.to_dict()["layers"]}
    assert json.loads(json.dumps(report.to_dict()))["layers"][0]["small_shape"] == [3, 4]
    report.notes.append("a note")
    assert str(pruned).splitlines() == [
        "site        weights  kept  density  inputs  units",
        "──────────  ───────  ────  ───────  ──────  ─────",
        "fc1.weight       20    11  55.00 %   5 → 4  4 → 3",
        "fc2.weight       12     9  75.00 %   4 → 3  3 → 3",
        "all              32    20  62.50 %",
        "threshold log α ≤ 3: 1.6 times fewer weights",
        "64 → 42 operations an example, 1.5 times fewer",
        "a note",
    ]


def test_report_names_what_the_threshold_was_compared_with() -> None:
    model = ps.SparseModel(mlp(5, 4, 3), ps.priors.GroupLogUniform(), ps.likelihoods.Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    statistic = next(iter(guide.families.values())).statistic
    report = ps.prune(model, guide).report
    assert statistic != "log α"
    assert report.statistic == statistic
    assert f"threshold {statistic} ≤ 3:" in str(report)


def test_threshold_as_a_number() -> None:
    model, guide = pair(mlp(5, 4, 3), None, (5,), scatter=4.0)
    for threshold in (-1.0, -2, 100.0):
        pruned = ps.prune(model, guide, threshold=threshold)
        assert pruned.report.threshold == threshold
        # weights in units that went may be missing
        limit = sum(int(f.keep(threshold).sum()) for f in guide.families.values())
        assert 0 < pruned.report.kept <= limit
    assert pruned.report.kept == pruned.report.total


def test_errors_are_measured_on_validation_data() -> None:
    model, guide, val = learned()
    pruned = ps.prune(model, guide, threshold=2.0, val_loader=val)
    assert pruned.report.error == ps.evaluate(pruned.network, val).error
    assert pruned.report.dense_error == ps.evaluate(model.network, val).error


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.2])
def test_auto_against_brute_force(tolerance: float) -> None:
    """No threshold of all that there are does better by more than one step of the fine search."""
    model, guide, val = learned()
    pruned = ps.prune(model, guide, threshold="auto", val_loader=val, tolerance=tolerance)
    dense = ps.evaluate(model.network, val).error
    relevance = torch.cat([f.relevance().flatten() for f in guide.families.values()]).sort(descending=True).values
    best = len(relevance)
    for k in range(10, len(relevance) + 1):
        error = ps.evaluate(mean_network(model, guide, -float(relevance[k - 1])), val).error
        if error <= dense + tolerance:
            best = k
            break
    chosen = sum(int(f.keep(pruned.report.threshold).sum()) for f in guide.families.values())
    assert ps.evaluate(mean_network(model, guide, pruned.report.threshold), val).error <= dense + tolerance
    assert best <= chosen <= best + 2
    # the curve is what was tried, and the choice is its smallest within the tolerance
    curve = pruned.report.curve
    assert [c.threshold for c in curve] == sorted({c.threshold for c in curve})
    good = [c.kept for c in curve if c.error <= dense + tolerance]
    assert chosen == min(good)


def test_auto_of_a_network_that_no_weight_can_leave() -> None:
    """All weights are equally relevant: one threshold keeps all, and nothing lies below it."""
    network = mlp(3, 3)
    with torch.no_grad():
        network.fc1.weight.copy_(torch.eye(3) * 2.0 - 1.0)
        network.fc1.bias.zero_()
    model, guide = pair(network, None, (3,), scatter=0.0)
    pruned = ps.prune(model, guide, threshold="auto", val_loader=loader(3), tolerance=0.0)
    assert pruned.report.kept == 9


@pytest.mark.parametrize("measured", [True, False])
def test_budget(measured: bool) -> None:
    model, guide, val = learned(20, 40)
    whole = encoded_size(ps.prune(model, guide, threshold=100.0))
    least = encoded_size(ps.prune(model, guide, threshold=candidates(guide.families)[0]))
    budget = (whole + least) // 2
    pruned = ps.prune(model, guide, budget=budget, val_loader=val if measured else None)
    assert least <= encoded_size(pruned) <= budget
    fitting = [c for c in pruned.report.curve if c.bytes <= budget]
    assert fitting != pruned.report.curve
    (chosen,) = [c for c in fitting if c.threshold == pruned.report.threshold]
    if measured:
        assert chosen.error == min(c.error for c in fitting)
    else:
        assert chosen.kept == max(c.kept for c in fitting)
        # the fine search has come close to the limit
        beyond = min(c.kept for c in pruned.report.curve if c.bytes > budget)
        assert beyond - chosen.kept <= 3


def test_budget_out_of_reach() -> None:
    model, guide = pair(mlp(3, 2), None, (3,))
    with pytest.raises(PruneError, match="no threshold gives a file of at most 10 bytes: the smallest has"):
        ps.prune(model, guide, budget=10)


def test_budget_warns_of_the_chosen_threshold_only() -> None:
    """Thresholds that were tried and not chosen empty a layer; nobody needs to hear of that."""
    network = mlp(2, 6, 2)
    masks = ones(network)
    masks["fc1"][:] = False
    model, guide = pair(network, masks, (2,), scatter=3.0)
    pruned = ps.prune(model, guide, budget=100_000)
    assert pruned.report.kept == pruned.report.total
    assert pruned.report.notes == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "best"}, "threshold is 'best'; give a number"),
        ({"threshold": float("nan")}, "threshold is nan; give a number"),
        ({"threshold": "auto"}, "chosen on validation data: give val_loader"),
        ({"threshold": 3.0, "budget": 1000}, "both given"),
        ({"budget": 0}, "budget is 0 bytes"),
        ({"tolerance": -0.1}, "tolerance is -0.1"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str) -> None:
    model, guide = pair(mlp(3, 2), None, (3,))
    with pytest.raises(PruneError, match=message):
        ps.prune(model, guide, **options)


def test_empty_layer_keeps_one_weight_and_says_so() -> None:
    network = mlp(5, 4, 4, 3, activation=nn.Sigmoid)
    masks = ones(network)
    masks["fc2"][:] = False
    model, guide = pair(network, masks, (5,))
    with pytest.warns(PyrosparseWarning, match=r"fc2\.weight: no weight has log α ≤ 3") as caught:
        pruned = ps.prune(model, guide)
    assert caught[0].filename == __file__
    assert pruned.report.layers[1].kept == 1
    assert pruned.network.fc2.weight.shape == (1, 1)
    assert "fc2.weight: no weight" in str(pruned.report)


def test_network_that_is_all_dead() -> None:
    network = mlp(5, 4, 3)
    model, guide = pair(network, {n: torch.zeros_like(m) for n, m in ones(network).items()}, (5,))
    with pytest.warns(PyrosparseWarning):
        pruned = ps.prune(model, guide)
    assert [layer.small_shape for layer in pruned.report.layers] == [(1, 1), (3, 1)]


def test_model_that_has_not_run_needs_an_example() -> None:
    network = mlp(5, 4, 3)
    masks = ones(network)
    masks["fc2"][:, 1] = False
    model, guide = pair(network, masks, None)
    pruned = ps.prune(model, guide)
    assert pruned.network.fc1.weight.shape == (4, 5)
    assert pruned.report.difference is None
    assert any("shape of the input is not known" in note for note in pruned.report.notes)
    pruned = ps.prune(model, guide, example=torch.randn(3, 5))
    assert pruned.network.fc1.weight.shape == (3, 5)
    assert model.input_shape is None


def test_unit_of_a_sum_stays_while_one_branch_feeds_it() -> None:
    network = Residual()
    masks = ones(network)
    masks["fc2"][1] = False
    model, guide = pair(network, masks, (4,))
    pruned = ps.prune(model, guide)
    assert pruned.network.fc2.weight.shape == (4, 4)
    assert not pruned.network.fc2.weight[1].any()
    assert pruned.report.notes == []
    masks["fc1"][1] = False
    pruned = ps.prune(*pair(network, masks, (4,)))
    assert pruned.network.fc2.weight.shape == (3, 3)
    assert pruned.report.difference is not None and pruned.report.difference < 1e-5


@pytest.mark.parametrize("conv", [False, True])
def test_prune_after_live_shrinking_speaks_of_the_original(conv: bool) -> None:
    network, shape = (convnet(), (1, 8, 8)) if conv else (mlp(7, 9, 8, 3, activation=nn.Sigmoid), (7,))
    network(torch.zeros(1, *shape))
    masks = {name: torch.rand(mask.shape) < 0.8 for name, mask in ones(network).items()}
    if conv:
        masks["conv1"][1] = masks["conv2"][2] = masks["fc1"][2] = False
        masks["conv2"][:, 3] = masks["fc1"][:, :4] = masks["fc2"][:, 4] = False
    else:
        masks["fc1"][[0, 4]] = masks["fc2"][1] = False
        masks["fc1"][:, 2] = masks["fc2"][:, 3] = masks["fc3"][:, 5] = False
    model, guide = pair(network, masks, shape)
    before = ps.prune(model, guide)
    shrinker = Shrinker(model, guide)
    shrinker.step()
    assert shrinker.step()
    after = ps.prune(model, guide)
    assert {k: v.tolist() for k, v in after.masks.items()} == {k: v.tolist() for k, v in before.masks.items()}
    for layer, (outs, ins) in before.kept.items():
        assert torch.equal(after.kept[layer][0], outs)
        assert torch.equal(after.kept[layer][1], ins)
    assert after.report.layers == before.report.layers
    assert after.original_parameters == before.original_parameters
    assert all(torch.equal(after.sigma[s], before.sigma[s]) for s in before.sigma)
    assert apart(before.network, after.network, torch.randn(10, *shape)) < 1e-5
    # what dies later is found as well, and the part that had gone before stays gone
    family = guide.families["fc2.weight"]
    with torch.no_grad():
        family.log_var[:, 0] += 20.0
    later = ps.prune(model, guide)
    assert later.network.fc2.weight.shape[1] == after.network.fc2.weight.shape[1] - 1
    gone = int(after.kept["fc2"][1][0])
    assert gone not in later.kept["fc2"][1].tolist()
    assert not later.masks["fc2.weight"][:, gone].any()
    check_in_original_coordinates(later, {s: p.mean() for s, p in ps.posterior.read(model, guide).items()})


def test_layers_without_prior_lose_what_nothing_reads_and_nothing_else() -> None:
    network = mlp(5, 4, 4, 3)
    model = ps.SparseModel(
        network, ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=10), include=["fc1", "fc2"]
    )
    guide = guides.AutoSparse(model)
    model.input_shape = torch.Size([5])
    with torch.no_grad():
        guide.families["fc2.weight"].log_var[:, 0] = 20.0
    pruned = ps.prune(model, guide)
    assert list(pruned.masks) == ["fc1.weight", "fc2.weight"]
    assert pruned.network.fc1.weight.shape == (3, 5)
    assert torch.equal(pruned.network.fc3.weight, network.fc3.weight)
    # a unit that reads nothing goes, and with it the column of the layer without a prior
    with torch.no_grad():
        guide.families["fc2.weight"].log_var[1] = 20.0
    pruned = ps.prune(model, guide)
    assert pruned.network.fc2.weight.shape == (3, 3)
    assert torch.equal(pruned.network.fc3.weight, network.fc3.weight[:, [0, 2, 3]])
    assert pruned.report.difference is not None and pruned.report.difference < 1e-5
