"""A cut of a dense network to fewer units before the fit: for networks whose units die too slowly for a CPU."""

from __future__ import annotations

from copy import deepcopy

import torch
from compression import Recipe
from mnist import Data
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules
from pyrosparse.layers import sparse_layers
from pyrosparse.pruning.graph import Units, find_links
from pyrosparse.pruning.removal import plan_removal
from pyrosparse.pruning.surgery import cut_network


@torch.no_grad()
def input_moments(network: nn.Module, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each input (channel or feature) of a layer over images and positions."""
    seen: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network.eval()
    for batch in x.split(500):
        network(batch)
    handle.remove()
    values = torch.cat(seen)
    values = values.movedim(1, 0).flatten(1)
    return values.mean(1), values.var(1)


def precut(dense: nn.Module, train: TensorLoader, data: Data, recipe: Recipe, inputs: int | None = None) -> nn.Module:
    """Keep the units of largest |outgoing weight|² × variance, fold the others' means, train a little.

    :param inputs: of the network's inputs, keep so many by the same rule; all when None.
    """
    network = deepcopy(dense)
    layers = list(sparse_layers(network))
    x = data.train.x[:5000]
    wanted = [([layer], units) for layer, units in zip(layers, recipe.precut, strict=False)]
    for producers, units in wanted if inputs is None else [([], inputs), *wanted]:
        links = find_links(network, layers, x.shape[1:])
        link = next(link for link in links.links if link.producers == producers)
        _fold_means(network, link, units, x)
        masks = {layer: network.get_submodule(layer).weight != 0 for layer in layers}
        weights = {layer: network.get_submodule(layer).weight.detach() for layer in layers}
        cut_network(network, plan_removal(network, links, masks, weights))
    return ps.train(network, train, epochs=3, lr=1e-3, lr_schedule=schedules.cosine(hold=0.3), progress=False)


@torch.no_grad()
def _fold_means(network: nn.Module, link: Units, units: int, x: Tensor) -> None:
    ((layer, spread),) = link.consumers.items()
    consumer = network.get_submodule(layer)
    mean, variance = input_moments(network, layer, x)
    columns = consumer.weight.flatten(2).sum(2) if consumer.weight.dim() > 2 else consumer.weight
    energy = consumer.weight.square().transpose(0, 1).flatten(1).sum(1) * variance
    drop = torch.ones(energy.numel() // spread, dtype=torch.bool)
    drop[energy.reshape(-1, spread).sum(1).topk(units).indices] = False
    gone = drop.repeat_interleave(spread)
    consumer.bias += columns[:, gone] @ mean[gone]
    consumer.weight[:, gone] = 0.0
