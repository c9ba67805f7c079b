"""Residual sums and concatenations: what is cut out of them gives what the masked network gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides, models
from pyrosparse.data import TensorLoader
from pyrosparse.layers import sparse_layers
from pyrosparse.pruning.graph import find_links
from pyrosparse.pruning.shrink import Shrinker
from tests.pruning.networks import (
    CLASSES,
    apart,
    check_in_original_coordinates,
    cut,
    masked,
    mean_network,
    ones,
    pair,
    plan,
    settle,
)

IMAGE = (2, 8, 8)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation beside a shortcut, which projects where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        same = channels == filters and stride == 1
        project = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        self.shortcut = nn.Identity() if same else project

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    """A stem, identity shortcuts over two blocks, a projection, another identity: (B, 2, 8, 8) to (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(BasicBlock(6, 6), BasicBlock(6, 6), BasicBlock(6, 8, 2), BasicBlock(8, 8))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


class DenseNet(nn.Module):
    """Each layer reads what all before it gave, normalised for itself; a transition; the features flattened."""

    def __init__(self) -> None:
        super().__init__()
        widths = [4, 4 + 3, 4 + 3 + 3]
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        self.convs = nn.ModuleList(nn.Conv2d(w, 3, 3, padding=1, padding_mode="replicate") for w in widths)
        self.transition = nn.Conv2d(13, 5, 1)
        self.fc1, self.fc2 = nn.Linear(5 * 4, 6), nn.Linear(6 + 5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features = torch.cat([features, conv(F.relu(norm(features)))], 1)
        h = F.avg_pool2d(torch.sigmoid(self.transition(features)), 4)
        return self.fc2(torch.cat([F.relu(self.fc1(h.flatten(1))), h.mean([-1, -2])], -1))


class Mixed(nn.Module):
    """Concatenations of sums and sums of concatenations, with products and with the input beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(5, 3), nn.Linear(5, 7)
        self.d, self.e = nn.Linear(7, 4), nn.Linear(4 + 5, 4)
        self.last = nn.Linear(4 + 7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.a(x), torch.tanh(self.b(x))], 1) * torch.sigmoid(self.c(x))
        g = torch.sigmoid(self.d(h)) - 0.5
        g = g + self.e(torch.cat([g, x], 1))
        return self.last(torch.cat([2 * g, h], 1))


def wide() -> nn.Module:
    return models.wide_resnet(CLASSES, depth=10, widen=1, in_channels=2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (ResNet, IMAGE),
    "densenet": (DenseNet, IMAGE),
    "mixed": (Mixed, (5,)),
    "wide resnet": (wide, IMAGE),
}


def branch_masks(network: nn.Module, shape: tuple[int, ...], density: float, share: float = 0.3) -> dict[str, Tensor]:
    """Random masks; of each group of units some are read by nobody, and some are fed by nobody."""
    masks = {n: torch.rand(m.shape) < density for n, m in ones(network).items()}
    links = find_links(network, masks, torch.Size(shape))
    for units in links.links:
        chance = torch.rand(units.count)
        for side, (layers, place) in enumerate(
            ((units.producers, links.flow.gives), (units.consumers, links.flow.reads))
        ):
            chosen = units.ids[chance < share] if side else units.ids[chance > 1 - share]
            for layer in layers:
                masks[layer].movedim(side, 0)[torch.isin(place[layer], chosen)] = False
    for mask in masks.values():  # no layer is empty
        mask.view(-1)[mask.numel() // 2] = True
    return masks


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_left_gives_what_the_masked_network_gives(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    make, shape = NETWORKS[name]
    network = make().double()
    settle(network)
    masks = branch_masks(network, shape, 0.3 + 0.15 * (seed % 5))
    masked(network, masks)
    removal = plan(network, masks, shape)
    small = cut(network, removal)
    assert sum(p.numel() for p in small.parameters()) < 0.8 * sum(p.numel() for p in network.parameters())
    assert apart(network, small, torch.randn(5, *shape, dtype=torch.float64)) <= 1e-11
    # done once, there is nothing left to do
    again = plan(small, {n: m.weight != 0 for n, m in sparse_layers(small).items()}, shape)
    assert not again, str(again)


def test_units_of_a_residual_network() -> None:
    found = find_links(ResNet(), sparse_layers(ResNet()), torch.Size(IMAGE))
    assert [str(link) for link in found.links] == [
        "stem + blocks.0.conv2 + blocks.1.conv2 → blocks.0.conv1, blocks.1.conv1, blocks.2.conv1, blocks.2.shortcut.0",
        "blocks.0.conv1 → blocks.0.conv2",
        "blocks.1.conv1 → blocks.1.conv2",
        "blocks.2.conv1 → blocks.2.conv2",
        "blocks.2.conv2 + blocks.2.shortcut.0 + blocks.3.conv2 → blocks.3.conv1, fc",
        "blocks.3.conv1 → blocks.3.conv2",
    ]
    assert list(found.links[0].norms) == ["norm", "blocks.0.norm2", "blocks.1.norm2"]
    assert found.notes == []


def test_units_of_a_dense_network() -> None:
    found = find_links(DenseNet(), sparse_layers(DenseNet()), torch.Size(IMAGE))
    assert [str(link) for link in found.links] == [
        "stem → convs.0, convs.1, convs.2, transition",
        "convs.0 → convs.1, convs.2, transition",
        "convs.1 → convs.2, transition",
        "convs.2 → transition",
        "transition → fc1 (×4), fc2",
        "fc1 → fc2",
    ]
    assert [list(link.norms) for link in found.links[:3]] == [
        ["norms.0", "norms.1", "norms.2"],
        ["norms.1", "norms.2"],
        ["norms.2"],
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_of_torch_pruning(name: str) -> None:
    """Against its dependency graph, which follows autograd's: the layers that lose a channel together."""
    pruning = pytest.importorskip("torch_pruning")
    make, shape = NETWORKS[name]
    network = make().eval()
    found = find_links(network, sparse_layers(network), torch.Size(shape))
    graph = pruning.DependencyGraph().build_dependency(network, torch.randn(1, *shape), verbose=False)
    modules = {module: name for name, module in network.named_modules()}
    for units in found.links:
        if units.of_input:
            continue
        layer = units.producers[0]
        module = network.get_submodule(layer)
        position = int((found.flow.gives[layer] == units.ids[-1]).nonzero()[0])
        prune = graph.get_pruner_of_module(module).prune_out_channels
        gone: dict[tuple[str, bool], set[int]] = {}
        for dependency, indices in graph.get_pruning_group(module, prune, idxs=[position]):
            member = modules.get(dependency.target.module)
            if member is not None and isinstance(dependency.target.module, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
                out = graph.is_out_channel_pruning_fn(dependency.handler)
                gone.setdefault((member, out), set()).update(map(int, indices))
        flow, unit = found.flow, units.ids[-1]
        mine = {(n, True): set((flow.gives[n] == unit).nonzero().flatten().tolist()) for n in units.producers}
        mine |= {(n, False): set((flow.reads[n] == unit).nonzero().flatten().tolist()) for n in units.consumers}
        mine |= {(n, True): set((flow.norms[n] == unit).nonzero().flatten().tolist()) for n in units.norms}
        assert gone == mine, str(units)


def test_constant_of_a_sum_is_what_all_branches_give() -> None:
    """Behind two identity shortcuts a dead channel is a sum of shifts; every reader folds it, or it stays."""
    network = ResNet()
    settle(network)
    with torch.no_grad():
        network.blocks[2].norm2.bias[1] = 9.0  # behind the activations the constant is not 0
    masks = ones(network)
    for layer in ("blocks.2.conv2", "blocks.2.shortcut.0", "blocks.3.conv2"):
        masks[layer][1] = False
    masks["blocks.3.conv1"][:, 1] = False  # zero padding and no bias: it could not fold
    masked(network, masks)
    norms = [network.blocks[2].norm2, network.blocks[2].shortcut[1], network.blocks[3].norm2]
    first, second, third = (n.eval()(torch.zeros(1, 8, 1, 1))[0, 1, 0, 0] for n in norms)
    removal = plan(network, masks, IMAGE)
    (only,) = removal.cuts
    expected = network.fc.weight[:, 1] * F.relu(F.relu(first + second) + third)
    assert torch.allclose(only.folds["fc"], expected, atol=1e-5)
    assert apart(network, cut(network, removal), torch.randn(4, *IMAGE)) < 1e-5
    # where one of the readers cannot fold it, it stays in all of them
    masks["blocks.3.conv1"][0, 1] = True
    with torch.no_grad():
        network.blocks[3].conv1.weight[0, 1] = 1.0
    removal = plan(network, masks, IMAGE)
    assert not removal
    assert "1 constant units stay" in removal.notes[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_prune_and_live_shrinking_agree(name: str) -> None:
    torch.manual_seed(3)
    make, shape = NETWORKS[name]
    network = make()
    settle(network)
    model, guide = pair(network, branch_masks(network, shape, 0.9, share=0.2), shape)
    before = mean_network(model, guide)
    means = {site: f.mean().detach().clone() for site, f in guide.families.items()}
    pruned = ps.prune(model, guide)
    check_in_original_coordinates(pruned, means)
    x = torch.randn(10, *shape)
    assert apart(before, pruned.network, x) < 1e-4
    shrinker = Shrinker(model, guide)
    shrinker.step()
    assert shrinker.step()
    assert apart(before, mean_network(model, guide), x) < 1e-4
    again = ps.prune(model, guide)
    assert again.report.dense_ratio > 1.2
    assert again.report.layers == pruned.report.layers
    assert apart(before, again.network, x) < 1e-4


@pytest.mark.parametrize("name", ["resnet", "densenet"])
def test_from_a_fit_to_a_file_and_onnx(name: str, tmp_path: Path) -> None:
    """The whole way on a little random data: the fit shrinks on its way, the file and ONNX give what is left."""
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    x = torch.randn(48, *shape)
    y = x.flatten(1)[:, :CLASSES].argmax(1)
    network = make()
    model = ps.SparseModel(network, ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=len(x)))
    guide = guides.AutoSparse(model)
    with torch.no_grad():  # a good part is dead at the start
        for site, mask in branch_masks(network, shape, 0.9, share=0.2).items():
            family = guide.families[f"{site}.weight"]
            family.log_var[~mask] = (family.loc.square() + 1e-16).log()[~mask] + 9.0
    fit = ps.fit(model, guide, TensorLoader(x, y, 16), epochs=3, lr=1e-4, lr_log_var=1e-4, progress=False, seed=0)
    assert fit.history[-1]["dense_rate"] > 1.2
    pruned = ps.prune(model, guide, example=x)
    assert pruned.report.difference is not None and pruned.report.difference < 1e-4
    ps.save(tmp_path / "net.psz", pruned, c=0.01)
    again = ps.load(tmp_path / "net.psz", network=make())
    assert apart(pruned.network, again, x) < 0.05
    ps.export_onnx(pruned.network, tmp_path / "net.onnx", x[:1])
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    (logits,) = session.run(None, {session.get_inputs()[0].name: x[:1].numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, pruned.network(x[:1]).numpy(), rtol=1e-3, atol=1e-4)
