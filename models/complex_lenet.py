"""The small complex networks on which complex sparsification was first shown, and their real twins."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.models.twins import Kind, Twin, check_sizes, twin_network

__all__ = ["complex_conv", "complex_dense"]


def complex_dense(
    num_classes: int = 10,
    *,
    inputs: int = 784,
    hidden: int = 4096,
    twin: Twin | str = Twin.COMPLEX,
    complex_input: bool = False,
    fourier: bool = False,
) -> nn.Sequential:
    """784-4096-n, complex, with CReLU: images ``(B, 1, 28, 28)``, real or complex, to logits ``(B, num_classes)``.

    The first network of Nazarov and Burnaev (2020): 3,252,224 complex weights for the default sizes. The logits are the
    real part of the last layer.

    :param inputs: numbers of an example.
    :param hidden: hidden units.
    :param twin: which of the four networks of the comparison, see :class:`~pyrosparse.models.Twin`.
    :param complex_input: whether the data are complex: real twins then read both parts.
    :param fourier: begin with the two-dimensional Fourier transform of the images; real twins read both parts of it.
    :raises ConfigError: for another twin, or sizes that are none.
    """
    check_sizes("complex_dense", num_classes=num_classes, inputs=inputs, hidden=hidden)

    def build(kind: Kind, factor: float) -> nn.Sequential:
        units = max(1, round(factor * hidden))
        return nn.Sequential(
            kind.start(complex_input=complex_input, fourier=fourier)
            | OrderedDict(
                flatten=nn.Flatten(),
                fc1=kind.linear(kind.inputs(inputs, complex_input=complex_input or fourier), units),
                act1=kind.activation(),
                fc2=kind.linear(units, num_classes),
            )
            | kind.end()
        )

    return twin_network("complex_dense", twin, build)


def complex_conv(
    num_classes: int = 10,
    *,
    channels: tuple[int, int] = (20, 50),
    hidden: int = 500,
    in_channels: int = 1,
    size: int = 28,
    twin: Twin | str = Twin.COMPLEX,
    complex_input: bool = False,
    fourier: bool = False,
) -> nn.Sequential:
    """20-50-(800)-500-n, complex: images ``(B, 1, 28, 28)``, real or complex, to logits ``(B, num_classes)``.

    Two 5×5 convolutions, each followed by CReLU and 2×2 average pooling, then two linear layers: the second network of
    Nazarov and Burnaev (2020), 430,500 complex weights for the default sizes. The logits are the real part of the last
    layer.

    :param channels: filters of the two convolutions.
    :param hidden: units of the hidden linear layer.
    :param in_channels: channels of the images.
    :param size: height and width of the images, at least 16.
    :param twin: which of the four networks of the comparison, see :class:`~pyrosparse.models.Twin`.
    :param complex_input: whether the data are complex: real twins then read both parts.
    :param fourier: begin with the two-dimensional Fourier transform of the images; real twins read both parts of it.
    :raises ConfigError: for another twin, sizes that are none, or images that are too small.
    """
    check_sizes("complex_conv", num_classes=num_classes, channels=channels, hidden=hidden, in_channels=in_channels)
    if len(channels) != 2:  # noqa: PLR2004 - there are two convolutions
        raise ConfigError(f"complex_conv: channels is {channels!r}; give the filters of its two convolutions")
    left = ((size - 4) // 2 - 4) // 2
    if left < 1:
        raise ConfigError(f"complex_conv: images of {size}×{size} are too small; give at least 16")

    def build(kind: Kind, factor: float) -> nn.Sequential:
        first, second, units = (max(1, round(factor * n)) for n in (*channels, hidden))
        return nn.Sequential(
            kind.start(complex_input=complex_input, fourier=fourier)
            | OrderedDict(
                conv1=kind.conv2d(kind.inputs(in_channels, complex_input=complex_input or fourier), first, 5),
                act1=kind.activation(),
                pool1=kind.pool2d(2),
                conv2=kind.conv2d(first, second, 5),
                act2=kind.activation(),
                pool2=kind.pool2d(2),
                flatten=nn.Flatten(),
                fc1=kind.linear(second * left * left, units),
                act3=kind.activation(),
                fc2=kind.linear(units, num_classes),
            )
            | kind.end()
        )

    return twin_network("complex_conv", twin, build)
