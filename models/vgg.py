"""VGG-16 for small images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from pyrosparse.errors import ConfigError

__all__ = ["VGG_16", "vgg_16"]

VGG_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Filters of the convolutions, one tuple a resolution (Simonyan & Zisserman, 2015, configuration D)."""


def vgg_16(
    num_classes: int = 10,
    *,
    width: float = 1.0,
    hidden: int = 512,
    in_channels: int = 3,
    stages: Sequence[Sequence[int]] = VGG_16,
) -> nn.Sequential:
    """VGG-16 for 32×32 images, with batch normalisation: ``(B, 3, 32, 32)`` to logits ``(B, num_classes)``.

    Thirteen 3×3 convolutions ``conv1_1 … conv5_3``, each followed by batch normalisation and ReLU, 2×2 max pooling
    after each resolution, then two linear layers: the form that Louizos, Ullrich and Welling (2017) compress
    (14,987,722 parameters for the default sizes).

    :param width: factor on the filters and on ``hidden``.
    :param hidden: units of the hidden linear layer.
    :param in_channels: channels of the images.
    :param stages: filters of the convolutions of each resolution; five resolutions bring 32×32 images to 1×1.
    :raises ConfigError: for a width that leaves a layer without filters.
    """
    if not width > 0:
        raise ConfigError(f"vgg_16: width is {width}; give a positive factor")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for i, stage in enumerate(stages, start=1):
        for j, filters in enumerate(stage, start=1):
            wide = max(1, round(width * filters))
            # the normalisation that follows has a shift of its own, so that the convolution needs no bias to be folded
            layers[f"conv{i}_{j}"] = nn.Conv2d(channels, wide, 3, padding=1, bias=False)
            layers[f"norm{i}_{j}"] = nn.BatchNorm2d(wide)
            layers[f"relu{i}_{j}"] = nn.ReLU()
            channels = wide
        layers[f"pool{i}"] = nn.MaxPool2d(2)
    features = max(1, round(width * hidden))
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels, features)
    layers["norm6"] = nn.BatchNorm1d(features)
    layers["relu6"] = nn.ReLU()
    layers["fc2"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)
