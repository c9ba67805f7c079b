from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.surgery import Cutter, cut_network
from tests.pruning.networks import apart, masked, mlp, ones, plan


def trained(network: nn.Module, shape: tuple[int, ...], optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(4, *shape)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
@pytest.mark.parametrize("axis", [0, 1])
def test_cutter_takes_parameter_and_moments(kind: type[torch.optim.Optimizer], axis: int) -> None:
    layer = nn.Linear(5, 4)
    options = {"momentum": 0.9} if kind is not torch.optim.Adam else {"amsgrad": True}
    optimizer = kind(layer.parameters(), lr=0.01, **options)
    trained(layer, (5,), optimizer)
    weight, before = layer.weight, layer.weight.detach().clone()
    moments = {k: v.clone() for k, v in optimizer.state[weight].items() if isinstance(v, Tensor)}
    assert any(v.shape == before.shape for v in moments.values())
    index = torch.tensor([0, 2, 3])
    Cutter(optimizer).take(weight, axis, index)
    assert layer.weight is weight
    assert weight.grad is None
    assert torch.equal(weight, before.index_select(axis, index))
    for key, value in moments.items():
        expected = value.index_select(axis, index) if value.shape == before.shape else value
        assert torch.equal(optimizer.state[weight][key], expected)
    # the optimiser goes on with what is left
    assert any(p is weight for group in optimizer.param_groups for p in group["params"])


def test_cutter_without_state() -> None:
    layer = nn.Linear(5, 4)
    optimizer = torch.optim.Adam(layer.parameters())
    Cutter(optimizer).take(layer.weight, 1, torch.tensor([1]))
    assert layer.weight.shape == (4, 1)
    assert not optimizer.state


def test_cutter_takes_masks() -> None:
    mask = torch.tensor([[True, False, True]])
    Cutter().take(mask, 1, torch.tensor([0, 1]))
    assert mask.tolist() == [[True, False]]


def test_step_after_the_cut_is_the_step_of_the_whole_on_what_stays() -> None:
    """Adam on the cut network and on the whole one whose dead weights are 0: the same numbers, step by step."""
    network = mlp(5, 6, 4, 2, activation=nn.Tanh)
    masks = ones(network)
    masks["fc2"][:, [1, 4]] = False  # nothing reads these units
    masks["fc1"][:, 3] = False  # nothing reads this input
    masked(network, masks)
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=0.01)

    def step(net: nn.Module, opt: torch.optim.Optimizer, x: Tensor) -> None:
        opt.zero_grad()
        net(x).square().mean().backward()
        for name, mask in masks.items():
            weight = net.get_submodule(name).weight
            if weight.shape == mask.shape:
                weight.grad.mul_(mask)
        opt.step()

    for _ in range(3):
        step(network, optimizer, torch.randn(8, 5))
    whole = deepcopy(network)
    other = torch.optim.Adam(whole.parameters(), lr=0.01)
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    cut_network(network, plan(network, masks, (5,)), cutter=Cutter(optimizer))
    assert network.fc1.weight.shape == (4, 4)
    units, inputs = [0, 2, 3, 5], [0, 1, 2, 4]
    for _ in range(5):
        x = torch.randn(8, 5)
        step(network, optimizer, x)
        step(whole, other, x)
        assert torch.allclose(network.fc1.weight, whole.fc1.weight[units][:, inputs], atol=1e-7)
        assert torch.allclose(network.fc1.bias, whole.fc1.bias[units], atol=1e-7)
        assert torch.allclose(network.fc2.weight, whole.fc2.weight[:, units], atol=1e-7)
        assert torch.allclose(network.fc3.weight, whole.fc3.weight, atol=1e-7)
        assert apart(whole, network, x) < 1e-5


def test_sizes_are_written_down() -> None:
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3),
            norm1=nn.BatchNorm2d(4),
            conv2=nn.ConvTranspose2d(4, 5, 2),
            flat=nn.Flatten(),
            norm2=nn.BatchNorm1d(5 * 25),
            fc1=nn.Linear(5 * 25, 6),
            fc2=nn.Linear(6, 2),
        )
    )
    masks = ones(network)
    masks["conv2"][[1, 3]] = False  # a transposed convolution has its inputs first
    masks["fc1"][:, 25:75] = False
    masks["fc2"][:, [0, 5]] = False
    norms = {name: deepcopy(network.get_submodule(name).eval()) for name in ("norm1", "norm2")}
    masked(network, masks)
    small = deepcopy(network)
    cut_network(small, plan(network, masks, (1, 6, 6)))
    assert (small.conv1.out_channels, small.conv2.in_channels, small.conv2.out_channels) == (2, 2, 3)
    assert small.conv2.weight.shape == (2, 3, 2, 2)
    assert (small.fc1.in_features, small.fc1.out_features, small.fc2.in_features) == (75, 4, 4)
    assert (small.norm1.num_features, small.norm2.num_features) == (2, 75)
    assert torch.equal(small.norm1.weight, norms["norm1"].weight[[0, 2]])
    assert small.norm2.running_var.shape == (75,)
    assert "in_features=75" in repr(small.fc1)
    assert apart(network, small, torch.randn(3, 1, 6, 6)) < 1e-5


