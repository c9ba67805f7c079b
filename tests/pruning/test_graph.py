from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse import models
from pyrosparse.layers import sparse_layers
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.graph import Links, find_links
from tests.pruning.networks import Residual, Written, mlp


def links_of(network: nn.Module, *shape: int) -> Links:
    return find_links(network, sparse_layers(network), torch.Size(shape))


def arrows(network: nn.Module, *shape: int) -> list[str]:
    return [str(link) for link in links_of(network, *shape).links]


def test_multi_layer_perceptron() -> None:
    found = links_of(mlp(5, 4, 4, 2), 5)
    assert [str(link) for link in found.links] == ["input → fc1", "fc1 → fc2", "fc2 → fc3"]
    assert found.notes == []
    assert str(found) == "input → fc1\nfc1 → fc2\nfc2 → fc3"


def test_lenets_of_the_zoo() -> None:
    assert arrows(models.lenet_300_100(), 1, 28, 28) == ["input → fc1", "fc1 → fc2", "fc2 → fc3"]
    found = links_of(models.lenet_5_caffe(), 1, 28, 28)
    assert [str(link) for link in found.links] == ["conv1 → conv2", "conv2 → fc1 (×16)", "fc1 → fc2"]
    assert [link.consumers for link in found.links] == [{"conv2": 1}, {"fc1": 16}, {"fc2": 1}]
    assert found.notes == []


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: torch.flatten(x, 1),
        lambda x: torch.flatten(x, start_dim=1),
        lambda x: x.flatten(1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(x.shape[0], -1),
        lambda x: x.reshape(len_of(x), -1),
        lambda x: x.reshape((-1, x.shape[1] * x.shape[2] * x.shape[3])),
    ],
)
def test_class_with_functions(flatten: object) -> None:
    assert arrows(Written(flatten), 1, 8, 8) == ["conv → fc1 (×9)", "fc1 → fc2"]


def len_of(x: Tensor) -> int:
    batch, *_ = x.shape[0], x.shape[1]
    return batch


def test_batch_size_read_from_the_input() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2 * 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            batch = x.size(0)
            return self.fc(torch.sigmoid(self.conv(x)).view(batch, -1))

    found = links_of(Network(), 1, 4, 4)
    assert str(found) == "conv → fc (×4)"
    assert torch.allclose(found.flow.constants({"conv": torch.zeros(2)})["fc"], torch.full((8, 1), 0.5))


def test_number_of_units_written_out() -> None:
    found = links_of(Written(lambda x: x.view(-1, 36)), 1, 8, 8)
    assert [str(link) for link in found.links] == ["fc1 → fc2"]
    assert found.notes == [
        "conv: view with the number of units written out (flatten(1) would do) follows; its units stay"
    ]


def test_input_features_written_out_do_no_harm() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(16, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.fc1(x.view(-1, 16)).relu())

    assert arrows(Network(), 1, 4, 4) == ["input → fc1", "fc1 → fc2"]


@pytest.mark.parametrize(
    ("network", "shape", "expected", "norms"),
    [
        (
            nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2)),
            (4,),
            ["input → 0", "0 → 4"],
            ["1"],
        ),
        (
            nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3)),
            (1, 6, 6),
            ["0 → 3"],
            ["1"],
        ),
        (
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2)),
            (1, 4, 4),
            ["0 → 3 (×4)"],
            ["2"],
        ),
        (
            nn.Sequential(nn.ConvTranspose1d(2, 3, 2), nn.Tanh(), nn.ConvTranspose1d(3, 2, 2)),
            (2, 5),
            ["0 → 2"],
            [],
        ),
        (
            nn.Sequential(nn.Conv3d(1, 2, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)),
            (1, 3, 3, 3),
            ["0 → 3"],
            [],
        ),
    ],
)
def test_what_may_stand_between(
    network: nn.Module, shape: tuple[int, ...], expected: list[str], norms: list[str]
) -> None:
    found = links_of(network, *shape)
    assert [str(link) for link in found.links] == expected
    assert list(found.links[-1].norms) == norms
    assert found.notes == []


def test_residual_sum_ties_units() -> None:
    found = links_of(Residual(), 4)
    assert [str(link) for link in found.links] == ["input → fc1", "fc1 + fc2 → fc2, fc3"]
    assert found.notes == []


