from __future__ import annotations

import json
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from pyrosparse.coding.architecture import KINDS, UnknownLayerError, build, describe, register
from tests.coding.networks import Custom, convolutional, lenet


def rebuilt(network: nn.Module) -> nn.Module:
    tree = json.loads(json.dumps(describe(network)))
    module = build(tree)
    module.load_state_dict(network.state_dict(), assign=True)
    return module.eval()


def test_lenet_is_short_and_comes_back() -> None:
    network = lenet().network
    assert describe(network) == [
        "Q",
        ["flatten", "F"],
        ["fc1", "S", 472, 784, 54],
        ["relu1", "R"],
        ["fc2", "L", 54, 25],
        ["relu2", "R"],
        ["fc3", "L", 25, 10],
    ]
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(rebuilt(network)(x), network(x))


def test_convolutions_come_back() -> None:
    network = convolutional()
    x = torch.rand(2, 2, 9, 11)
    assert torch.equal(rebuilt(network)(x), network(x))


LAYERS = [
    (nn.Linear(4, 3, bias=False), (2, 4)),
    (nn.Conv1d(2, 4, 3, padding="same", groups=2), (2, 2, 7)),
    (nn.Conv2d(2, 4, (3, 1), dilation=2, padding_mode="circular", padding=1), (2, 2, 7, 8)),
    (nn.Conv3d(1, 2, 2), (1, 1, 4, 4, 4)),
    (nn.ConvTranspose1d(2, 4, 3, stride=2), (2, 2, 7)),
    (nn.ConvTranspose3d(1, 2, (2, 3, 2), bias=False), (1, 1, 4, 4, 4)),
    (nn.BatchNorm1d(4, affine=False), (3, 4)),
    (nn.BatchNorm2d(2, eps=1e-3), (3, 2, 4, 4)),
    (nn.LayerNorm((4, 4)), (3, 4, 4)),
    (nn.LayerNorm(4, elementwise_affine=False), (3, 4)),
    (nn.MaxPool2d(2, stride=1, ceil_mode=True), (1, 2, 5, 5)),
    (nn.MaxPool1d(3), (1, 2, 9)),
    (nn.AvgPool2d((2, 3), count_include_pad=False), (1, 2, 6, 6)),
    (nn.AvgPool3d(2), (1, 1, 4, 4, 4)),
    (nn.AdaptiveAvgPool2d((None, 3)), (1, 2, 6, 6)),
    (nn.AdaptiveMaxPool1d(2), (1, 2, 6)),
    (nn.Unflatten(1, (2, 3)), (4, 6)),
    (nn.Flatten(0, 1), (4, 2, 3)),
    (nn.GELU("tanh"), (4,)),
    (nn.Hardtanh(-2.0, 0.5), (4,)),
    (nn.ELU(0.5), (4,)),
    (nn.PReLU(3, 0.1), (4, 3)),
    (nn.Softmax(dim=1), (4, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("alone", [True, False])
def test_each_layer_comes_back(layer: nn.Module, shape: tuple[int, ...], alone: bool) -> None:
    network = (layer if alone else nn.Sequential(OrderedDict(first=layer, second=nn.Identity()))).eval()
    x = torch.randn(shape)
    assert torch.equal(rebuilt(network)(x), network(x))


def test_all_kinds_of_activation_come_back() -> None:
    plain = [kind.cls for kind in KINDS.values() if not kind.required]
    network = nn.Sequential(*(cls() for cls in plain if not issubclass(cls, nn.Softmax | nn.LogSoftmax)))
    assert str(rebuilt(network)) == str(network)


def test_building_draws_no_random_numbers_and_takes_no_memory() -> None:
    state = torch.get_rng_state()
    module = build(["Q", ["L", 1_000_000, 100_000]])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.is_meta for p in module.parameters())


class Twice(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_what_cannot_be_rebuilt_is_not_described() -> None:
    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda module, args, output: output + 1)
    shared = nn.Linear(2, 2)
    for network in (Custom(), nn.Sequential(Twice()), hooked, nn.Sequential(shared, shared)):
        assert describe(network) is None


@pytest.mark.parametrize(
    "tree",
    [
        None,
        [],
        "L",
        ["Z"],
        ["L", 3],
        ["L", 3, -4],
        ["L", 3, "4"],
        ["L", 3, 4, {"bias": 1}],
        ["L", 3, 4, {"device": "cuda"}],
        ["S", 3, None, 4],
        ["S", -3, 5, 4],
        ["D", {"p": "0.5"}],
        ["D", {"p": 7.0}],
        ["Q", 3],
        ["Q", ["a.b", "R"]],
        ["Q", ["a", "R"], ["a", "R"]],
        ["Q", ["forward", "R"]],
        ["Q", *([["R"]] * 5000)],
    ],
    ids=lambda t: str(t)[:30],
)
def test_other_trees_are_refused(tree: object) -> None:
    with pytest.raises(UnknownLayerError):
        build(tree)


def test_deep_trees_are_refused() -> None:
    tree: list[object] = ["R"]
    for _ in range(60):
        tree = ["Q", tree]
    with pytest.raises(UnknownLayerError):
        build(tree)


class Scale(nn.Module):
    def __init__(self, size: int, gain: float = 2.0) -> None:
        super().__init__()
        self.size, self.gain = size, gain
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.weight * x


def test_a_layer_class_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrosparse.coding import architecture

    monkeypatch.setattr(architecture, "KINDS", dict(KINDS))
    monkeypatch.setattr(architecture, "_CLASSES", dict(architecture._CLASSES))
    register("XS", Scale)
    network = nn.Sequential(Scale(3, gain=4.0))
    assert describe(network) == ["Q", ["XS", 3, {"gain": 4.0}]]
    assert torch.equal(rebuilt(network)(torch.ones(3)), torch.full((3,), 4.0))
    with pytest.raises(ValueError, match="another layer class"):
        register("L", Scale)
