"""The methods as one writes them in plain torch: a layer each, and a step that trains a stack of them.

The forms are those of the published code (local reparameterisation, approximate KL, autograd throughout); what they are
for is a step time to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], None]
K1, K2, K3 = 0.63576, 1.87320, 1.48695


def sigmoid_kl(log_alpha: Tensor) -> Tensor:
    """KL to the log-uniform prior, approximation of Molchanov et al. (2017)."""
    return -(K1 * torch.sigmoid(K2 + K3 * log_alpha) - 0.5 * F.softplus(-log_alpha) - K1).sum()


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL to N(0, 1)."""
    return 0.5 * (log_var.exp() + mean**2 - log_var - 1.0).sum()


class SparseVD(nn.Module):
    """Sparse variational dropout."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.log_var = nn.Parameter(torch.full_like(self.weight, -6.0))
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Draw the pre-activation."""
        mean = F.linear(x, self.weight, self.bias)
        variance = F.linear(x * x, self.log_var.exp())
        return mean + torch.sqrt(variance + 1e-8) * torch.randn_like(mean)

    def kl(self) -> Tensor:
        """KL of the weights."""
        return sigmoid_kl(self.log_var - torch.log(self.weight**2 + 1e-16))


class GroupNormalJeffreys(nn.Module):
    """Bayesian compression with Normal-Jeffreys scales of the inputs, biases included."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.log_var = nn.Parameter(torch.full_like(self.weight, -9.0))
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.bias_log_var = nn.Parameter(torch.full_like(self.bias, -9.0))
        self.scale = nn.Parameter(torch.ones(layer.in_features))
        self.scale_log_var = nn.Parameter(torch.full((layer.in_features,), -9.0))

    def forward(self, x: Tensor) -> Tensor:
        """Draw scales for each example, then the pre-activation."""
        x = x * (self.scale + torch.exp(0.5 * self.scale_log_var) * torch.randn_like(x))
        mean = F.linear(x, self.weight, self.bias)
        variance = F.linear(x * x, self.log_var.exp(), self.bias_log_var.exp())
        return mean + torch.sqrt(variance) * torch.randn_like(mean)

    def kl(self) -> Tensor:
        """KL of scales, weights and biases."""
        scales = sigmoid_kl(self.scale_log_var - torch.log(self.scale**2 + 1e-8))
        return scales + gaussian_kl(self.weight, self.log_var) + gaussian_kl(self.bias, self.bias_log_var)


class L0(nn.Module):
    """Point weights behind hard concrete gates of the inputs, one draw of the gates for a batch."""

    penalty, decay, beta = 0.1, 1e-4, 2.0 / 3.0

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.log_alpha = nn.Parameter(0.01 * torch.randn(layer.in_features) + math.log(0.8 / 0.2))

    def forward(self, x: Tensor) -> Tensor:
        """Draw the gates and multiply the weights."""
        u = torch.rand_like(self.log_alpha).clamp(1e-6, 1.0 - 1e-6)
        s = torch.sigmoid((torch.log(u) - torch.log(1.0 - u) + self.log_alpha) / self.beta)
        return F.linear(x, self.weight * F.hardtanh(1.2 * s - 0.1, 0.0, 1.0), self.bias)

    def kl(self) -> Tensor:
        """Price of the gates that are open, and the decay that is expected of the weights."""
        presence = torch.sigmoid(self.log_alpha - self.beta * math.log(0.1 / 1.1))
        columns = (0.5 * self.decay * self.weight**2 + self.penalty).sum(0)
        return (presence * columns).sum()


def step_of(network: nn.Sequential, layer: type[nn.Module], num_data: int, *, fused: bool = False) -> Step:
    """One step of a network whose linear layers are of a kind of this file.

    :param network: copied; layers that are not linear stay.
    :param layer: SparseVD, GroupNormalJeffreys or L0.
    :param num_data: number of training examples.
    :param fused: whether Adam is the fused one.
    """
    hand = nn.Sequential(*(layer(m) if isinstance(m, nn.Linear) else m for m in network))
    layers = [m for m in hand if isinstance(m, layer)]
    optimizer = torch.optim.Adam(hand.parameters(), lr=1e-3, fused=fused)

    def step(x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(hand(x), y) + sum(one.kl() for one in layers) / num_data
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def deterministic(network: nn.Module, *, fused: bool) -> Step:
    """One step of ordinary training."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)

    def step(x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
