"""Complex features of real or complex signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrosparse.errors import DataError, NetworkError
from pyrosparse.nn.complex_weight import Device, in_a_complex_precision

__all__ = ["FourierFeatures2d", "ShortTimeFourier"]

PADDINGS = ("reflect", "constant", "replicate", "circular")


class FourierFeatures2d(nn.Module):
    r"""Two-dimensional Fourier transform of the last two axes, as a layer.

    .. math:: X_{kl} = \sum_{mn} x_{mn}\, e^{-2\pi i (km/H + ln/W)}

    :param norm: normalisation of ``torch.fft.fft2``; ``"ortho"`` keeps the sum of squares.
    :param shift: put frequency 0 in the middle.
    """

    def __init__(self, *, norm: str = "ortho", shift: bool = True) -> None:
        super().__init__()
        if norm not in {"ortho", "forward", "backward"}:
            raise NetworkError(f"FourierFeatures2d: norm={norm!r}; choose 'ortho', 'forward' or 'backward'")
        self.norm, self.shift = norm, shift

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., H, W)``, real or complex, to complex of the same shape.

        :raises DataError: for a tensor of fewer than two axes, or with none of a length.
        """
        if input.dim() < 2 or not all(input.shape[-2:]):  # noqa: PLR2004 - height and width
            raise DataError(f"FourierFeatures2d: a tensor of shape {tuple(input.shape)} has no two axes to transform")
        x = in_a_complex_precision(input)
        if not x.numel():  # transforms of no images are refused by some libraries
            return torch.empty(x.shape, dtype=x.dtype.to_complex(), device=x.device)
        out = torch.fft.fft2(x, norm=self.norm)
        return torch.fft.fftshift(out, (-2, -1)) if self.shift else out

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"norm={self.norm!r}, shift={self.shift}"


class ShortTimeFourier(nn.Module):
    r"""Short-time Fourier transform of the last axis (``torch.stft``), as a layer.

    .. math:: X_{km} = \sum_j w_j\, x_{mh + j}\, e^{-2\pi i jk/n}

    with the window w, the distance h of frames and their length n; divided by :math:`\sqrt n` if normalised.

    :param n_fft: length n of a frame.
    :param hop_length: distance h of frames; a quarter of ``n_fft``, at least 1, when None.
    :param win_length: length of the window; ``n_fft`` when None.
    :param window: values of the window, shape ``(win_length,)``; Hann's when None.
    :param center: whether frames are centred at their times, with padding at the ends.
    :param pad_mode: padding at the ends.
    :param normalized: whether frames are divided by the root of ``n_fft``.
    :param onesided: leave out negative frequencies; None: of real signals.
    :param device: of Hann's window.
    :param dtype: of Hann's window, real.
    :raises NetworkError: for lengths or a padding that cannot be.
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
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.n_fft, self.center, self.pad_mode = n_fft, center, pad_mode
        self.hop_length = max(1, n_fft // 4) if hop_length is None else hop_length
        self.win_length = n_fft if win_length is None else win_length
        self.normalized, self.onesided = normalized, onesided
        if n_fft < 1:
            raise NetworkError(f"ShortTimeFourier: n_fft={n_fft}; give at least 1")
        if pad_mode not in PADDINGS:
            raise NetworkError(
                f"ShortTimeFourier: pad_mode={pad_mode!r}; choose one of {', '.join(map(repr, PADDINGS))}"
            )
        if self.hop_length < 1:
            raise NetworkError(f"ShortTimeFourier: hop_length={self.hop_length}; give at least 1")
        if not 0 < self.win_length <= n_fft:
            raise NetworkError(f"ShortTimeFourier: win_length={self.win_length} is not between 1 and n_fft={n_fft}")
        if window is not None and not (isinstance(window, Tensor) and window.is_floating_point()):
            raise NetworkError("ShortTimeFourier: the window must be a tensor of real numbers")
        if window is not None and window.shape != (self.win_length,):
            raise NetworkError(
                f"ShortTimeFourier: the window has shape {tuple(window.shape)}, and win_length is {self.win_length}"
            )
        hann = torch.hann_window(self.win_length, device=device, dtype=dtype) if window is None else window.clone()
        self.register_buffer("window", hann)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., time)`` to complex ``(..., frequencies, frames)``.

        :raises DataError: for a tensor without signals, with signals shorter than padding or a frame need, of integers,
            or of complex numbers where half of the spectrum was asked for.
        """
        if not (input.is_floating_point() or input.is_complex()):
            raise DataError(f"ShortTimeFourier: the signals are {input.dtype}: give them as floating-point numbers")
        if self.onesided and input.is_complex():
            raise DataError("ShortTimeFourier: onesided=True leaves out half of the spectrum of complex signals")
        shortest = 1 if self.center else self.n_fft
        if self.center and self.pad_mode == "reflect":
            shortest = self.n_fft // 2 + 1
        if not input.numel() or input.shape[-1] < shortest:
            raise DataError(
                f"ShortTimeFourier: a tensor of shape {tuple(input.shape)}; signals (..., time) must have at least "
                f"{shortest} numbers, and there must be one"
            )
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
