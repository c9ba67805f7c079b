"""Networks and data that are out of the ordinary: taken, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, DataError, NetworkError, PyrosparseWarning
from pyrosparse.reconstruction import Chaining, reconstruct
from tests.reconstruction.networks import loader, mlp


def outputs(network: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        y = network.eval()(x)
    return list(y.values()) if isinstance(y, dict) else list(y) if isinstance(y, tuple) else [y]


class Heads(nn.Module):
    """Several outputs from the same units."""

    def __init__(self, kind: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 3), nn.Linear(16, 2)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.body(input=x))
        return self.kind(self.a(h), self.b(input=h))


@pytest.mark.parametrize("kind", [lambda a, b: (a, b), lambda a, b: {"a": a, "b": b}])
@pytest.mark.parametrize("chaining", Chaining)
def test_several_outputs_and_arguments_by_name(kind: Callable[[Tensor, Tensor], Any], chaining: Chaining) -> None:
    network, data = Heads(kind), loader(20)
    small, report = reconstruct(network, data, units={"a": 12}, chaining=chaining)
    assert small.a.in_features == small.b.in_features == small.body.out_features == 12
    assert report.difference < 1e-5
    for y, y_hat in zip(outputs(network, data.x), outputs(small, data.x), strict=True):
        assert (y - y_hat).square().sum() < 0.05 * (y - y.mean(0)).square().sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats(dtype: torch.dtype) -> None:
    data = loader(20)
    short = TensorLoader(data.x.to(dtype), data.y, 64, shuffle=False)
    network = mlp()
    _, expected = reconstruct(network, data, units=8)
    small, report = reconstruct(deepcopy(network).to(dtype), short, units=8, refit=True, low_rank=0.05)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert report["fc3"].kept == expected["fc3"].kept


@pytest.mark.parametrize("activation", [nn.PReLU(16), nn.PReLU(), nn.Softshrink(0.1), nn.Threshold(0.1, -0.2)])
def test_activations_with_and_without_parameters(activation: nn.Module) -> None:
    if isinstance(activation, nn.PReLU):
        nn.init.uniform_(activation.weight)
    network, data = nn.Sequential(nn.Linear(20, 16), activation, nn.Linear(16, 3)), loader(20)
    small, report = reconstruct(network, data, units={"2": 9})
    assert small[0].out_features == small[2].in_features == 9
    assert report.difference < 1e-5
    _, by_size = reconstruct(network, data, kib=0.8)
    assert 0.6 < by_size.kib <= 0.8


def test_frozen_networks_stay_frozen() -> None:
    network = nn.Sequential(nn.Linear(20, 16, bias=False), nn.ReLU(), nn.Linear(16, 3, bias=False))
    small, _ = reconstruct(network.requires_grad_(False), loader(20), units=8)
    assert small[0].bias is not None
    assert not any(p.requires_grad for p in small.parameters())


@pytest.mark.parametrize("chaining", Chaining)
def test_inputs_in_other_units_of_measurement(chaining: Chaining) -> None:
    """A column a million times as large as the others: without a penalty the network comes back."""
    network, data = mlp(), loader(20)
    data.x[:, 3] *= 1e6
    network.fc1.weight.data[:, 3] /= 1e6
    small, report = reconstruct(network, data, lam_ratio=0.0, chaining=chaining)
    assert report.error < 1e-9
    torch.testing.assert_close(small(data.x), network.eval()(data.x), rtol=1e-4, atol=1e-4)


def test_targets_need_not_be_there() -> None:
    network, data = mlp(), loader(20)
    expected, _ = reconstruct(network, data, units=6)
    batches = data.x.split(64)
    for unlabelled in (batches, [(x,) for x in batches], [[x, None, "a name"] for x in batches]):
        small, _ = reconstruct(network, unlabelled, units=6)
        assert torch.equal(small(data.x), expected(data.x))


def test_empty_batches_are_passed_over() -> None:
    network, data = mlp(), loader(20)
    none = torch.zeros(0, 20)
    expected, _ = reconstruct(network, data.x.split(64), units=6)
    small, _ = reconstruct(network, [none, *data.x.split(64), none], units=6)
    assert torch.equal(small(data.x), expected(data.x))
    with pytest.raises(DataError, match="no example"):
        reconstruct(network, [none, none], units=6)


def once() -> Iterator[Tensor]:
    yield torch.zeros(8, 20)


@pytest.mark.parametrize(
    ("batches", "match"),
    [
        (once(), "gone through only once"),
        ([{"x": torch.zeros(8, 20)}], "must yield inputs, or pairs"),
        ([([0.0], [1])], "not list"),
        ([torch.zeros(8, 20).double()], r"shape \(4, 20\) and type torch.float64"),
        ([torch.randn(50, 20), torch.zeros(8, 19)], r"cannot take inputs of shape \(8, 19\)"),
    ],
)
def test_bad_loaders(batches: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        reconstruct(mlp(), batches, units=6)


@pytest.mark.parametrize("chaining", Chaining)
def test_fewer_examples_than_columns_are_said(chaining: Chaining) -> None:
    data = loader(20, count=12)
    with pytest.warns(PyrosparseWarning) as said:
        _, report = reconstruct(mlp(), data, lam_ratio={"fc2": 0.01}, chaining=chaining)
    assert [str(w.message) for w in said] == report.notes
    assert "fc2: 12 rows of data for 16 columns that vary" in report.notes[0]


def test_one_example() -> None:
    network = mlp()
    x = torch.randn(1, 20)
    with pytest.warns(PyrosparseWarning, match="1 rows of data|no unit would be left"):
        small, report = reconstruct(network, [x], lam_ratio=0.1)
    torch.testing.assert_close(small(x), network.eval()(x))
    assert [row.kept for row in report.rows] == [1, 1, 1]


class Standardised(nn.Linear):
    """Its weight is not what it multiplies with."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight - self.weight.mean(1, keepdim=True), self.bias)


