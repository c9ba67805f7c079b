"""Moments do not depend on how the data are cut into batches, and patches are those of the convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError
from pyrosparse.nn import SelectLinear
from pyrosparse.reconstruction import moments as module
from pyrosparse.reconstruction.moments import Moments, input_moments, joint_moments, output_rows, patches
from tests.reconstruction.networks import convnet, loader, mlp

CONVOLUTIONS = {
    "plain": (nn.Conv2d(3, 4, 3), (3, 9, 8)),
    "no square": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (3, 9, 8)),
    "stride and padding": (nn.Conv2d(2, 5, 4, stride=3, padding=2), (2, 10, 11)),
    "dilation": (nn.Conv2d(2, 3, 3, dilation=2, padding=1), (2, 9, 9)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 6, 6)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 6, 6)),
    "same": (nn.Conv2d(2, 3, (3, 5), padding="same"), (2, 7, 7)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 7, 7)),
    "reflect": (nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 7, 7)),
    "one axis": (nn.Conv1d(3, 4, 5, stride=2, padding=1), (3, 17)),
    "three axes": (nn.Conv3d(2, 3, 2, padding=1, dilation=(1, 2, 1)), (2, 5, 6, 4)),
}


def test_batches_do_not_matter() -> None:
    x = 100 + torch.randn(500, 7, dtype=torch.float64) @ torch.randn(7, 7, dtype=torch.float64)
    y = torch.randn(500, 3, dtype=torch.float64) - 50
    for sizes in ([500], [1] * 500, [3, 200, 1, 0, 296]):
        gathered = Moments(7, 3)
        for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
            gathered.update(a, b)
        assert gathered.count == 500
        torch.testing.assert_close(gathered.R, torch.cov(x.T, correction=0), rtol=1e-11, atol=1e-11)
        joint = torch.cov(torch.cat([y, x], 1).T, correction=0)
        torch.testing.assert_close(gathered.S, joint[:3, 3:], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gathered.variance_y, joint.diagonal()[:3])
        torch.testing.assert_close(gathered.mean_x, x.mean(0))
        torch.testing.assert_close(gathered.mean_y, y.mean(0))


def test_merging_is_gathering() -> None:
    x = torch.randn(90, 4)
    parts = [Moments(4) for _ in range(3)]
    for part, rows in zip(parts, x.split(30), strict=True):
        part.update(rows)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    parts[0].merge(Moments(4))
    torch.testing.assert_close(parts[0].R, torch.cov(x.double().T, correction=0))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_times_weight_are_the_convolution(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 200)  # several pieces
    layer, shape = CONVOLUTIONS[name]
    x = torch.randn(5, *shape)
    expected = output_rows(layer(x), layer)
    if layer.bias is not None:
        expected = expected - layer.bias
    weights = layer.weight.flatten(1).chunk(layer.groups)
    pieces = list(patches(layer, x))
    assert len(pieces) > 1
    got = torch.cat([torch.cat([p @ w.T for p, w in zip(piece, weights, strict=True)], 1) for piece in pieces])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_variance_of_a_convolution(name: str) -> None:
    """tr(A R Aᵀ) is the variance of the convolution's output, over examples and positions."""
    layer, shape = CONVOLUTIONS[name]
    x = torch.randn(40, *shape)
    found = input_moments(nn.Sequential(layer), ["0"], TensorLoader(x, torch.zeros(40), 7))["0"]
    weights = layer.weight.detach().double().flatten(1).chunk(layer.groups)
    variance = sum((w @ m.R * w).sum() for w, m in zip(weights, found, strict=True))
    rows = output_rows(layer(x).detach().double(), layer)
    torch.testing.assert_close(variance, rows.var(0, correction=0).sum(), rtol=1e-5, atol=1e-7)


def test_moments_through_a_layer_are_joint_moments() -> None:
    network, data = convnet().eval(), loader(1, 10, 10)
    names = ["conv1", "conv2", "fc1"]
    joint = joint_moments(network, network, names, data)
    inputs = input_moments(network, names, data)
    for name in names:
        through = inputs[name][0].through(network.get_submodule(name))
        for part in ("R", "S", "c", "mean_x", "mean_y", "variance_y"):
            torch.testing.assert_close(getattr(through, part), getattr(joint[name], part), rtol=1e-5, atol=1e-6)


