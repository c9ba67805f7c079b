"""The figures of a report. Each function takes arrays and returns a matplotlib Figure.

No pyplot, no global state. Widths are in inches at 72 points; a figure is meant to be read at
half of a page's width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pyrosparse.report.theme import ALERT, CUT, INK, KEPT, MUTED, calm, themed
from pyrosparse.text import size

__all__ = ["accuracy_against_bytes", "elbo", "kept_over_time", "log_alpha_histogram", "mean_against_std", "posteriors"]

WIDTH = 5.2
LOG_SPAN = 30.0  # a positive quantity whose extremes differ by more than this factor gets a log axis


def _short(value: float, _: int = 0) -> str:
    """Write an axis number: 0.02, 12, 3,400, 60 k, 1.2 M."""
    for unit, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        scale = 1e3 if unit == 1e4 else unit
        if abs(value) >= unit:
            return f"{value / scale:.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _spans(values: NDArray[np.float64]) -> bool:
    """Whether positive values need a log axis."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() / finite.min() > LOG_SPAN)


def _log_axis(axes: Axes, which: str) -> None:
    """Make an axis logarithmic with plain numbers at powers of ten (and 2, 5 when there is room)."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = math.log10(max(high, 1e-300) / max(low, 1e-300))
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,), numticks=9))
    axis.set_major_formatter(FuncFormatter(_short))


def _label_ends(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]], *, gap: float = 0.075) -> None:
    """Write each line's name at its right end, pushed apart so that names never overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    placed: list[tuple[float, str, str]] = []
    for y, text, colour in sorted((float(to_axes.transform((x, y))[1]), t, c) for y, t, c in ends):
        low = placed[-1][0] + gap if placed else y
        placed.append((max(y, low), text, colour))
    overflow = max(0.0, placed[-1][0] - 1.0) if placed else 0.0
    for y, text, colour in placed:
        axes.text(1.015, y - overflow, text, color=colour, transform=axes.transAxes, va="center", ha="left")


