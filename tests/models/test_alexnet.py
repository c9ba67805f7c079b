"""AlexNet has the sizes of its paper."""

from __future__ import annotations

import pytest
import torch

from pyrosparse.data import TensorLoader
from pyrosparse.errors import PyrosparseWarning
from pyrosparse.models.alexnet import alexnet
from pyrosparse.reconstruction import reconstruct


def counts(groups: int) -> tuple[int, int]:
    with torch.device("meta"):
        named = list(alexnet(groups=groups).named_parameters())
    weights = sum(p.numel() for n, p in named if n.endswith("weight"))
    return weights, sum(p.numel() for n, p in named if n.endswith("bias"))


def test_sizes() -> None:
    """The paper speaks of 60 million parameters; Caffe's copy with two groups has 60,965,224."""
    assert counts(1) == (62_367_776, 10_568)
    assert sum(counts(2)) == 60_965_224


def test_shapes() -> None:
    with torch.device("meta"):
        network = alexnet(groups=2).eval()
        x = torch.empty(2, 3, 227, 227)
        for name, layer in network.named_children():
            x = layer(x)
            if name == "pool5":
                assert x.shape == (2, 256, 6, 6)
    assert x.shape == (2, 1000)


def test_a_small_one_is_reconstructed() -> None:
    network = alexnet(5, channels=(6, 8, 8, 8, 6), hidden=20)
    base = torch.nn.functional.interpolate(torch.randn(24, 3, 8, 8), size=227)
    data = TensorLoader(base, torch.zeros(24, dtype=torch.int64), 8, shuffle=False)
    with pytest.warns(PyrosparseWarning, match="fc6: 24 rows of data"):
        small, report = reconstruct(network, data, lam_ratio=0.05, chaining="bottom-up")
    assert [row.layer for row in report.rows] == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    assert small.fc6.in_features == 36 * small.conv5.out_channels
    assert report.difference < 1e-5
    assert report.ratio > 1
