"""Complex networks of the zoo and their twins: shapes, sites, sizes, pruning, files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import guides, models
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError
from pyrosparse.layers import sparse_layers
from pyrosparse.pruning import magnitude_prune
from tests.complex_networks import kill

SMALL: dict[str, tuple[Callable[..., nn.Sequential], tuple[int, ...], dict[str, Any]]] = {
    "dense": (models.complex_dense, (1, 6, 6), {"inputs": 36, "hidden": 40}),
    "conv": (models.complex_conv, (1, 16, 16), {"size": 16, "channels": (8, 12), "hidden": 20}),
    "vgg": (models.complex_vgg_16, (3, 32, 32), {"width": 0.08, "hidden": 64}),
    "music": (models.complex_music, (1, 160), {"window": 160, "channels": (8, 12, 12, 16), "hidden": 20, "notes": 10}),
}


def numbers(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("twin", models.Twin)
def test_twins(name: str, twin: models.Twin) -> None:
    make, shape, options = SMALL[name]
    network = make(twin=twin, **options)
    assert any(p.dim() > 0 for p in network.parameters())
    out = network(torch.randn(3, *shape))
    assert out.shape == (3, 10) and not out.is_complex()
    complex_layers = [isinstance(m, psnn.ComplexLinear | psnn.ComplexConv2d) for m in sparse_layers(network).values()]
    assert any(complex_layers) == (twin in {"C", "½C"})


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("complex_input", [False, True])
def test_equal_parameters(name: str, complex_input: bool) -> None:
    make, shape, options = SMALL[name]
    if name != "music":
        options = options | {"complex_input": complex_input}
    count = {twin: numbers(make(twin=twin, **options)) for twin in models.Twin}
    assert count["½C"] == pytest.approx(count["R"], rel=0.1)
    assert count["2R"] == pytest.approx(count["C"], rel=0.1)
    assert count["R"] < count["C"]
    if complex_input:
        for twin in models.Twin:
            make(twin=twin, **options)(torch.randn(2, *shape, dtype=torch.complex64))


def test_sizes_of_the_papers() -> None:
    with torch.device("meta"):
        weights = {
            name: sum(p[..., 0].numel() for n, p in make().named_parameters() if p.dim() > 2 and "norm" not in n)
            for name, make in {
                "dense": models.complex_dense,
                "conv": models.complex_conv,
                "vgg": models.complex_vgg_16,
                "music": models.complex_music,
            }.items()
        }
        vgg, real = models.complex_vgg_16(twin="R"), models.vgg_16()
    assert weights == {"dense": 3_252_224, "conv": 430_500, "vgg": 14_977_728, "music": 7_868_000}
    assert numbers(vgg) == numbers(real)


@pytest.mark.parametrize("name", SMALL)
def test_from_the_model_to_the_file(tmp_path: Path, name: str) -> None:
    make, shape, options = SMALL[name]
    network = make(**options)
    likelihood = (ps.likelihoods.MultiLabel if name == "music" else ps.likelihoods.Categorical)(num_data=32)
    model = ps.SparseModel(network, ps.priors.ComplexLogUniform(), likelihood)
    guide = guides.AutoSparse(model)
    assert list(model.sites) == [f"{layer}.weight" for layer in sparse_layers(network)]
    y = (torch.rand(32, 10) < 0.3).float() if name == "music" else torch.randint(0, 10, (32,))
    loader = TensorLoader(torch.randn(32, *shape), y, 16)
    ps.fit(model, guide, loader, epochs=1, progress=False)
    kill(guide, {site: torch.rand(f.relevance().shape) > 0.5 for site, f in guide.families.items()})
    first = next(iter(model.sites))
    mask = torch.zeros(guide.families[first].relevance().shape, dtype=torch.bool)
    mask[0] = True
    kill(guide, {first: mask})
    small = ps.prune(model, guide)
    assert small.report.difference < 1e-4
    info = ps.save(tmp_path / "net.psz", small, c=0.5)
    assert info.architecture and info.ratio > 2
    x = torch.randn(4, *shape)
    torch.testing.assert_close(ps.load(tmp_path / "net.psz")(x), ps.coding.quantise(small, 0.5).network(x))


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="the onnx extra is not installed")
@pytest.mark.parametrize("twin", models.Twin)
def test_every_twin_of_complex_data_is_known_to_files_and_formats(tmp_path: Path, twin: models.Twin) -> None:
    network = models.complex_conv(4, channels=(2, 3), hidden=4, size=16, fourier=True, twin=twin).eval()
    x = torch.randn(2, 1, 16, 16)
    small = magnitude_prune(network, x, density=0.3)
    assert ps.save(tmp_path / "net.psz", small).architecture
    # biases are rounded
    torch.testing.assert_close(ps.load(tmp_path / "net.psz")(x), small.network(x), atol=1e-2, rtol=0.0)
    exported = ps.export_onnx(small, tmp_path / "net.onnx", x)
    assert exported.difference is not None and exported.difference < 1e-4


def test_the_zoo() -> None:
    model = models.sparse("complex_conv", num_data=9, size=16, channels=(2, 3), hidden=4)
    assert isinstance(model.prior_of("conv1.weight"), ps.priors.ComplexLogUniform)
    music = models.sparse("complex_music", num_data=9, window=128, channels=(2,), hidden=3)
    assert isinstance(music.likelihood, ps.likelihoods.MultiLabel)
    real = models.sparse("complex_dense", num_data=9, inputs=4, hidden=3, twin="R")
    assert isinstance(real.prior_of("fc1.weight"), ps.priors.LogUniform)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="twin='3R' is unknown; did you mean"):
        models.complex_dense(twin="3R")
    with pytest.raises(ConfigError, match="images of 15×15 are too small"):
        models.complex_conv(size=15)
    with pytest.raises(ConfigError, match="a window of 10 is too short for 6 convolutions"):
        models.complex_music(window=10)
    with pytest.raises(ConfigError, match="width is 0"):
        models.complex_vgg_16(width=0)
    with pytest.raises(ConfigError, match="complex_dense: hidden is -3; give whole numbers of at least 1"):
        models.complex_dense(hidden=-3)
    with pytest.raises(ConfigError, match=r"complex_conv: channels is \(2, 3, 4\); give the filters of its two"):
        models.complex_conv(channels=(2, 3, 4))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"complex_music: channels is \(0,\)"):
        models.complex_music(channels=(0,))
    with pytest.raises(ConfigError, match="complex_vgg_16: hidden is 0"):
        models.complex_vgg_16(hidden=0)


def test_the_layers_of_the_music_network() -> None:
    """Filters, kernels, strides, and where normalisation and pooling stand, of the published deep network."""
    with torch.device("meta"):
        network = models.complex_music()
    convolutions = [m for m in network if isinstance(m, psnn.ComplexConv1d)]
    assert [m.out_channels for m in convolutions] == [16, 32, 64, 64, 128, 128]
    assert [m.kernel_size[0] for m in convolutions] == [6, 3, 3, 3, 3, 3]
    assert [m.stride[0] for m in convolutions] == [2, 2, 1, 1, 1, 1]
    assert [m.bias is not None for m in convolutions] == [False] * 4 + [True, False]
    kinds = [type(m).__name__ for m in network]
    assert kinds.count("ComplexBatchNorm1d") == kinds.count("ComplexAvgPool1d") == 5
    assert kinds.index("ComplexConv1d", kinds.index("Flatten") - 8) == kinds.index("Flatten") - 6
    assert (network.fc1.in_features, network.fc1.out_features, network.fc2.out_features) == (29 * 128, 2048, 84)


def chords(count: int, *, notes: int, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows in which some of a few sinusoids sound together, at any phase, and which of them do."""
    played = torch.rand(count, notes) < 0.3
    phases = 2 * torch.pi * torch.rand(count, notes, 1)
    frequencies = torch.arange(1, notes + 1).mul(7)[:, None] * torch.arange(window) / window
    waves = torch.sin(2 * torch.pi * frequencies + phases)
    signal = (waves * played[..., None]).sum(1) + 0.1 * torch.randn(count, window)
    return signal.unsqueeze(1), played.float()


