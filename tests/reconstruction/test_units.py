"""How units flow through networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.removal import Removal, UnitCut
from pyrosparse.pruning.surgery import cut_network
from pyrosparse.reconstruction.sizes import index_bytes, layer_bytes, network_bytes, own_bytes
from pyrosparse.reconstruction.units import column_groups, find_units
from tests.reconstruction.networks import Residual, convnet, mlp


def described(network: nn.Module, *shape: int) -> dict[str, str]:
    return {str(u): u.pinned for u in find_units(network, torch.Size(shape)).units}


def test_sequential_networks() -> None:
    assert described(mlp(), 20) == {"input → fc1": "", "fc1 → fc2": "", "fc2 → fc3": ""}
    found = find_units(convnet(), torch.Size((1, 10, 10)))
    assert [str(u) for u in found.units] == ["input → conv1", "conv1 → conv2", "conv2 → fc1 (×9)", "fc1 → fc2"]
    assert found.layers == ["conv1", "conv2", "fc1", "fc2"]
    assert "cannot choose channels" in found.units[0].pinned
    assert found.units[2].consumers == {"fc1": 9}
    assert found.units[2].norms == {"norm2": 1}


def test_residual_networks() -> None:
    found = find_units(Residual(), torch.Size((2, 6, 6)))
    names = {str(u) for u in found.units if not u.pinned}
    assert names == {
        "stem + block1.conv2 + block2.conv2 → block1.conv1, block2.conv1, head",
        "block1.conv1 → block1.conv2",
        "block2.conv1 → block2.conv2",
    }
    assert found.layers[-1] == "head"


class Fork(nn.Module):
    """Two readers of the input, and two of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.a(x) + self.b(x))
        return self.c(h), self.d(h)


def test_forks() -> None:
    assert described(Fork(), 6) == {"input → a": "", "input → b": "", "a + b → c, d": ""}


class Skip(nn.Module):
    """The input is added to a layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + self.a(x))


def test_units_that_must_stay() -> None:
    found = described(Skip(), 6)
    assert "adds the network's input" in found["a → b"]
    assert found["input → a"] == ""
    squashed = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    found = described(squashed, 6)
    assert "BatchNorm1d" in found["input → 1"]
    assert found["1 → 3"] == ""


class Cat(nn.Module):
    """Concatenation is none of the operations that are followed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x), self.b(x)], 1))


class Wide(nn.Module):
    """A sum that broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 3), nn.Linear(6, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) + self.b(x))


@pytest.mark.parametrize(
    ("network", "shape", "match"),
    [
        (Cat(), (6,), "c reads a concatenation"),
        (Wide(), (6,), r"add of tensors of shapes \(1, 3\) and \(1, 1\)"),
        (nn.Sequential(nn.Linear(4, 4)), (3, 4), "gives a tensor of shape"),
        (
            nn.Sequential(nn.Linear(4, 4), SelectLinear(torch.arange(2), 4, 2)),
            (4,),
            "can only read the network's input",
        ),
    ],
)
def test_refusals(network: nn.Module, shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        find_units(network, torch.Size(shape))


def test_columns_of_units() -> None:
    assert column_groups(nn.Linear(6, 2), 3).tolist() == [0, 0, 0, 1, 1, 1]
    assert column_groups(nn.Conv2d(2, 3, (1, 2)), 1).tolist() == [0, 0, 1, 1]


def test_cutting_leaves_what_is_read() -> None:
    """Folded network = masked network, for any choice of units."""
    for make, shape in ((mlp, (20,)), (convnet, (1, 10, 10)), (Residual, (2, 6, 6))):
        network, x = make().eval(), torch.randn(4, *shape)
        structure = find_units(network, torch.Size(shape))
        kept = {u: torch.rand(u.count) < 0.6 for u in structure.units if not u.pinned}
        for units, mask in kept.items():
            mask[0] = True
            for layer, spread in units.consumers.items():
                weight = network.get_submodule(layer).weight
                with torch.no_grad():
                    weight[:, ~mask.repeat_interleave(spread)] = 0
        expected = network(x)
        cut_network(network, Removal(structure.flow, [UnitCut(u, mask) for u, mask in kept.items()]))
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_sizes() -> None:
    assert index_bytes(784, 784) == 0
    assert index_bytes(700, 784) == 98
    assert index_bytes(10, 784) == pytest.approx(10 * 9.6147 / 8, rel=1e-4)
    assert layer_bytes(nn.Linear(50, 7), 5, 4, 3) == 4 * (5 * 12 + 5)
    assert layer_bytes(nn.Conv2d(6, 8, 3, bias=False), 8, 2, 1) == 4 * (8 * 2 * 9 + 8)
    assert layer_bytes(nn.Conv2d(6, 8, 3, groups=2, bias=False), 8, 6, 1) == 4 * 8 * 3 * 9
    assert layer_bytes(nn.Linear(784, 3), 3, 10, 1, features=784) == 4 * 33 + index_bytes(10, 784)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    assert network_bytes(network) == 4 * (36 + 4 + 8 + 8)
    assert own_bytes(SelectLinear(torch.arange(3), 12, 2)) == 4 * 8 + index_bytes(3, 12)
