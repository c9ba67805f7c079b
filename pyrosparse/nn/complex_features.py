"""Complex features of real or complex signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn.complex_weight import in_a_complex_precision

__all__ = ["FourierFeatures2d", "ShortTimeFourier"]


class FourierFeatures2d(nn.Module):
    """Two-dimensional Fourier transform of the last two axes, as a layer.

    :param norm: normalisation of ``torch.fft.fft2``; ``"ortho"`` keeps the sum of squares.
    :param shift: put frequency 0 in the middle.
    """

    def __init__(self, *, norm: str = "ortho", shift: bool = True) -> None:
        super().__init__()
        if norm not in {"ortho", "forward", "backward"}:
            raise NetworkError(f"FourierFeatures2d: norm={norm!r}; choose 'ortho', 'forward' or 'backward'")
        self.norm, self.shift = norm, shift

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., H, W)``, real or complex, to complex of the same shape."""
        out = torch.fft.fft2(in_a_complex_precision(input), norm=self.norm)
        return torch.fft.fftshift(out, (-2, -1)) if self.shift else out

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"norm={self.norm!r}, shift={self.shift}"


class ShortTimeFourier(nn.Module):
    """Short-time Fourier transform of the last axis (``torch.stft``), as a layer.

    :param n_fft: length of a frame.
    :param hop_length: distance of frames; a quarter of ``n_fft`` when None.
    :param win_length: length of the window; ``n_fft`` when None.
    :param window: values of the window, shape ``(win_length,)``; Hann's when None.
    :param center: whether frames are centred at their times, with padding at the ends.
    :param pad_mode: padding at the ends.
    :param normalized: whether frames are divided by the root of ``n_fft``.
    :param onesided: leave out negative frequencies; None: of real signals.
    """

    window: Tensor

    def __init__(  # noqa: PLR0917 - the order of torch.stft
        self,
        n_fft: int,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: Tensor | None = None,
        center: bool = True,
        pad_mode: str = "reflect",
        normalized: bool = False,
        onesided: bool | None = None,
    ) -> None:
        super().__init__()
        self.n_fft, self.center, self.pad_mode = n_fft, center, pad_mode
        self.hop_length = n_fft // 4 if hop_length is None else hop_length
        self.win_length = n_fft if win_length is None else win_length
        self.normalized, self.onesided = normalized, onesided
        if self.hop_length < 1:
            raise NetworkError(f"ShortTimeFourier: hop_length={self.hop_length}; give at least 1")
        if not 0 < self.win_length <= n_fft:
            raise NetworkError(f"ShortTimeFourier: win_length={self.win_length} is not between 1 and n_fft={n_fft}")
        if window is not None and window.shape != (self.win_length,):
            raise NetworkError(
                f"ShortTimeFourier: the window has shape {tuple(window.shape)}, and win_length is {self.win_length}"
            )
        self.register_buffer("window", torch.hann_window(self.win_length) if window is None else window.clone())

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., time)`` to complex ``(..., frequencies, frames)``."""
        out = torch.stft(
            in_a_complex_precision(input).reshape(-1, input.shape[-1]),
            self.n_fft,
            self.hop_length,
            self.win_length,
            window=self.window,
            center=self.center,
            pad_mode=self.pad_mode,
            normalized=self.normalized,
            onesided=self.onesided,
            return_complex=True,
        )
        return out.reshape(*input.shape[:-1], *out.shape[-2:])

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"n_fft={self.n_fft}, hop_length={self.hop_length}, win_length={self.win_length}"