def test_activations_in_place_change_nothing() -> None:
    plain = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    in_place = nn.Sequential(plain[0], nn.ReLU(inplace=True), plain[2]).eval()
    data = TensorLoader(torch.randn(40, 5), torch.zeros(40), 16)
    expected, found = (joint_moments(net, net, ["0", "2"], data) for net in (plain, in_place))
    for name in expected:
        torch.testing.assert_close(found[name].S, expected[name].S)
        torch.testing.assert_close(found[name].R, expected[name].R)


def test_inputs_of_one_network_and_outputs_of_another() -> None:
    a, b, data = mlp().eval(), mlp().eval(), loader(20)
    with torch.no_grad():
        X, Y = torch.relu(b.fc1(data.x)).double(), a.fc2(torch.relu(a.fc1(data.x))).double()
    found = joint_moments(a, b, ["fc2"], data)["fc2"]
    joint = torch.cov(torch.cat([Y, X], 1).T, correction=0)
    torch.testing.assert_close(found.S, joint[:12, 12:])
    torch.testing.assert_close(found.R, joint[12:, 12:])


def test_a_layer_that_reads_some_features() -> None:
    index = torch.tensor([1, 4, 5])
    layer = SelectLinear(index, 7, 2)
    x = torch.randn(30, 7)
    (found,) = input_moments(nn.Sequential(layer), ["0"], TensorLoader(x, torch.zeros(30), 10))["0"]
    torch.testing.assert_close(found.R, torch.cov(x[:, index].double().T, correction=0))


def test_modes_and_hooks_are_given_back() -> None:
    network = convnet().train()
    network.norm1.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    input_moments(network, ["conv2"], loader(1, 10, 10))
    assert network.training
    assert not network.norm1.training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_bad_data_are_named() -> None:
    data = loader(20)
    data.x[7, 3] = float("nan")
    with pytest.raises(DataError, match="fc1: its inputs or outputs are NaN"):
        input_moments(mlp(), ["fc1"], data)
    with pytest.raises(DataError, match="yields no example"):
        input_moments(mlp(), ["fc1"], [])


@pytest.mark.parametrize("name", ["no square", "one axis", "three axes"])
def test_one_large_example_is_unfolded_line_by_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = CONVOLUTIONS[name]
    x = torch.randn(2, *shape)
    whole = torch.cat([piece for (piece,) in patches(layer, x)])
    monkeypatch.setattr(module, "_PIECE", 1)
    pieces = [piece for (piece,) in patches(layer, x)]
    assert len(pieces) == 2 * layer(x).shape[2]
    assert torch.equal(torch.cat(pieces), whole)


def test_columns_at_the_level_of_rounding_do_not_vary() -> None:
    """The mean of equal numbers is not always that number: what is left over is no variance."""
    x = torch.rand(40, dtype=torch.float64).expand(1000, 40).clone()
    x[:, :2] = torch.randn(1000, 2, dtype=torch.float64)
    x[:, 1] *= 1e-9  # small, and yet it varies
    found = Moments(40, 1)
    for rows in x.split(17):
        found.update(rows, rows.sum(1, keepdim=True))
    assert found._xx.diagonal()[2:].max() > 0
    assert found.R.diagonal().nonzero().flatten().tolist() == [0, 1]
    assert not found.R[:, 2:].any() and not found.S[:, 2:].any()
    assert found.rank_bound == 2


def test_hooks_are_taken_back_when_a_layer_is_not_there() -> None:
    network = mlp().train()
    with pytest.raises(AttributeError):
        input_moments(network, ["fc1", "fc9"], loader(20))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())
    assert all(m.training for m in network.modules())


def test_unfold_agrees() -> None:
    """The order of columns is torch's own."""
    layer, x = nn.Conv2d(3, 2, 3, padding=1), torch.randn(2, 3, 5, 5)
    ((rows,),) = patches(layer, x)
    expected = F.unfold(x, 3, padding=1).transpose(1, 2).reshape(-1, 27)
    torch.testing.assert_close(rows, expected)