def test_the_music_network_learns_notes_and_keeps_them_when_it_is_small() -> None:
    options: dict[str, Any] = {"window": 128, "channels": (6, 8), "hidden": 24, "notes": 6}
    network, likelihood = models.complex_music(**options), ps.likelihoods.MultiLabel(num_data=1024)
    train = TensorLoader(*chords(1024, notes=6, window=128), 64)
    test = TensorLoader(*chords(512, notes=6, window=128), 512, shuffle=False)
    dense = ps.infer.train(network, train, epochs=10, lr=5e-3, likelihood=likelihood, progress=False)
    assert ps.evaluate(dense, test, likelihood=likelihood).error < 0.02
    model = ps.SparseModel(dense, ps.priors.ComplexLogUniform(), likelihood)
    guide = guides.AutoSparse(model, log_var=-8.0)
    ps.fit(model, guide, train, epochs=30, lr=2e-3, lr_log_var=5e-2, progress=False)
    small = ps.prune(model, guide, threshold=3.0)
    assert small.report.ratio > 2.5
    assert ps.evaluate(small.network, test, likelihood=likelihood).error < 0.02


def test_the_vgg_network_learns_what_only_phases_tell() -> None:
    """Two plane waves of the same modulus everywhere, that turn in opposite directions."""
    network = models.complex_vgg_16(
        2, width=0.1, hidden=32, in_channels=1, stages=((64,), (64,), (64,), (64,), (64,)), complex_input=True
    )
    label = torch.arange(256) % 2
    along = 2 * torch.pi * torch.arange(32) / 8 * (1 - 2 * label)[:, None, None]
    start = 2 * torch.pi * torch.rand(256, 1, 1)
    x = torch.polar(torch.ones(256, 32, 32), (along + start).expand(256, 32, 32)).unsqueeze(1)
    x = x + 0.3 * torch.randn_like(x)
    dense = ps.infer.train(network, TensorLoader(x[:192], label[:192], 32), epochs=4, lr=5e-3, progress=False)
    assert ps.evaluate(dense, TensorLoader(x[192:], label[192:], 64, shuffle=False)).error < 0.05
