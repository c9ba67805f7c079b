"""Axes with plain numbers: formats, log scales, and names at the ends of lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

__all__ = ["label_ends", "log_axis", "power", "short", "spans"]

LOG_SPAN = 30.0  # a positive quantity whose extremes differ by more than this factor gets a log axis


def short(value: float, _: int = 0) -> str:
    """Write an axis number: 0.02, 12, 60,000, 1.2 M."""
    for unit, letter in ((1e9, " G"), (1e6, " M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def power(exponent: float, _: int = 0) -> str:
    """Write a power of ten: 0.01, 1, 100, and 10⁻⁵ where zeros would have to be counted."""
    if -3 <= exponent <= 4:
        return f"{10**exponent:,.4g}"
    return "10" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def spans(values: NDArray[np.float64]) -> bool:
    """Whether positive values need a log axis."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() / finite.min() > LOG_SPAN)


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with plain numbers at powers of ten and between them when there are few."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = math.log10(max(high, 1e-300) / max(low, 1e-300))
    subs = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(short))


def label_ends(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]], *, gap: float = 0.075) -> None:
    """Write each line's name at its right end, pushed apart so that names never overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    placed: list[tuple[float, str, str]] = []
    for y, text, colour in sorted((float(to_axes.transform((x, y))[1]), t, c) for y, t, c in ends):
        low = placed[-1][0] + gap if placed else y
        placed.append((max(y, low), text, colour))
    overflow = max(0.0, placed[-1][0] - 1.0) if placed else 0.0
    for y, text, colour in placed:
        axes.text(1.015, y - overflow, text, color=colour, transform=axes.transAxes, va="center", ha="left")
