"""VGG-16 for small images, real and complex."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.models.twins import REAL, Kind, Twin, check_sizes, twin_network

__all__ = ["VGG_16", "complex_vgg_16", "vgg_16"]

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
    _add_vgg(layers, REAL, nn.MaxPool2d, in_channels, num_classes, width=width, hidden=hidden, stages=stages)
    return nn.Sequential(layers)


def complex_vgg_16(
    num_classes: int = 10,
    *,
    width: float = 1.0,
    hidden: int = 512,
    in_channels: int = 3,
    stages: Sequence[Sequence[int]] = VGG_16,
    twin: Twin | str = Twin.COMPLEX,
    complex_input: bool = False,
    fourier: bool = False,
) -> nn.Sequential:
    """Complex VGG-16 with batch normalisation: ``(B, 3, 32, 32)``, real or complex, to logits ``(B, num_classes)``.

    As :func:`vgg_16`, with complex layers, CReLU and average pooling; the logits are the real part of the last layer
    (Nazarov and Burnaev, 2020: 14,977,728 complex weights for the default sizes).

    :param width: as for :func:`vgg_16`, and so ``hidden``, ``in_channels`` and ``stages``.
    :param twin: which of the four networks of the comparison, see :class:`~pyrosparse.models.Twin`; all of them have
        average pooling.
    :param complex_input: whether the data are complex: real twins then read both parts.
    :param fourier: begin with the two-dimensional Fourier transform of the images; real twins read both parts of it.
    :raises ConfigError: for another twin, sizes that are none, or a width that leaves a layer without filters.
    """
    if not width > 0:
        raise ConfigError(f"complex_vgg_16: width is {width}; give a positive factor")
    check_sizes("complex_vgg_16", num_classes=num_classes, hidden=hidden, in_channels=in_channels)
    for stage in stages:
        check_sizes("complex_vgg_16", stages=stage)

    def build(kind: Kind, factor: float) -> nn.Sequential:
        layers = kind.start(complex_input=complex_input, fourier=fourier)
        first = kind.inputs(in_channels, complex_input=complex_input or fourier)
        sizes = {"width": factor * width, "hidden": hidden, "stages": stages}
        _add_vgg(layers, kind, kind.pool2d, first, num_classes, **sizes)  # type: ignore[arg-type]
        return nn.Sequential(layers | kind.end())

    return twin_network("complex_vgg_16", twin, build)


def _add_vgg(
    layers: OrderedDict[str, nn.Module],
    kind: Kind,
    pool: Callable[..., nn.Module],
    channels: int,
    num_classes: int,
    *,
    width: float,
    hidden: int,
    stages: Sequence[Sequence[int]],
) -> None:
    """Add the layers of VGG-16."""
    for i, stage in enumerate(stages, start=1):
        for j, filters in enumerate(stage, start=1):
            wide = max(1, round(width * filters))
            # the normalisation that follows has a shift of its own, so that the convolution needs no bias to be folded
            layers[f"conv{i}_{j}"] = kind.conv2d(channels, wide, 3, padding=1, bias=False)
            layers[f"norm{i}_{j}"] = kind.norm2d(wide)
            layers[f"relu{i}_{j}"] = kind.activation()
            channels = wide
        layers[f"pool{i}"] = pool(2)
    features = max(1, round(width * hidden))
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = kind.linear(channels, features)
    layers["norm6"] = kind.norm1d(features)
    layers["relu6"] = kind.activation()
    layers["fc2"] = kind.linear(features, num_classes)
