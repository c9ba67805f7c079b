from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from pyrosparse.pruning.proof import difference, proved, reference_input
from pyrosparse.pruning.removal import Removal
from tests.pruning.networks import masked, mlp, ones, plan


def test_right_plan_is_kept_as_it_is() -> None:
    network = mlp(4, 4, 4, 2, activation=nn.Sigmoid)
    masks = ones(network)
    masks["fc1"][1] = False
    masks["fc3"][:, 2] = False
    removal = plan(masked(network, masks), masks, (4,))
    before = deepcopy(network.state_dict())
    assert proved(network, removal, torch.randn(8, 4)) is removal
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.fc1.out_features == 4


def test_wrong_cut_alone_is_undone_and_named() -> None:
    network = mlp(4, 4, 4, 2, activation=nn.Sigmoid)
    masks = ones(network)
    masks["fc1"][1] = False
    masks["fc3"][:, 2] = False
    removal = plan(masked(network, masks), masks, (4,))
    first, second = removal.cuts
    first.folds["fc2"] += 1.0
    removal.notes.append("as before")
    good = proved(network, removal, torch.randn(8, 4))
    assert [str(c) for c in good.cuts] == ["fc2 → fc3"]
    assert good.cuts[0] is second
    assert good.notes == ["as before", "fc1 → fc2: removing 1 units changes the outputs; they stay, masked"]


def test_cut_that_makes_the_network_fail_is_undone() -> None:
    class Network(nn.Module):
        """Its forward counts on the number of units."""

        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.fc1(x)
            if not isinstance(h, torch.fx.Proxy) and h.shape[1] != 4:
                raise KeyError("four units, please")
            return self.fc2(h)

    network = Network()
    masks = ones(network)
    masks["fc2"][:, 1] = False
    removal = plan(masked(network, masks), masks, (4,))
    assert len(removal.cuts) == 1
    good = proved(network, removal, torch.randn(2, 4))
    assert not good
    assert good.notes == ["fc1 → fc2: removing 1 units changes the outputs; they stay, masked"]


def test_layer_with_a_forward_of_its_own() -> None:
    """It looks linear, and its constants are not what its bias says."""

    class Scaled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2.0

    network = nn.Sequential(Scaled(4, 3), nn.Tanh(), nn.Linear(3, 2))
    masks = ones(network)
    masks["0"][1] = False
    removal = plan(masked(network, masks), masks, (4,))
    assert removal
    assert not proved(network, removal, torch.randn(8, 4))


def test_nothing_to_prove() -> None:
    empty = Removal(notes=["a note"])
    assert proved(mlp(2, 2), empty, torch.randn(1, 2)) is empty


def test_difference() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.eye(2) * 10.0)
        second.weight.copy_(torch.eye(2) * 11.0)
    assert difference(first, second, torch.ones(1, 2)) == pytest.approx(0.1)
    assert difference(first, nn.Linear(2, 3), torch.ones(1, 2)) == float("inf")
    with torch.no_grad():
        second.weight.fill_(torch.nan)
    assert not difference(first, second, torch.ones(1, 2)) <= 1.0


def test_reference_input_is_the_same_each_time_and_draws_nothing() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = reference_input(torch.Size((2, 3)), like)
    assert torch.equal(torch.rand(1), expected)
    assert first.shape == (16, 2, 3)
    assert first.dtype == torch.float64
    assert torch.equal(first, reference_input(torch.Size((2, 3)), like))
