"""Networks for the tests of files: pruned, with posterior standard deviations, and made from a seed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.pruned import Pruned, PruneReport

LENET_PARAMETERS = 266_610


def thin(weight: Tensor, nonzero: int, generator: torch.Generator, spread: float = 4.8) -> Tensor:
    """Keep ``nonzero`` random weights with a hole around zero; return their standard deviations."""
    keep = torch.zeros(weight.numel(), dtype=torch.bool)
    keep[torch.randperm(weight.numel(), generator=generator)[:nonzero]] = True
    keep = keep.view_as(weight)
    deviation = 0.05 * torch.exp(0.3 * torch.randn(weight.shape, generator=generator))
    size = deviation * (1.5 + 0.3 * spread * torch.randn(weight.shape, generator=generator).abs())
    sign = torch.randn(weight.shape, generator=generator).sign()
    with torch.no_grad():
        weight.copy_(torch.where(keep, size * sign, torch.zeros(())))
    return torch.where(keep, deviation, torch.zeros(()))


def lenet(seed: int = 0, nonzero: Sequence[int] = (1700, 400, 100), pixels: int = 472) -> Pruned:
    """LeNet-300-100 as pruning leaves it: 54 and 25 units, pixels in a ragged disc."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    radius = (y - 13.5) ** 2 + (x - 13.5) ** 2 + 12 * torch.randn(28, 28, generator=generator)
    index = radius.flatten().argsort()[:pixels].sort().values
    layers = {
        "flatten": nn.Flatten(),
        "fc1": SelectLinear(index, 784, 54),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(54, 25),
        "relu2": nn.ReLU(),
        "fc3": nn.Linear(25, 10),
    }
    network = nn.Sequential(OrderedDict(layers)).eval()
    sigma = {}
    for name, count in zip(("fc1", "fc2", "fc3"), nonzero, strict=True):
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        sigma[f"{name}.weight"] = thin(layer.weight, count, generator)
        with torch.no_grad():
            layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))
    kept = {
        "fc1": (torch.arange(54) * 5, index),
        "fc2": (torch.arange(25) * 3, torch.arange(54) * 5),
        "fc3": (torch.arange(10), torch.arange(25) * 3),
    }
    shapes = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
    masks = {}
    for name, (rows, columns) in kept.items():
        mask = torch.zeros(shapes[name], dtype=torch.bool)
        mask[rows[:, None], columns[None, :]] = network.get_parameter(f"{name}.weight").detach() != 0
        masks[f"{name}.weight"] = mask
    return Pruned(network, masks, sigma, kept, LENET_PARAMETERS, PruneReport(threshold=3.0))


def convolutional(seed: int = 0) -> nn.Sequential:
    """Layers of many kinds, with statistics that are not the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, 6, (3, 5), stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(6, 4, 3, output_padding=1, stride=2),
        nn.AvgPool2d(2),
        nn.Dropout2d(0.1),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.Softplus(beta=2.0)),
    )
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.5 * torch.rand(value.shape, generator=generator) + 0.1)
    return network.eval()


class Custom(nn.Module):
    """A network of a class that no file knows."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(6, hidden)
        self.outer = nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x)))


def equal(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same tensors, bit for bit."""
    one, two = first.state_dict(), second.state_dict()
    return list(one) == list(two) and all(
        one[k].dtype == two[k].dtype and one[k].shape == two[k].shape and torch.equal(one[k], two[k]) for k in one
    )
