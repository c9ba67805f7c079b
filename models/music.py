"""A deep complex network for the transcription of music."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.models.twins import Kind, Twin, check_sizes, twin_network

__all__ = ["complex_music"]


def complex_music(
    notes: int = 84,
    *,
    window: int = 4096,
    channels: Sequence[int] = (16, 32, 64, 64, 128, 128),
    hidden: int = 2048,
    twin: Twin | str = Twin.COMPLEX,
    fourier: bool = True,
) -> nn.Sequential:
    """Deep complex 1-d convolution network: windows of sound ``(B, 1, 4096)`` to one logit a note, ``(B, 84)``.

    The deep network of Trabelsi et al. (2018), section 4.2, complex to its end and without padding as Nazarov and
    Burnaev (2020) have it: the spectrum of the window goes through convolutions (kernel 6, then 3; stride 2 in the
    first two), each followed by complex batch normalisation, CReLU and average pooling over two, then two linear
    layers. Of three convolutions or more the last but one has CReLU alone behind it. Several notes sound at once: the
    likelihood is :class:`~pyrosparse.likelihoods.MultiLabel`. 7,868,000 complex weights for the default sizes.

    :param notes: labels.
    :param window: samples of a window.
    :param channels: filters of the convolutions.
    :param hidden: units of the hidden linear layer.
    :param twin: which of the four networks of the comparison, see :class:`~pyrosparse.models.Twin`.
    :param fourier: begin with the Fourier transform; False for windows that are spectra already.
    :raises ConfigError: for another twin, sizes that are none, or a window that the convolutions use up.
    """
    if not channels:
        raise ConfigError("complex_music: channels is empty; give the filters of one convolution or more")
    check_sizes("complex_music", notes=notes, channels=channels, hidden=hidden)
    count = len(channels)
    kernels = [6] + [3] * (count - 1)
    strides = ([2, 2] + [1] * count)[:count]
    bare = count - 2 if count > 2 else None  # noqa: PLR2004 - the last but one, of three or more
    left = window
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        left = ((left - kernel) // stride + 1) // (1 if i == bare else 2)
        if left < 1:
            raise ConfigError(f"complex_music: a window of {window} is too short for {count} convolutions")

    def build(kind: Kind, factor: float) -> nn.Sequential:
        layers = kind.start(complex_input=True, fourier=fourier)
        width = kind.inputs(1, complex_input=True)
        for i, filters in enumerate(channels):
            wide = max(1, round(factor * filters))
            name = i + 1
            # the normalisation that follows has a shift of its own
            layers[f"conv{name}"] = kind.conv1d(width, wide, kernels[i], strides[i], bias=i == bare)
            if i != bare:
                layers[f"norm{name}"] = kind.norm1d(wide)
            layers[f"act{name}"] = kind.activation()
            if i != bare:
                layers[f"pool{name}"] = kind.pool1d(2)
            width = wide
        units = max(1, round(factor * hidden))
        layers["flatten"] = nn.Flatten()
        layers["fc1"] = kind.linear(width * left, units)
        layers["act"] = kind.activation()
        layers["fc2"] = kind.linear(units, notes)
        return nn.Sequential(layers | kind.end())

    return twin_network("complex_music", twin, build)
