"""Complex networks, data and hand-set posteriors that the tests of several stations share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import guides
from pyrosparse.guides.dropout import ComplexDropoutFamily
from pyrosparse.layers import sparse_layers

CLASSES = 3


def dense(*sizes: int, activation: Callable[[], nn.Module] = psnn.CReLU, cast: bool = True) -> nn.Sequential:
    """Complex layers fc1, fc2, … between a cast of real inputs (or complex inputs) and the real part."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(cast=psnn.ToComplex()) if cast else OrderedDict()
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False), start=1):
        layers[f"fc{i}"] = psnn.ComplexLinear(fan_in, fan_out)
        if i < len(sizes) - 1:
            layers[f"act{i}"] = activation()
    return nn.Sequential(layers | OrderedDict(real=psnn.RealPart()))


def convnet(activation: Callable[[], nn.Module] = psnn.CReLU, *, norm: bool = False, padding: int = 0) -> nn.Sequential:
    """Two complex convolutions, pooling, flattening, two linear layers: (B, 1, 8, 8), real or complex, to (B, 3)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        cast=psnn.ToComplex(), conv1=psnn.ComplexConv2d(1, 4, 3, padding=padding)
    )
    if norm:
        layers["norm1"] = psnn.ComplexBatchNorm2d(4)
    columns = 5 * (3 if padding else 2) ** 2
    layers |= OrderedDict(
        act1=activation(),
        pool1=psnn.ComplexAvgPool2d(2),
        conv2=psnn.ComplexConv2d(4, 5, 2),
        act2=activation(),
        flatten=nn.Flatten(),
        fc1=psnn.ComplexLinear(columns, 6),
        act3=activation(),
        fc2=psnn.ComplexLinear(6, CLASSES),
        real=psnn.RealPart(),
    )
    return nn.Sequential(layers)


def pair(
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    prior: ps.priors.Prior | None = None,
    complex_input: bool = False,
    num_data: int = 64,
) -> tuple[ps.SparseModel, guides.AutoSparse]:
    """A model that knows its inputs, and its guide."""
    model = ps.SparseModel(
        network, prior or ps.priors.ComplexLogUniform(), ps.likelihoods.Categorical(num_data=num_data)
    )
    model.input_shape, model.complex_input = torch.Size(shape), complex_input
    return model, guides.AutoSparse(model)


@torch.no_grad()
def kill(guide: guides.AutoSparse, dead: Mapping[str, Tensor]) -> None:
    """Give weights of sites a large variance: their log α is far above every threshold."""
    for site, mask in dead.items():
        family = guide.families[site]
        assert isinstance(family, ComplexDropoutFamily)
        family.log_var[mask] = 20.0


@torch.no_grad()
def randomise(network: nn.Module) -> nn.Module:
    """Biases and running statistics away from their start, so that a constant unit gives something."""
    for module in network.modules():
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.normal_()
        if isinstance(module, psnn.ComplexBatchNorm1d | psnn.ComplexBatchNorm2d):
            assert module.running_mean is not None and module.running_covariance is not None
            module.running_mean.normal_()
            root = 0.3 * torch.randn_like(module.running_covariance) + torch.eye(2)
            module.running_covariance.copy_(root @ root.mT)
    return network


def masks(network: nn.Module, keep: float) -> dict[str, Tensor]:
    """Random masks of the weights of each site."""
    return {f"{name}.weight": torch.rand(m.weight.shape[:-1]) < keep for name, m in sparse_layers(network).items()}
