"""Networks, masks and posteriors that the tests of pruning share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.data import TensorLoader
from pyrosparse.layers import axes, sparse_layers
from pyrosparse.pruning.graph import find_links
from pyrosparse.pruning.masks import keep_masks, masked_network
from pyrosparse.pruning.removal import Removal, plan_removal
from pyrosparse.pruning.surgery import cut_network

CLASSES = 3


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    """Layers fc1, fc2, … with an activation between them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False), start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out, bias)
        if i < len(sizes) - 1:
            layers[f"act{i}"] = activation()
    return nn.Sequential(layers)


def convnet(**options: object) -> nn.Sequential:
    """Two convolutions, pooling, flattening, two linear layers: images (B, 1, 8, 8) to logits (B, 3)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3, **options),
            act1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 5, 2),
            act2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.LazyLinear(6),
            act3=nn.ReLU(),
            fc2=nn.Linear(6, CLASSES),
        )
    )


class Written(nn.Module):
    """A class as users write them: functional activations, pooling and flattening."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc1 = nn.Linear(4 * 9, 6)
        self.fc2 = nn.Linear(6, CLASSES)
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = self.flatten(x)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.5, self.training))


class Residual(nn.Module):
    """A sum of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.fc1(x))
        return self.fc3(h + F.relu(self.fc2(h)))


def ones(network: nn.Module) -> dict[str, Tensor]:
    """A mask for each layer that keeps everything."""
    return {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in sparse_layers(network).items()}


def random_masks(network: nn.Module, density: float = 0.5) -> dict[str, Tensor]:
    """Masks with dead weights, dead rows and dead columns, drawn from the global generator."""
    masks = {name: torch.rand(mask.shape) < density for name, mask in ones(network).items()}
    for name, mask in masks.items():
        for axis in axes(network.get_submodule(name)):
            mask.movedim(axis, 0)[torch.rand(mask.shape[axis]) > 0.6] = False
    return masks


def masked(network: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Set the weights that the masks do not keep to 0, in place; in evaluation mode."""
    with torch.no_grad():
        for name, mask in masks.items():
            network.get_submodule(name).weight.mul_(mask)
    return network.eval()


def plan(network: nn.Module, masks: Mapping[str, Tensor], shape: tuple[int, ...], **options: object) -> Removal:
    """Links and removal of a network whose weights are masked."""
    links = find_links(network, masks, torch.Size(shape))
    weights = {name: network.get_submodule(name).weight.detach() for name in masks}
    return plan_removal(network, links, masks, weights, **options)


def cut(network: nn.Module, removal: Removal) -> nn.Module:
    """A copy of a network with a plan carried out."""
    small = deepcopy(network)
    cut_network(small, removal)
    return small


def settle(network: nn.Module) -> None:
    """Give normalisations statistics and parameters, and biases values, that are not those of the start."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    module.weight.normal_()
                    module.bias.normal_()
            elif isinstance(getattr(module, "bias", None), Tensor):
                module.bias.normal_()


def pair(
    network: nn.Module,
    masks: Mapping[str, Tensor] | None = None,
    shape: tuple[int, ...] | None = None,
    *,
    prior: ps.priors.Prior | None = None,
    scatter: float = 1.0,
) -> tuple[ps.SparseModel, guides.AutoSparse]:
    """A model and a guide whose log α is at most 0 where the masks keep and above 5 elsewhere.

    :param masks: by layer; all is kept when None.
    :param shape: input shape that the model is to have seen.
    """
    model = ps.SparseModel(network, prior or ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=100))
    guide = guides.AutoSparse(model)
    masks = ones(network) if masks is None else masks
    with torch.no_grad():
        for site, family in guide.families.items():
            mask = masks[model.sites[site].layer]
            spread = scatter * torch.rand(mask.shape)
            log_alpha = torch.where(mask, -spread, 5.0 + spread)
            family.log_var.copy_(log_alpha + (family.loc.square() + 1e-16).log())
    model.input_shape = None if shape is None else torch.Size(shape)
    return model, guide


def mean_network(model: ps.SparseModel, guide: guides.AutoSparse, threshold: float = 3.0) -> nn.Module:
    """The network with the posterior means that a threshold keeps; of an empty layer, one weight."""
    return masked_network(model.network, guide.families, keep_masks(guide.families, threshold))


def apart(a: nn.Module, b: nn.Module, x: Tensor) -> float:
    """Largest difference of two networks' outputs, relative to the largest output."""
    with torch.no_grad():
        first, second = a(x), b(x)
    assert first.shape == second.shape
    return float((first - second).abs().max() / first.abs().max().clamp(min=1e-12))


def loader(*shape: int, count: int = 60) -> TensorLoader:
    """Noise, labelled by the largest of its first three numbers."""
    x = torch.randn(count, *shape)
    return TensorLoader(x, x.flatten(1)[:, :3].argmax(1), batch_size=32, shuffle=False)


def check_in_original_coordinates(pruned: ps.Pruned, means: dict[str, Tensor]) -> None:
    """Masks, kept indices and weights of the smaller network say the same as the original's means."""
    for site, mask in pruned.masks.items():
        layer = site.removesuffix(".weight")
        module = pruned.network.get_submodule(layer)
        out_axis, in_axis = axes(module)
        outs, ins = pruned.kept[layer]
        assert mask.shape == means[site].shape
        expected = (means[site] * mask).index_select(out_axis, outs).index_select(in_axis, ins)
        assert torch.equal(module.weight, expected)
        assert pruned.sigma[site].shape == module.weight.shape
        assert torch.equal(pruned.sigma[site] > 0, mask.index_select(out_axis, outs).index_select(in_axis, ins))
        gone = torch.ones_like(mask)
        index = [torch.arange(n) for n in mask.shape]
        index[out_axis], index[in_axis] = outs, ins
        gone[torch.meshgrid(*index, indexing="ij")] = False
        assert not (mask & gone).any()
