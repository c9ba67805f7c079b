from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pyrosparse.layers import axes
from pyrosparse.pruning.graph import find_links
from pyrosparse.pruning.removal import Removal, plan_removal
from pyrosparse.pruning.surgery import cut_network
from tests.pruning.networks import apart, cut, masked, mlp, ones, plan, random_masks, settle

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "prelu": nn.PReLU,
}
LIMIT = {torch.float32: 1e-5, torch.float64: 1e-11}


def kept(removal: Removal, link: str) -> list[int]:
    (found,) = [c for c in removal.cuts if str(c) == link]
    return indices(found.keep)


def indices(mask: Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


@st.composite
def perceptrons(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    widths = draw(st.lists(st.integers(1, 6), min_size=3, max_size=5))
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
        layers.append(nn.Linear(fan_in, fan_out, bias=draw(st.booleans())))
        if i < len(widths) - 2:
            if draw(st.booleans()):
                layers.append(nn.BatchNorm1d(fan_out, affine=draw(st.booleans())))
            layers.append(ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]())
            if draw(st.booleans()):
                layers.append(nn.Dropout())
    return nn.Sequential(*layers), (widths[0],)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    channels = draw(st.lists(st.integers(1, 4), min_size=3, max_size=4))
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(channels, channels[1:], strict=False):
        bias = draw(st.booleans())
        if draw(st.integers(0, 4)) == 0:
            layers.append(nn.ConvTranspose2d(fan_in, fan_out, 2, padding=draw(st.integers(0, 1)), bias=bias))
        else:
            padding = draw(st.sampled_from([0, 1, "same"]))
            mode = draw(st.sampled_from(["zeros", "circular", "replicate"]))
            layers.append(nn.Conv2d(fan_in, fan_out, 3, padding=padding, padding_mode=mode, bias=bias))
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(fan_out))
        layers.append(ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]())
        pool = draw(st.sampled_from([None, nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1), nn.AvgPool2d(2, 1, padding=1)]))
        if pool is not None:
            layers.append(pool)
    layers.append(nn.Flatten())
    columns = nn.Sequential(*layers).eval()(torch.zeros(1, channels[0], 10, 10)).shape[1]
    if draw(st.booleans()):
        layers.append(nn.BatchNorm1d(columns))
    layers += [nn.Linear(columns, 4), nn.Tanh(), nn.Linear(4, 2)]
    return nn.Sequential(*layers), (channels[0], 10, 10)


def check(network: nn.Module, shape: tuple[int, ...], density: float, dtype: torch.dtype) -> None:
    """The cut network gives what the masked one gives, and no unit that could go has stayed."""
    settle(network)
    network.to(dtype)
    masks = random_masks(network, density)
    masked(network, masks)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    removal = plan(network, masks, shape)
    small = cut(network, removal)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    x = torch.randn(5, *shape, dtype=dtype)
    assert apart(network, small, x) <= LIMIT[dtype]
    assert all(bool(c.keep.any()) for c in removal.cuts)
    assert len({str(c) for c in removal.cuts}) == len(removal.cuts)
    # done once, there is nothing left to do
    layers = {name: small.get_submodule(name).weight.detach() for name in masks}
    again = plan(small, {name: weight != 0 for name, weight in layers.items()}, shape)
    assert not again, str(again)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(perceptrons(), st.floats(0.2, 1.0), st.sampled_from([torch.float32, torch.float64]))
def test_random_perceptrons(network: tuple[nn.Module, tuple[int, ...]], density: float, dtype: torch.dtype) -> None:
    check(*network, density, dtype)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(convolutions(), st.floats(0.2, 1.0), st.sampled_from([torch.float32, torch.float64]))
def test_random_convolutions(network: tuple[nn.Module, tuple[int, ...]], density: float, dtype: torch.dtype) -> None:
    check(*network, density, dtype)


@pytest.mark.parametrize("seed", range(20))
def test_units_that_stay_lie_on_a_live_path(seed: int) -> None:
    """Against reachability: a unit of a perceptron stays if live weights lead from an input through it to an output."""
    torch.manual_seed(seed)
    network = mlp(6, 8, 7, 8, 3, activation=nn.Sigmoid)
    masks = {name: torch.rand(mask.shape) < 0.3 for name, mask in ones(network).items()}
    masked(network, masks)
    removal = plan(network, masks, (6,))
    chain = list(masks.values())
    reached = [torch.ones(6, dtype=torch.bool)]
    for mask in chain:
        reached.append((mask & reached[-1]).any(1))
    needed = [torch.ones(3, dtype=torch.bool)]
    for mask in reversed(chain):
        needed.insert(0, (mask & needed[0][:, None]).any(0))
    alive = [a & b for a, b in zip(reached, needed, strict=True)][:-1]
    assert all(bool(a.any()) for a in alive), "this seed leaves no path: choose another"
    by_consumer = {next(iter(c.units.consumers)): indices(c.keep) for c in removal.cuts}
    for layer, units in zip(masks, alive, strict=True):
        assert by_consumer.get(layer, list(range(len(units)))) == units.nonzero().flatten().tolist()