def changed(how: str) -> nn.Sequential:
    network = mlp()
    if how == "hook":
        network.fc2.register_forward_hook(lambda module, args, output: 2 * output)
    elif how == "own forward":
        network.fc2 = Standardised(16, 12)
    elif how == "parametrised":
        weight_norm(network.fc2)
    else:
        prune.l1_unstructured(network.fc2, "weight", 0.5)
    return network


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("hook", r"fc2 \(Linear\) gives something else than its weight"),
        ("own forward", r"fc2 \(Standardised\) gives something else"),
        ("parametrised", "fc2 computes its weight from other parameters"),
        ("pruned", "fc2 computes its weight from other parameters"),
    ],
)
def test_layers_that_are_not_what_they_seem(how: str, match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        reconstruct(changed(how), loader(20), units=6)


def test_a_subclass_that_does_what_its_base_does() -> None:
    class Mine(nn.Linear):
        """Nothing of its own."""

    network, data = mlp(), loader(20)
    network.fc2 = Mine(16, 12)
    small, _ = reconstruct(network, data, units=6)
    assert small.fc2.in_features == 6


class Recurrent(nn.Module):
    """Gives a tuple, of which a part is read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.middle, self.b = nn.Linear(20, 8), nn.LSTM(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.middle(self.a(x))[0])


def test_the_offending_module_is_named() -> None:
    with pytest.raises(NetworkError, match=r"a part of what middle \(LSTM\) gives cannot be reconstructed through"):
        reconstruct(Recurrent(), loader(20), units=6)
    with pytest.raises(NetworkError, match="no linear layer or convolution reads"):
        reconstruct(nn.Sequential(nn.LSTM(20, 4)), loader(20), units=6)


def test_outputs_that_are_nan() -> None:
    network = mlp()
    network.fc3.bias.data[1] = torch.nan
    with pytest.raises(NetworkError, match="gives NaN or infinite outputs"):
        reconstruct(network, loader(20), units=6)


@pytest.mark.parametrize("units", ["3", True, {"fc2": "x"}, {}])
def test_goals_that_are_no_numbers(units: Any) -> None:
    with pytest.raises(ConfigError, match="give a number"):
        reconstruct(mlp(), loader(20), units=units)


def test_what_was_not_measured_is_not_said_to_be_exact() -> None:
    """Top-down, fc3 stays as it was while its inputs change; a refit measures it."""
    network, data = mlp(), loader(20)
    goal = {"fc2": 4}
    for chaining, refit, measured in (("top-down", False, False), ("top-down", True, True), ("parallel", False, True)):
        _, report = reconstruct(network, data, units=goal, chaining=chaining, refit=refit)
        assert report["fc1"].error == 0.0
        assert (report["fc3"].error == report["fc3"].error) is measured
    assert "–" in str(reconstruct(network, data, units=goal, chaining="top-down")[1])
