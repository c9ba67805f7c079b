"""Pictures of the posterior. Each function takes arrays and returns a matplotlib Figure.

No pyplot, no global state. Widths are in inches at 72 points; a figure is meant to be read at
half of a page's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from pyrosparse.report.axes import power, short
from pyrosparse.report.theme import CUT, INK, KEPT, MUTED, WIDTH, calm, themed

__all__ = ["log_alpha_histogram", "mean_against_std", "posteriors"]


@themed
def log_alpha_histogram(
    log_alpha: ArrayLike,
    *,
    threshold: float | None,
    bounds: tuple[float, float] | None = None,
    name: str = "log α",
) -> Figure:
    """Histogram of log α of the weights of one site, with the threshold as a line.

    Weights that were cut while fitting have no log α any more: they are one bar at the right.

    :param log_alpha: values of any shape, +inf where a weight was cut while fitting.
    :param threshold: largest log α that is kept; None draws no line.
    :param bounds: ends of the horizontal axis, so that layers can be compared; values beyond lie in the end bins.
    :param name: of the axis, where another statistic stands for log α.
    """
    everything = np.asarray(log_alpha, dtype=np.float64).ravel()
    values = everything[np.isfinite(everything)]
    gone = everything.size - values.size
    figure = Figure(figsize=(3.5, 2.25), layout="constrained")
    axes = figure.add_subplot()
    low, high = bounds or ((float(values.min()), float(values.max())) if values.size else (-10.0, 10.0))
    if high - low < 1:
        low, high = low - 1, high + 1
    step = (high - low) / 44
    line = threshold if threshold is not None and low < threshold < high else None
    anchor = low if line is None else line
    first = math.floor((low - anchor) / step)
    edges = anchor + step * np.arange(first, first + 46)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    middle = (edges[:-1] + edges[1:]) / 2
    blue = middle <= (math.inf if threshold is None else threshold)
    axes.bar(edges[:-1], counts, width=0.92 * step, align="edge", color=np.where(blue, KEPT, CUT), linewidth=0)
    right = float(edges[-1])
    if gone:
        axes.bar(right + 2 * step, gone, width=4 * step, align="edge", color=CUT, linewidth=0)
        axes.text(right + 4 * step, 1.25 * gone, f"cut\n{gone:,}", color=MUTED, ha="center", va="bottom")
        right += 7 * step
    axes.set_ylim(0.7, max(10, 8 * float(max(counts.max(initial=1), gone))))
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlim(edges[0], right)
    calm(axes)
    axes.set_xlabel(name)
    axes.set_ylabel("weights")
    if line is not None:
        axes.axvline(line, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        kept = int((values <= line).sum())
        sides = [(f"{kept:,} below", KEPT, "right", -4)]
        if values.size > kept:
            sides.append((f"{values.size - kept:,} above", MUTED, "left", 4))
        for text, colour, side, offset in sides:
            axes.annotate(
                text, (line, 1.02), xycoords=axes.get_xaxis_transform(), xytext=(offset, 0),
                textcoords="offset points", color=colour, ha=side, va="bottom",
            )  # fmt: skip
    return figure


@themed
def posteriors(mean: ArrayLike, std: ArrayLike, keep: ArrayLike, labels: Sequence[str]) -> Figure:
    """Normal posteriors of a few weights, one row each, against zero; every curve has the same height.

    A standard deviation of 0 is drawn as a spike: the weight is known exactly.
    """
    mu, sigma, kept = np.asarray(mean, float), np.asarray(std, float), np.asarray(keep, bool)
    figure = Figure(figsize=(WIDTH, 0.7 + 0.3 * max(len(mu), 3)), layout="constrained")
    axes = figure.add_subplot()
    shown = kept if kept.any() else np.ones_like(kept)
    edge = float(np.max((np.abs(mu) + 3 * sigma)[shown], initial=1e-6))
    reach = float(np.clip(np.max(np.abs(mu) + 2 * sigma, initial=1e-6), edge, 1.6 * edge))
    grid = np.linspace(-reach, reach, 601)
    for row, (m, s, alive) in enumerate(zip(mu, sigma, kept, strict=True)):
        base, layer, colour = -float(row), 10 + 2 * row, KEPT if alive else CUT
        if s == 0:
            axes.vlines(m, base, base + 1.2, color=MUTED, linewidth=2, zorder=layer)
            continue
        where = np.union1d(grid, np.clip(m + s * np.linspace(-4, 4, 81), -reach, reach))
        bell = base + 1.2 * np.exp(-0.5 * ((where - m) / s) ** 2)
        seen = bell > base + 2e-3
        axes.fill_between(where[seen], base, bell[seen], color=colour, alpha=0.45, linewidth=0, zorder=layer)
        axes.plot(where[seen], bell[seen], color=KEPT if alive else MUTED, linewidth=1, zorder=layer + 1)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=100)
    axes.set_yticks(-np.arange(len(mu)), labels)
    for tick, alive in zip(axes.get_yticklabels(), kept, strict=True):
        tick.set_color(KEPT if alive else MUTED)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-len(mu) + 0.7, 1.4)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.set_xlabel("value of the weight")
    return figure


@themed
def mean_against_std(mean: ArrayLike, std: ArrayLike, *, threshold: float | None = None) -> Figure:
    """Every weight by size of its mean and by standard deviation, with the line log α = threshold.

    log α = log(σ² / μ²), so the line is σ = exp(threshold / 2) |μ|: below it a weight is kept.
    Darker squares hold more weights (on a log scale).
    """
    mu, sigma = np.abs(np.asarray(mean, float)).ravel(), np.asarray(std, float).ravel()
    usable = (mu > 0) & (sigma > 0)
    x, y = np.log10(mu[usable]), np.log10(sigma[usable])
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    calm(axes, grid="both")
    axes.set_xlabel("size of the mean, |μ|")
    axes.set_ylabel("standard deviation, σ")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
        axis.set_major_formatter(FuncFormatter(power))
    if not x.size:
        return figure
    left, right = float(np.quantile(x, 0.002)) - 0.3, float(x.max()) + 0.2
    low, high = float(np.quantile(y, 0.002)) - 0.3, float(y.max()) + 0.3
    cells = (90, 60) if x.size > 3000 else (72, 48)
    counts, xe, ye = np.histogram2d(
        np.clip(x, left, right), np.clip(y, low, high), bins=cells, range=((left, right), (low, high))
    )
    depth = np.log1p(counts.T) / np.log1p(max(counts.max(), 1))
    middle_x, middle_y = np.meshgrid((xe[:-1] + xe[1:]) / 2, (ye[:-1] + ye[1:]) / 2)
    slope = threshold / 2 / math.log(10) if threshold is not None else math.inf
    pixels = np.where((middle_y <= middle_x + slope)[..., None], (0x1F, 0x86, 0xC6), (0x8C, 0x94, 0x9C)) / 255
    alpha = np.where(counts.T > 0, 0.2 + 0.8 * depth, 0)
    axes.imshow(
        np.dstack([pixels, alpha]), origin="lower", extent=(left, right, low, high), aspect="auto",
        interpolation="none", zorder=2,
    )  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    if threshold is not None:
        ends = np.array([left, right])
        axes.plot(ends, ends + slope, color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=3)
        axes.text(0.98, 0.03, "kept", color=KEPT, transform=axes.transAxes, ha="right", va="bottom", zorder=4)
        axes.text(0.02, 0.97, "pruned", color=MUTED, transform=axes.transAxes, ha="left", va="top", zorder=4)
    return figure