def test_normalisation_without_parameters_and_its_moments() -> None:
    norms = nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False)
    network = nn.Sequential(nn.Linear(3, 4), norms[0], nn.ReLU(), nn.Linear(4, 4), norms[1], nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    trained(network, (3,), optimizer)
    masks = ones(network)
    masks["3"][:, 0] = False
    masks["5"][:, 2:] = False
    masked(network, masks)
    scale, before = network[1].weight, optimizer.state[network[1].weight]["exp_avg"].clone()
    cut_network(network, plan(network, masks, (3,)), cutter=Cutter(optimizer))
    assert network[1].weight is scale
    assert torch.equal(optimizer.state[scale]["exp_avg"], before[1:])
    assert network[4].running_mean.shape == (2,)


def test_dead_inputs_leave_a_layer_that_selects() -> None:
    network = mlp(6, 4, 2)
    masks = ones(network)
    masks["fc1"][:, [0, 3]] = False
    masked(network, masks).train()
    weight, bias = network.fc1.weight, network.fc1.bias
    whole = deepcopy(network)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    cut_network(network, plan(network, masks, (6,)))
    assert torch.equal(torch.rand(2), expected), "the generator of random numbers was used"
    assert isinstance(network.fc1, SelectLinear)
    assert network.fc1.weight is weight
    assert network.fc1.bias is bias
    assert network.fc1.training
    assert list(network._modules) == ["fc1", "act1", "fc2"]
    assert network.fc1.index.tolist() == [1, 2, 4, 5]
    assert apart(whole, network, torch.randn(4, 6)) < 1e-6
    # once more
    masks = ones(network)
    masks["fc1"][:, 1] = False
    masked(network, masks)
    whole = deepcopy(network)
    cut_network(network, plan(network, masks, (6,)))
    assert network.fc1.index.tolist() == [1, 4, 5]
    assert network.fc1.original_features == 6
    assert apart(whole, network, torch.randn(4, 6)) < 1e-6


def test_layer_without_bias_selects() -> None:
    network = mlp(4, 3, 2, bias=False)
    masks = ones(network)
    masks["fc1"][:, 0] = False
    masked(network, masks)
    cut_network(network, plan(network, masks, (4,)))
    assert network.fc1.bias is None
    assert set(network.state_dict()) == {"fc1.index", "fc1.weight", "fc2.weight"}


def test_selecting_layer_is_put_wherever_the_old_one_was() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 3), nn.Linear(3, 2)
            self.all = nn.ModuleList([self.fc1, self.fc2])

        def forward(self, x: Tensor) -> Tensor:
            return self.all[1](torch.relu(self.all[0](x)))

    network = Network()
    masks = ones(network)
    masks["fc1"][:, 0] = False
    masked(network, masks)
    whole = deepcopy(network)
    cut_network(network, plan(network, masks, (4,)))
    assert network.all[0] is network.fc1
    assert isinstance(network.fc1, SelectLinear)
    assert apart(whole, network, torch.randn(4, 4)) < 1e-6


def test_nested_layers() -> None:
    network = nn.Sequential(OrderedDict(body=mlp(4, 3, 3), act=nn.ReLU(), head=mlp(3, 3, 2)))
    masks = ones(network)
    masks["body.fc1"][:, 1] = False
    masks["head.fc1"][:, 2] = False
    masked(network, masks)
    whole = deepcopy(network)
    taken = cut_network(network, plan(network, masks, (4,)))
    assert isinstance(network.body.fc1, SelectLinear)
    assert network.head.fc1.weight.shape == (3, 2)
    assert taken["body.fc1"][0] is None
    assert taken["body.fc1"][1].tolist() == [0, 2, 3]
    assert taken["body.fc2"][0].tolist() == [0, 1]
    assert apart(whole, network, torch.randn(4, 4)) < 1e-6


def test_posterior_is_cut_along() -> None:
    network = mlp(4, 3, 2)
    masks = ones(network)
    masks["fc2"][:, 1] = False
    masked(network, masks)
    posterior = {name: {"sigma": torch.rand_like(mask, dtype=torch.float32)} for name, mask in masks.items()}
    before = {name: tensors["sigma"].clone() for name, tensors in posterior.items()}
    cut_network(network, plan(network, masks, (4,)), posterior=lambda layer: posterior[layer])
    assert torch.equal(posterior["fc1"]["sigma"], before["fc1"][[0, 2]])
    assert torch.equal(posterior["fc2"]["sigma"], before["fc2"][:, [0, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_after_the_cut_while_an_old_graph_is_alive(dtype: torch.dtype) -> None:
    layer = nn.Linear(5, 4, dtype=dtype)
    old = layer(torch.ones(1, 5, dtype=dtype)).sum()
    old.backward(retain_graph=True)
    Cutter().take(layer.weight, 1, torch.tensor([0, 2]))
    assert layer.weight.dtype == dtype
    torch.nn.functional.linear(torch.ones(3, 2, dtype=dtype), layer.weight).sum().backward()
    assert torch.equal(layer.weight.grad, torch.full((4, 2), 3.0, dtype=dtype))
    assert old.requires_grad
