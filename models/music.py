"""A deep complex network for the transcription of music."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.models.twins import Kind, Twin, twin_network

__all__ = ["complex_music"]


def complex_music(
    notes: int = 84,
    *,
    window: int = 4096,
    channels: Sequence[int] = (64, 64, 128, 128, 256, 256),
    hidden: int = 1024,
    twin: Twin | str = Twin.COMPLEX,
    fourier: bool = True,
) -> nn.Sequential:
    """Deep complex 1-d convolution network: windows of sound ``(B, 1, 4096)`` to one logit a note, ``(B, 84)``.

    After Trabelsi et al. (2018), section 4.2: the spectrum of the window goes through convolutions (the first of kernel
    6 and stride 2, the others of kernel 3), each followed by complex batch normalisation, CReLU and average pooling
    over two, then two linear layers. Several notes sound at once: the likelihood is
    :class:`~pyrosparse.likelihoods.MultiLabel`. 8,331,648 complex weights for the default sizes.

    :param notes: labels.
    :param window: samples of a window.
    :param channels: filters of the convolutions.
    :param hidden: units of the hidden linear layer.
    :param twin: which of the four networks of the comparison, see :class:`~pyrosparse.models.Twin`.
    :param fourier: begin with the Fourier transform; False for windows that are spectra already.
    :raises ConfigError: for another twin, or a window that the convolutions use up.
    """
    if not channels:
        raise ConfigError("complex_music: channels is empty; give the filters of one convolution or more")
    left = window
    for i in range(len(channels)):
        left = ((left - 6) // 2 + 1 if i == 0 else left - 2) // 2
        if left < 1:
            raise ConfigError(f"complex_music: a window of {window} is too short for {len(channels)} convolutions")

    def build(kind: Kind, factor: float) -> nn.Sequential:
        layers = kind.start(complex_input=True, fourier=fourier)
        count = kind.inputs(1, complex_input=True)
        for i, filters in enumerate(channels, start=1):
            wide = max(1, round(factor * filters))
            # the normalisation that follows has a shift of its own
            options = {"stride": 2} if i == 1 else {}
            layers[f"conv{i}"] = kind.conv1d(count, wide, 6 if i == 1 else 3, bias=False, **options)
            layers[f"norm{i}"] = kind.norm1d(wide)
            layers[f"act{i}"] = kind.activation()
            layers[f"pool{i}"] = kind.pool1d(2)
            count = wide
        units = max(1, round(factor * hidden))
        layers["flatten"] = nn.Flatten()
        layers["fc1"] = kind.linear(count * left, units)
        layers["act"] = kind.activation()
        layers["fc2"] = kind.linear(units, notes)
        return nn.Sequential(layers | kind.end())

    return twin_network("complex_music", twin, build)