class Cat(nn.Module):
    """Two branches side by side, behind them a sum with a third: the third's units go with those of both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(4, 3), nn.Linear(4, 2), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(torch.cat([self.a(x), self.b(x).relu()], 1) + self.c(x))


def test_concatenation() -> None:
    found = links_of(Cat(), 4)
    assert [str(link) for link in found.links] == ["input → a", "input → b", "input → c", "a + c → d", "b + c → d"]
    assert [link.count for link in found.links] == [4, 4, 4, 3, 2]
    assert found.notes == []


def test_concatenation_with_the_input() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cat((x, self.a(x)), dim=-1))

    assert arrows(Network(), 4) == ["input → a", "a → b", "input → b"]


@pytest.mark.parametrize(
    ("join", "note"),
    [
        (lambda a, b: torch.cat([a, b], 0), "cat follows"),
        (lambda a, b: a + b[:, :1], "getitem follows"),
        (lambda a, b: a @ b.t() @ b, "t follows"),
        (lambda a, b: torch.softmax(a, 1) + b, "softmax follows"),
        (lambda a, b: a - b.mean(1, keepdim=True), "mean follows"),
        (lambda a, b: a * a.shape[1] + b, "mul follows"),
    ],
)
def test_what_joins_otherwise_is_named(join: object, note: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(join(self.a(x), self.b(x)))

    found = links_of(Network(), 4)
    assert [str(link) for link in found.links] == ["input → a", "input → b"]
    assert any(note in n for n in found.notes)


def test_layer_used_twice_is_named_once() -> None:
    shared = nn.Linear(4, 4)
    found = links_of(nn.Sequential(OrderedDict(a=shared, act=nn.ReLU(), b=shared, c=nn.Linear(4, 2))), 4)
    assert found.links == []
    assert found.notes == [
        "a: used more than once; its units stay",
    ]


def test_tied_weights() -> None:
    network = mlp(4, 4, 4, 2)
    network.fc2.weight = network.fc1.weight
    found = links_of(network, 4)
    assert found.links == []
    assert "fc1: used more than once; its units stay" in found.notes
    assert "fc2: used more than once; its units stay" in found.notes


def test_weight_read_elsewhere() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.mean = nn.Linear(4, 3), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.mean(F.relu(self.encode(x))) + F.linear(x, self.encode.weight.t() @ self.encode.weight)

    found = links_of(Network(), 4)
    assert found.links == []
    assert "encode: used more than once; its units stay" in found.notes


def test_module_registered_under_two_names_is_used_once() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 3), nn.Linear(3, 2)
            self.all = nn.ModuleList([self.fc1, self.fc2])

        def forward(self, x: Tensor) -> Tensor:
            return self.all[1](F.relu(self.all[0](x)))

    assert arrows(Network(), 4) == ["input → fc1", "fc1 → fc2"]


def test_grouped_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1))
    found = links_of(network, 1, 8, 8)
    assert found.links == []
    assert found.notes == [
        "0: 2 is a grouped convolution; its units stay",
        "2: grouped convolution; its units stay",
    ]


def test_layer_without_prior() -> None:
    network = mlp(4, 4, 4, 2)
    found = find_links(network, ["fc1", "fc3"], torch.Size([4]))
    assert [str(link) for link in found.links] == ["input → fc1"]
    assert found.notes == ["fc1: fc2 reads it and has no prior; its units stay"]


@pytest.mark.parametrize(
    "network",
    [
        # a linear layer acts on the last axis, the convolution reads the second
        nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Conv1d(4, 2, 1)),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Conv1d(4, 2, 1)),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
    ],
)
def test_linear_layer_on_sequences(network: nn.Module) -> None:
    found = links_of(network, 4, 5)
    assert "0" not in [name for link in found.links for name in link.producers]
    assert any(note.startswith("0: gives a tensor of shape (1, 4, ") for note in found.notes)


def test_flattening_of_two_axes_only() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(1, 2), nn.Conv1d(24, 2, 1))
    assert arrows(network, 1, 8, 8) == ["0 → 2 (×6)"]


def test_pooling_across_units() -> None:
    network = nn.Sequential(nn.Linear(5, 6), nn.AvgPool1d(3, stride=1, padding=1), nn.Linear(6, 2))
    found = links_of(network, 5)
    assert "0: 1 (AvgPool1d) follows; its units stay" in found.notes


@pytest.mark.parametrize("between", [nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.Softmax(1), nn.Flatten(0)])
def test_what_mixes_units(between: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(5, 6), between, nn.Linear(6, 2))
    assert "0" not in [name for link in links_of(network, 5).links for name in link.producers]


def test_scaled_input_keeps_its_features() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(F.relu(self.fc1(torch.tanh(x))))

    assert arrows(Network(), 5) == ["fc1 → fc2"]


def test_control_flow_is_a_note() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.fc1(x) if x.sum() > 0 else self.fc1(-x))

    found = links_of(Network(), 5)
    assert found.links == []
    (note,) = found.notes
    assert note.startswith("the network cannot be traced (TraceError: ")
    assert note.endswith("): no unit is removed")


def test_failing_forward_is_one_line_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    found = links_of(mlp(5, 4, 2), 6)
    (note,) = found.notes
    assert "\n" not in note
    assert note.startswith("the network cannot be traced (RuntimeError: mat1 and mat2")
    assert capfd.readouterr() == ("", "")


def test_shape_of_the_input_is_not_known() -> None:
    found = find_links(mlp(5, 4, 2), ["fc1", "fc2"], None)
    assert found.links == []
    assert "not known" in found.notes[0]


def test_further_arguments_keep_their_defaults() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor, mask: Tensor | None = None, features: bool = False) -> Tensor:
            h = F.relu(self.fc1(x))
            if features:
                return h
            if mask is not None:
                h = h * mask
            return self.fc2(h)

    found = links_of(Network(), 5)
    assert [str(link) for link in found.links] == ["input → fc1", "fc1 → fc2"]
    assert found.notes == []


def test_modes_and_generator_are_untouched() -> None:
    class Noisy(Written):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.randn(1))

    network = Noisy(lambda x: x.flatten(1)).train()
    network.fc1.eval()
    before = {name: module.training for name, module in network.named_modules()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    assert len(links_of(network, 1, 8, 8).links) == 2
    assert torch.equal(torch.rand(3), expected)
    assert {name: module.training for name, module in network.named_modules()} == before


def test_dropout_function_is_off_although_the_network_trains() -> None:
    flow = links_of(Written(lambda x: x.flatten(1)).train(), 1, 8, 8).flow
    assert torch.equal(flow.constants({"fc1": torch.ones(6)})["fc2"], torch.ones(6, 1))


def test_dropout_that_is_always_on() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(F.dropout(self.fc1(x)))

    found = links_of(Network(), 5)
    assert found.notes == ["fc1: dropout follows; its units stay"]


def test_constants_leave_biases_and_modes_alone() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(3, 2)).train()
    bias = network[0].bias
    with torch.no_grad():
        bias.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    flow = links_of(network, 4).flow
    assert torch.equal(flow.constants({"0": bias})["3"], torch.tensor([[0.0], [0.0], [2.0]]))
    assert torch.equal(bias.detach(), torch.tensor([-1.0, 0.0, 2.0]))
    assert network[2].training


def test_constants_behind_pooling_and_normalisation() -> None:
    norm = nn.BatchNorm2d(2)
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
        norm.running_var.copy_(torch.tensor([4.0, 9.0]))
        norm.bias.copy_(torch.tensor([0.0, 5.0]))
    network = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    seen = links_of(network, 1, 6, 6).flow.constants({"0": torch.tensor([3.0, -1.0])})["5"]
    expected = torch.tensor([1.0, 4.0]).repeat_interleave(4)[:, None]
    assert torch.allclose(seen, expected, atol=1e-4)


def test_select_linear_is_one_layer() -> None:
    network = nn.Sequential(
        OrderedDict(fc1=SelectLinear(torch.tensor([0, 2]), 4, 3), act=nn.ReLU(), fc2=nn.Linear(3, 2))
    )
    assert arrows(network, 4) == ["input → fc1", "fc1 → fc2"]


def test_subclass_of_a_layer_is_one_layer() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2.0

    assert arrows(nn.Sequential(Scaled(4, 3), nn.ReLU(), nn.Linear(3, 2)), 4) == ["input → 0", "0 → 2"]