def test_constant_is_folded_by_hand() -> None:
    network = masked(mlp(2, 2, 1, activation=nn.Sigmoid), {})
    masks = ones(network)
    masks["fc1"][1] = False
    masked(network, masks)
    removal = plan(network, masks, (2,))
    (only,) = removal.cuts
    assert indices(only.keep) == [0]
    expected = network.fc2.weight[:, 1] * torch.sigmoid(network.fc1.bias[1])
    assert torch.allclose(only.folds["fc2"], expected)
    small = cut(network, removal)
    assert torch.allclose(small.fc2.bias, network.fc2.bias + expected)


def test_unit_that_nothing_reads_is_not_folded() -> None:
    network = mlp(3, 3, 2)
    masks = ones(network)
    masks["fc2"][:, 1] = False
    (only,) = plan(masked(network, masks), masks, (3,)).cuts
    assert (indices(only.keep), only.folds) == ([0, 2], {})


def test_cascade_forwards_folds_what_was_folded() -> None:
    """A constant unit whose only reader becomes constant by it: its constant has the first one in it."""
    network = mlp(3, 3, 3, 2, activation=nn.Sigmoid)
    masks = ones(network)
    masks["fc1"][0] = False
    masks["fc2"][0, 1:] = False  # the first unit of fc2 reads only the first of fc1
    removal = plan(masked(network, masks), masks, (3,))
    assert kept(removal, "fc1 → fc2") == kept(removal, "fc2 → fc3") == [1, 2]
    assert apart(network, cut(network, removal), torch.randn(4, 3)) < 1e-6


def test_cascade_backwards() -> None:
    """A unit that nothing reads was the only reader of another, which was the only reader of an input."""
    network = mlp(3, 3, 3, 2)
    masks = ones(network)
    masks["fc3"][:, 2] = False
    masks["fc2"][:2, 1] = False
    masks["fc1"][[0, 2], 0] = False
    removal = plan(masked(network, masks), masks, (3,))
    assert kept(removal, "fc2 → fc3") == [0, 1]
    assert kept(removal, "fc1 → fc2") == [0, 2]
    assert kept(removal, "input → fc1") == [1, 2]
    assert apart(network, cut(network, removal), torch.randn(4, 3)) < 1e-6


@pytest.mark.parametrize("bias", [True, False])
def test_everything_dead_leaves_one_unit_a_layer(bias: bool) -> None:
    network = mlp(4, 5, 6, 3, activation=nn.Tanh, bias=bias)
    masks = {name: torch.zeros_like(mask) for name, mask in ones(network).items()}
    removal = plan(masked(network, masks), masks, (4,))
    assert [int(c.keep.sum()) for c in removal.cuts] == [1, 1, 1]
    x = torch.randn(4, 4)
    assert torch.allclose(cut(network, removal)(x), network(x), atol=1e-7)


def test_convolution_folds_into_the_next_bias() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2, stride=2))
    masks = ones(network)
    masks["0"][1] = False
    removal = plan(masked(network, masks), masks, (1, 9, 9))
    assert kept(removal, "0 → 3") == [0, 2]
    assert removal.notes == []
    assert apart(network, cut(network, removal), torch.randn(3, 1, 9, 9)) < 1e-6


def test_zero_padding_keeps_constants_and_says_so() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    masks = ones(network)
    masks["0"][1:] = False
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))  # behind the ReLU the third is 0
    removal = plan(masked(network, masks), masks, (1, 6, 6))
    assert kept(removal, "0 → 2") == [0, 1, 3]
    assert removal.notes == [
        "0 → 2: 2 constant units stay, since zero padding or a missing bias keeps them from being folded"
    ]
    assert apart(network, cut(network, removal), torch.randn(3, 1, 6, 6)) < 1e-6


@pytest.mark.parametrize(
    ("consumer", "stays"),
    [
        (nn.Conv2d(3, 2, 3, padding="same"), True),
        (nn.Conv2d(3, 2, 1, padding="same"), True),  # nothing is padded, but the words say it might be
        (nn.Conv2d(3, 2, 3, padding="valid"), False),
        (nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(3, 2, 3, bias=False), True),
        (nn.ConvTranspose2d(3, 2, 3), True),
    ],
)
def test_where_constants_can_be_folded(consumer: nn.Module, stays: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sigmoid(), consumer)
    masks = ones(network)
    masks["0"][1] = False
    removal = plan(masked(network, masks), masks, (1, 6, 6))
    assert bool(removal.notes) == stays
    assert bool(removal) != stays
    assert apart(network, cut(network, removal), torch.randn(3, 1, 6, 6)) < 1e-6


def test_linear_reader_without_bias() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    masks = ones(network)
    masks["0"][1:3] = False
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([0.0, -1.0, 1.0, 0.0]))
    removal = plan(masked(network, masks), masks, (3,))
    assert kept(removal, "0 → 2") == [0, 2, 3]
    assert "1 constant units stay" in removal.notes[0]
    assert apart(network, cut(network, removal), torch.randn(3, 3)) < 1e-6


