"""VGG-16 and wide residual networks: sizes, sites, gates, removal and export, at small widths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import SparseELBO, guides, models, priors
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError
from pyrosparse.likelihoods import Categorical
from pyrosparse.pruning.graph import find_links

IMAGE = torch.Size((3, 32, 32))


def test_sizes_are_those_of_the_papers() -> None:
    with torch.device("meta"):
        vgg, wrn = models.vgg_16(), models.wide_resnet()
    # 14,710,464 weights of thirteen 3×3 convolutions, as in the original without biases
    convolutions = [m for m in vgg.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 13
    assert sum(m.weight.numel() for m in convolutions) == 14_710_464
    # 36.5 million parameters: Zagoruyko and Komodakis (2016), table 5
    assert sum(p.numel() for p in wrn.parameters()) == 36_479_194


def test_outputs_and_errors() -> None:
    x = torch.randn(2, *IMAGE)
    assert models.vgg_16(7, width=0.05)(x).shape == (2, 7)
    assert models.wide_resnet(5, depth=10, widen=1)(x).shape == (2, 5)
    with pytest.raises(ConfigError, match="width is 0"):
        models.vgg_16(width=0)
    for depth in (27, 4):
        with pytest.raises(ConfigError, match=f"depth is {depth}"):
            models.wide_resnet(depth=depth)


def test_every_filter_of_vgg_can_go() -> None:
    network = models.vgg_16(width=0.05)
    layers = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    links = find_links(network, layers, IMAGE)
    assert [name for link in links.links for name in link.producers] == layers[:-1]


def gated_vgg() -> ps.SparseModel:
    torch.manual_seed(0)
    network = models.vgg_16(width=0.06)
    for module in network.modules():  # shifts that a removal has to keep
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return ps.SparseModel(network, priors.L0(groups="input"), Categorical(num_data=32))


def shut(guide: guides.AutoSparse, every: int) -> None:
    """Shut every n-th gate of each layer."""
    for family in guide.families.values():
        gates = family.scale.log_alpha.data
        gates.fill_(4.0)
        gates.flatten()[::every] = -6.0


def test_gates_on_inputs_remove_the_filters_of_vgg() -> None:
    model = gated_vgg()
    guide = guides.AutoSparse(model)
    shut(guide, 2)
    x = torch.randn(4, *IMAGE)
    assert set(SparseELBO().terms(model, guide, x, torch.tensor([0, 1, 2, 3])).kl) == {
        name for family in guide.families.values() for name in family.sites
    }
    small = ps.prune(model, guide, example=x)
    assert small.report.difference is not None and small.report.difference < 1e-4
    # of each layer but the last every second filter has lost its reader
    for layer in small.report.layers[1:]:
        assert layer.inputs == layer.original_inputs // 2
    assert small.report.flops is not None and small.report.original_flops is not None
    assert small.report.flops < 0.3 * small.report.original_flops


def test_gates_of_a_wide_residual_network() -> None:
    model = models.gated_wide_resnet(num_data=64, depth=10, widen=1)
    assert list(model.sites) == [f"block{i}_1.conv2.weight" for i in (1, 2, 3)]
    guide = guides.AutoSparse(model)
    drop = torch.cat([f.scale.log_alpha.detach().flatten() for f in guide.families.values()]).sigmoid()
    assert abs(float(drop.mean()) - 0.7) < 0.01
    shut(guide, 4)
    x = torch.randn(4, *IMAGE)
    model(x, torch.tensor([0, 1, 2, 3]))
    small = ps.prune(model, guide, example=x)
    assert small.report.difference is not None and small.report.difference < 1e-4
    for i, filters in ((1, 16), (2, 32), (3, 64)):
        assert small.network.get_submodule(f"block{i}_1.conv2").in_channels == filters * 3 // 4
        # the first convolutions have no prior, and their filters go with the gates of the second
        assert small.network.get_submodule(f"block{i}_1.conv1").out_channels == filters * 3 // 4


def test_a_fit_shrinks_and_a_file_comes_back(tmp_path: Path) -> None:
    model = gated_vgg()
    guide = guides.AutoSparse(model)
    shut(guide, 2)
    x, y = torch.randn(32, *IMAGE), torch.randint(0, 10, (32,))
    fit = ps.fit(
        model, guide, TensorLoader(x, y, 16), epochs=2, lr=1e-4, lr_scale=1e-4, device="cpu", progress=False, seed=0
    )
    assert fit.history[-1]["dense_rate"] > 1.5
    small = ps.prune(model, guide, example=x[:4])
    ps.save(tmp_path / "vgg.psz", small, c=0.5)
    again = ps.load(tmp_path / "vgg.psz")
    assert again(x[:2]).shape == (2, 10)
