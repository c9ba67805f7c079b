"""Networks and data that the tests of reconstruction share."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.data import TensorLoader


def loader(*shape: int, count: int = 240, batch: int = 64) -> TensorLoader:
    """Smooth positive data of low rank with a little noise, and labels."""
    size = torch.Size(shape).numel()
    x = torch.relu(torch.randn(count, 6) @ torch.randn(6, size)) + 0.05 * torch.randn(count, size)
    return TensorLoader(x.reshape(count, *shape), torch.randint(3, (count,)), batch, shuffle=False)


def mlp() -> nn.Sequential:
    """20-16-12-3, its input flattened."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(20, 16),
            act1=nn.ReLU(),
            fc2=nn.Linear(16, 12),
            act2=nn.Tanh(),
            fc3=nn.Linear(12, 3),
        )
    )


def convnet() -> nn.Sequential:
    """Convolutions with and without a bias, batch normalisation, pooling, flattening: (B, 1, 10, 10) to (B, 3)."""
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1),
            norm1=nn.BatchNorm2d(6),
            act1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
            norm2=nn.BatchNorm2d(8),
            act2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(8 * 9, 10),
            act3=nn.ReLU(),
            fc2=nn.Linear(10, 3),
        )
    )
    for norm in (network.norm1, network.norm2):
        nn.init.normal_(norm.running_mean, std=0.3)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.normal_(norm.bias, std=0.3)
    return network


class Block(nn.Module):
    """Residual block; its activation is used twice, as is usual."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.conv2(self.act(self.norm1(self.conv1(x)))))


class Residual(nn.Module):
    """Two residual blocks that share their channels: (B, 2, 6, 6) to (B, 3)."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, channels, 3, padding=1)
        self.block1 = Block(channels, 6)
        self.block2 = Block(channels, 5)
        self.head = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(torch.relu(self.stem(x))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


NETWORKS = {
    "linear": (mlp, (20,)),
    "convolution": (convnet, (1, 10, 10)),
    "residual": (Residual, (2, 6, 6)),
}