def test_unit_that_could_not_be_folded_and_goes_later_is_not_named() -> None:
    """It cannot be folded, but its only reader goes, and then nothing reads it."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 1)
    )
    masks = ones(network)
    masks["0"][1] = False
    masks["2"][0, 1] = False
    masks["4"][:, 1] = False
    removal = plan(masked(network, masks), masks, (1, 6, 6))
    assert kept(removal, "0 → 2") == kept(removal, "2 → 4") == [0]
    assert removal.notes == []


def test_infinite_constant_is_not_folded() -> None:
    norm = nn.BatchNorm1d(2)
    with torch.no_grad():
        norm.bias[1] = torch.inf
    network = nn.Sequential(nn.Linear(2, 2), norm, nn.Linear(2, 1))
    masks = ones(network)
    masks["0"][1] = False
    removal = plan(masked(network, masks), masks, (2,))
    assert not removal
    assert removal.notes


def test_only_cuttable_units_go() -> None:
    network = mlp(4, 4, 2, activation=nn.Sigmoid)
    masks = ones(network)
    masks["fc1"][:2] = False
    masks["fc2"][:, 3] = False
    masks["fc1"][:, 1] = False
    masked(network, masks)
    flow = find_links(network, masks, torch.Size((4,))).flow
    allowed = torch.zeros_like(flow.of_input)
    allowed[flow.gives["fc1"][1]] = True
    removal = plan(network, masks, (4,), cuttable=allowed)
    assert kept(removal, "fc1 → fc2") == [0, 2, 3]
    leave = dict.fromkeys(masks, torch.zeros(4, dtype=torch.bool))
    removal = plan(network, masks, (4,), cuttable=allowed, leavable=leave)
    assert len(removal.cuts) == 1
    assert apart(network, cut(network, removal), torch.randn(4, 4)) < 1e-6
    # a unit that may not go yet can be left unread
    removal = plan(network, masks, (4,), cuttable=torch.zeros_like(allowed))
    assert {str(c): indices(c.keep) for c in removal.cuts} == {"columns of fc1": [0, 2, 3], "columns of fc2": [0, 1, 2]}
    assert apart(network, cut(network, removal), torch.randn(4, 4)) < 1e-6


def test_columns_behind_a_flattening() -> None:
    network = nn.Sequential(OrderedDict(conv=nn.Conv1d(1, 3, 2), flat=nn.Flatten(), fc=nn.Linear(6, 2)))
    masks = ones(network)
    masks["fc"][:, 2:4] = False
    removal = plan(masked(network, masks), masks, (1, 3))
    assert kept(removal, "conv → fc (×2)") == [0, 2]
    assert indices(removal.columns("fc")) == [0, 1, 4, 5]
    # a unit stays while one of its positions is read; the other is left unread
    masks["fc"][0, 2] = True
    (only,) = plan(network, masks, (1, 3)).cuts
    assert (str(only), indices(only.keep)) == ("columns of fc", [0, 1, 2, 4, 5])
    small = cut(network, plan(network, masks, (1, 3)))
    assert small.fc.weight.shape == (2, 5)
    assert small.fc.index.tolist() == [0, 1, 2, 4, 5]
    # what is left is cut further: the unit that is read at one position alone goes, and the features move up
    masks = {"conv": small.conv.weight != 0, "fc": small.fc.weight != 0}
    masks["fc"][:, 2] = False
    masked(small, masks)
    (only,) = plan(small, masks, (1, 3)).cuts
    assert indices(only.keep) == [0, 2]
    smaller = cut(small, plan(small, masks, (1, 3)))
    assert (type(smaller.fc), smaller.fc.in_features) == (nn.Linear, 4)
    x = torch.randn(3, 1, 3)
    assert apart(small, smaller, x) <= LIMIT[torch.float32]


def test_plan_prints_itself() -> None:
    network = mlp(3, 3, 2, activation=nn.Sigmoid)
    masks = ones(network)
    masks["fc1"][1] = False
    masks["fc1"][:, 0] = False
    removal = plan(masked(network, masks), masks, (3,))
    removal.notes.append("a note")
    assert str(removal).splitlines() == [
        "units of     now  after  constants folded",
        "───────────  ───  ─────  ────────────────",
        "input → fc1    3      2                no",
        "fc1 → fc2      3      2               yes",
        "a note",
    ]
    assert not Removal()


def test_weights_of_what_stays_are_the_original_ones() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 5 * 5, 6),
        nn.ReLU(), nn.Linear(6, 2),
    )  # fmt: skip
    settle(network)
    masks = random_masks(network, 0.8)
    masked(network, masks)
    links = find_links(network, masks, torch.Size((2, 6, 6)))
    weights = {name: network.get_submodule(name).weight.detach() for name in masks}
    small = deepcopy(network)
    taken = cut_network(small, plan_removal(small, links, masks, weights))
    assert taken
    for name, (outs, ins) in taken.items():
        out_axis, in_axis = axes(network.get_submodule(name))
        expected = weights[name]
        if outs is not None:
            expected = expected.index_select(out_axis, outs)
        if ins is not None:
            expected = expected.index_select(in_axis, ins)
        assert torch.equal(small.get_submodule(name).weight, expected)