@themed
def log_alpha_histogram(
    log_alpha: ArrayLike, *, threshold: float | None, bounds: tuple[float, float] | None = None
) -> Figure:
    """Histogram of log α of the weights of one site, with the threshold as a line.

    Parameters
    ----------
    log_alpha
        Values of any shape; infinite ones (weights cut while fitting) are not drawn.
    threshold
        Largest log α that is kept; None draws no line.
    bounds
        Ends of the horizontal axis, so that layers can be compared; values beyond lie in the end bins.
    """
    values = np.asarray(log_alpha, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    figure = Figure(figsize=(3.5, 2.2), layout="constrained")
    axes = figure.add_subplot()
    low, high = bounds or ((float(values.min()), float(values.max())) if values.size else (-10.0, 10.0))
    if high - low < 1:
        low, high = low - 1, high + 1
    step = (high - low) / 48
    anchor = threshold if threshold is not None and low < threshold < high else low
    first = math.floor((low - anchor) / step)
    edges = anchor + step * np.arange(first, first + 51)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    line = threshold if threshold is not None else math.inf
    middle = (edges[:-1] + edges[1:]) / 2
    axes.bar(edges[:-1], counts, width=step, align="edge", color=np.where(middle <= line, KEPT, CUT), linewidth=0)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(0.7, max(10, 2.2 * float(counts.max(initial=1))))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.set_xlim(edges[0], edges[-1])
    calm(axes)
    axes.set_xlabel("log α")
    axes.set_ylabel("weights")
    if threshold is not None and edges[0] < threshold < edges[-1]:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        kept = int((values <= threshold).sum())
        axes.annotate(f"kept {kept:,} ", (threshold, 1.01), xycoords=axes.get_xaxis_transform(), color=KEPT, ha="right")
        rest = f" pruned {values.size - kept:,}"
        axes.annotate(rest, (threshold, 1.01), xycoords=axes.get_xaxis_transform(), color=MUTED, ha="left")
    return figure


@themed
def elbo(epoch: ArrayLike, log_likelihood: ArrayLike, kl: ArrayLike, beta: ArrayLike) -> Figure:
    """The two parts of the negative ELBO, -log-likelihood + KL in nats, with β on a thin axis below."""
    x, fit, complexity, weight = (np.asarray(a, dtype=np.float64) for a in (epoch, log_likelihood, kl, beta))
    misfit = -fit
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 1], "hspace": 0.05})
    parts = ((misfit, "−log-likelihood", ALERT, 1.6), (complexity, "KL", KEPT, 1.6))
    total = misfit + complexity
    top.plot(x, total, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    for values, _, colour, width in parts:
        top.plot(x, values, color=colour, linewidth=width)
    if _spans(np.concatenate([misfit, complexity])):
        _log_axis(top, "y")
    else:
        top.yaxis.set_major_formatter(FuncFormatter(_short))
    top.set_ylabel("nats")
    calm(top)
    bottom.fill_between(x, 0, weight, color=CUT, alpha=0.35, linewidth=0)
    bottom.plot(x, weight, color=MUTED, linewidth=1.2)
    peak = float(np.nanmax(weight)) if np.isfinite(weight).any() else 1.0
    bottom.set_ylim(0, 1.15 * max(peak, 1e-9))
    bottom.yaxis.set_major_locator(MaxNLocator(2))
    bottom.set_ylabel("β")
    bottom.set_xlabel("epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    calm(bottom)
    top.set_xlim(float(x.min()), max(float(x.max()), float(x.min()) + 1))
    ends = [(float(v[-1]), name, colour) for v, name, colour, _ in parts if np.isfinite(v[-1])]
    if np.isfinite(total[-1]):
        ends.append((float(total[-1]), "−ELBO", INK))
    _label_ends(top, float(x[-1]), ends)
    return figure


@themed
def kept_over_time(
    epoch: ArrayLike, kept: ArrayLike, *, total: float | None = None, units: Mapping[str, ArrayLike] | None = None
) -> Figure:
    """Weights kept at the threshold and, below, units left in each layer, over the epochs."""
    x, weights = np.asarray(epoch, dtype=np.float64), np.asarray(kept, dtype=np.float64)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    rows = figure.subplots(2 if units else 1, 1, sharex=True, squeeze=False)[:, 0]
    top, last = rows[0], rows[-1]
    top.plot(x, weights, color=KEPT, linewidth=1.6)
    if total:
        top.axhline(total, color=CUT, linewidth=1, linestyle=(0, (4, 2)))
    if _spans(np.append(weights, total or np.nan)):
        _log_axis(top, "y")
    else:
        top.set_ylim(bottom=0)
        top.yaxis.set_major_formatter(FuncFormatter(_short))
    top.set_ylabel("weights kept")
    top.set_xlim(float(x.min()), max(float(x.max()), float(x.min()) + 1))
    ends = [(float(weights[-1]), f"{weights[-1]:,.0f}", KEPT)]
    if total:
        ends.append((float(total), f"of {total:,.0f}", MUTED))
    calm(top)
    _label_ends(top, float(x[-1]), ends, gap=0.14 if units else 0.07)
    if units:
        shades = (KEPT, ALERT, INK, MUTED, CUT)
        ends = []
        for i, (name, values) in enumerate(units.items()):
            colour, line = shades[i % len(shades)], np.asarray(values, dtype=np.float64)
            last.step(x, line, where="post", color=colour, linewidth=1.6)
            ends.append((float(line[-1]), f"{name}: {line[-1]:,.0f}", colour))
        if _spans(np.concatenate([np.asarray(v, dtype=np.float64) for v in units.values()])):
            _log_axis(last, "y")
        else:
            last.set_ylim(bottom=0)
            last.yaxis.set_major_formatter(FuncFormatter(_short))
        last.set_ylabel("units left")
        calm(last)
        _label_ends(last, float(x[-1]), ends, gap=0.14)
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@themed
def accuracy_against_bytes(
    cost: ArrayLike,
    accuracy: ArrayLike,
    threshold: ArrayLike,
    *,
    chosen: int | None = None,
    in_bytes: bool = True,
    reference: float | None = None,
    measure: str = "accuracy",
) -> Figure:
    """Accuracy (in per cent) against the size of the file, one point a threshold.

    ``chosen`` is the position of the threshold that was used; ``reference`` is the dense network's
    value; with ``in_bytes=False`` the cost is a count of weights.
    """
    x, y, t = (np.asarray(a, dtype=np.float64) for a in (cost, accuracy, threshold))
    order = np.argsort(x, kind="stable")
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    if reference is not None:
        axes.axhline(reference, color=CUT, linewidth=1, linestyle=(0, (4, 2)))
        axes.text(
            1, reference, "dense ", color=MUTED, va="bottom", ha="right", transform=axes.get_yaxis_transform()
        )
    axes.plot(x[order], y[order], color=KEPT, linewidth=1.4, marker="o", markersize=4)
    if chosen is not None:
        axes.plot(x[chosen], y[chosen], marker="o", markersize=9, color=ALERT, linestyle="none")
        where = f"{size(x[chosen]) if in_bytes else f'{x[chosen]:,.0f}'}, {y[chosen]:.2f}"
        axes.annotate(
            f"chosen: log α ≤ {t[chosen]:g}\n{where}",
            (x[chosen], y[chosen]),
            xytext=(10, -12),
            textcoords="offset points",
            color=ALERT,
            va="top",
        )
    if np.isfinite(x).all() and x.min() > 0 and x.max() / x.min() > 3:
        _log_axis(axes, "x")
    axes.xaxis.set_major_formatter(FuncFormatter((lambda v, _: size(v)) if in_bytes else _short))
    axes.set_xlabel("file" if in_bytes else "weights kept")
    axes.set_ylabel(measure)
    calm(axes, grid="both")
    axes.margins(x=0.06, y=0.12)
    return figure


@themed
def posteriors(mean: ArrayLike, std: ArrayLike, keep: ArrayLike, labels: Sequence[str]) -> Figure:
    """Normal posteriors of a few weights, one row each, against zero; every curve has the same height."""
    mu, sigma, kept = np.asarray(mean, float), np.asarray(std, float), np.asarray(keep, bool)
    figure = Figure(figsize=(WIDTH, 0.55 + 0.29 * max(len(mu), 3)), layout="constrained")
    axes = figure.add_subplot()
    reach = 1.1 * float(np.max(np.abs(mu) + 2.5 * np.minimum(sigma, np.abs(mu).max() + 1e-12), initial=1e-6))
    grid = np.linspace(-reach, reach, 801)
    for row, (m, s, alive) in enumerate(zip(mu, sigma, kept, strict=True)):
        base, colour = -float(row), KEPT if alive else CUT
        where = np.union1d(grid, np.clip(m + s * np.linspace(-4, 4, 81), -reach, reach))
        bell = base + 1.35 * np.exp(-0.5 * ((where - m) / max(s, 1e-12)) ** 2)
        visible = bell > base + 1e-3
        layer = 10 + 2 * row
        axes.fill_between(
            where, base, bell, where=visible.tolist(), color=colour, alpha=0.4 if alive else 0.55, linewidth=0,
            zorder=layer,
        )  # fmt: skip
        axes.plot(where[visible], bell[visible], color=colour if alive else MUTED, linewidth=1, zorder=layer + 1)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=100)
    axes.set_yticks(-np.arange(len(mu)), labels)
    for tick, alive in zip(axes.get_yticklabels(), kept, strict=True):
        tick.set_color(KEPT if alive else MUTED)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-len(mu) + 0.7, 1.6)
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
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{10**v:.3g}"))
    if not x.size:
        return figure
    left, right = float(np.quantile(x, 0.002)) - 0.3, float(x.max()) + 0.2
    low, high = float(np.quantile(y, 0.002)) - 0.3, float(y.max()) + 0.3
    counts, xe, ye = np.histogram2d(
        np.clip(x, left, right), np.clip(y, low, high), bins=(90, 60), range=((left, right), (low, high))
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
