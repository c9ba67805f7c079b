"""Magnitude pruning."""

from __future__ import annotations

import pytest
import torch

import pyrosparse as ps
from pyrosparse.errors import ConfigError, NetworkError
from pyrosparse.reconstruction import magnitude
from pyrosparse.reconstruction.sizes import index_bytes
from tests.reconstruction.networks import convnet, loader, mlp


def test_the_largest_weights_of_all_are_kept() -> None:
    network, data = mlp(), loader(20)
    small, report = magnitude(network, data, density=0.25, rounds=1, epochs=0)
    layers = ("fc1", "fc2", "fc3")
    relative = [network.get_submodule(n).weight.detach() for n in layers]
    relative = torch.cat([(w.abs() / w.square().mean().sqrt()).flatten() for w in relative])
    kept = torch.cat([(small.get_submodule(n).weight != 0).flatten() for n in layers])
    assert int(kept.sum()) == round(0.25 * kept.numel())
    assert relative[kept].min() >= relative[~kept].max()
    bytes_ = sum(4 * (int((w != 0).sum()) + len(b)) + index_bytes(int((w != 0).sum()), w.numel()) for w, b in (
        (small.get_submodule(n).weight, small.get_submodule(n).bias) for n in layers
    ))  # fmt: skip
    assert report.kib == pytest.approx(bytes_ / 1024)


def test_prune_train_repeat() -> None:
    network, data = convnet(), loader(1, 10, 10)
    data.y = (data.x.mean((1, 2, 3)) > data.x.mean()).long()
    before = network.conv2.weight.clone()
    small, report = magnitude(network, data, density=0.3, rounds=3, epochs=4, lr=5e-3)
    assert torch.equal(network.conv2.weight, before)
    kept = sum(int(small.get_submodule(row.layer).weight.count_nonzero()) for row in report.rows)
    total = sum(small.get_submodule(row.layer).weight.numel() for row in report.rows)
    assert kept == round(0.3 * total)
    assert ps.evaluate(small, data).error < 0.1
    assert report.kib < report.kib_before
    assert not small.training


def test_bad_options() -> None:
    data = loader(20)
    for options, match in (
        ({"density": 0.0}, "density is 0"),
        ({"density": 1.1}, "density is 1.1"),
        ({"density": 0.5, "rounds": 0}, "rounds is 0"),
    ):
        with pytest.raises(ConfigError, match=match):
            magnitude(mlp(), data, **options)
    with pytest.raises(NetworkError, match="nothing to prune"):
        magnitude(torch.nn.Sequential(torch.nn.BatchNorm1d(20)), data, density=0.5)
