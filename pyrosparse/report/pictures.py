"""The figures of a report. Each function takes arrays and returns a matplotlib Figure.

No pyplot, no global state. Widths are in inches at 72 points; a figure is meant to be read at
half of a page's width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from pyrosparse.report.axes import label_ends, log_axis, power, short, spans
from pyrosparse.report.theme import ALERT, CUT, INK, KEPT, MUTED, calm, themed
from pyrosparse.text import size

__all__ = ["elbo", "kept_over_time", "log_alpha_histogram", "mean_against_std", "posteriors", "quality_against_size"]

WIDTH = 5.2


@themed
def log_alpha_histogram(
    log_alpha: ArrayLike, *, threshold: float | None, bounds: tuple[float, float] | None = None
) -> Figure:
    """Histogram of log α of the weights of one site, with the threshold as a line.

    Weights that were cut while fitting have no log α any more: they are one bar at the right.

    :param log_alpha: values of any shape, +inf where a weight was cut while fitting.
    :param threshold: largest log α that is kept; None draws no line.
    :param bounds: ends of the horizontal axis, so that layers can be compared; values beyond lie in the end bins.
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
    axes.set_xlabel("log α")
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
    if spans(np.concatenate([misfit, complexity])):
        log_axis(top, "y")
    else:
        top.yaxis.set_major_formatter(FuncFormatter(short))
    top.set_ylabel("nats")
    calm(top)
    bottom.fill_between(x, 0, weight, color=CUT, alpha=0.35, linewidth=0)
    bottom.plot(x, weight, color=MUTED, linewidth=1.2)
    peak = float(np.nanmax(weight)) if np.isfinite(weight).any() else 1.0
    bottom.set_ylim(0, 1.15 * max(peak, 1e-9))
    bottom.set_yticks([0, peak], ["0", f"{peak:.3g}"])
    bottom.set_ylabel("β")
    bottom.set_xlabel("epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    calm(bottom)
    top.set_xlim(float(x.min()), max(float(x.max()), float(x.min()) + 1))
    ends = [(float(v[-1]), name, colour) for v, name, colour, _ in parts if np.isfinite(v[-1])]
    if np.isfinite(total[-1]):
        ends.append((float(total[-1]), "−ELBO", INK))
    label_ends(top, float(x[-1]), ends)
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
    if spans(np.append(weights, total or np.nan)):
        log_axis(top, "y")
    else:
        top.set_ylim(bottom=0)
        top.yaxis.set_major_formatter(FuncFormatter(short))
    top.set_ylabel("weights kept")
    top.set_xlim(float(x.min()), max(float(x.max()), float(x.min()) + 1))
    ends = [(float(weights[-1]), f"{weights[-1]:,.0f}", KEPT)]
    if total:
        ends.append((float(total), f"of {total:,.0f}", MUTED))
    calm(top)
    label_ends(top, float(x[-1]), ends, gap=0.14 if units else 0.07)
    if units:
        shades = (KEPT, ALERT, INK, MUTED, CUT)
        ends = []
        for i, (name, values) in enumerate(units.items()):
            colour, line = shades[i % len(shades)], np.asarray(values, dtype=np.float64)
            last.step(x, line, where="post", color=colour, linewidth=1.6)
            ends.append((float(line[-1]), f"{name}: {line[-1]:,.0f}", colour))
        if spans(np.concatenate([np.asarray(v, dtype=np.float64) for v in units.values()])):
            log_axis(last, "y")
        else:
            last.set_ylim(bottom=0)
            last.yaxis.set_major_formatter(FuncFormatter(short))
        last.set_ylabel("units left")
        calm(last)
        label_ends(last, float(x[-1]), ends, gap=0.14)
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    return figure


@themed
def quality_against_size(
    cost: ArrayLike,
    quality: ArrayLike,
    *,
    accuracy: bool = True,
    in_bytes: bool = True,
    chosen: int | None = None,
    note: str = "",
    reference: float | None = None,
) -> Figure:
    """Accuracy, or error, against the size of the file, one point a threshold.

    :param cost: bytes, or with ``in_bytes=False`` weights.
    :param quality: accuracies in [0, 1], drawn on an axis stretched towards 1 when errors differ much; with
        ``accuracy=False`` errors, drawn as they are.
    :param chosen: position of the point that was used, with a ``note`` in its colour.
    :param reference: the dense network's accuracy or error.
    """
    x, y = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    drawn = np.append(y, [] if reference is None else [reference])
    least = max(5e-4, float((1 - drawn[drawn < 1]).min(initial=1.0)) / 2)
    stretched = accuracy and float((1 - drawn).max()) > 5 * max(float((1 - drawn).min()), least)

    def place(value: ArrayLike) -> NDArray[np.float64]:
        raw = np.asarray(value, dtype=np.float64)
        return -np.log10(np.maximum(1 - raw, least)) if stretched else raw

    order = np.argsort(x, kind="stable")
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    if reference is not None:
        axes.axhline(float(place(reference)), color=CUT, linewidth=1, linestyle=(0, (4, 2)))
        axes.annotate(
            "dense", (0, float(place(reference))), xycoords=axes.get_yaxis_transform(), xytext=(4, 3),
            textcoords="offset points", color=MUTED,
        )  # fmt: skip
    axes.plot(x[order], place(y[order]), color=KEPT, linewidth=1.4, marker="o", markersize=4)
    if chosen is not None:
        axes.plot(x[chosen], place(y[chosen]), marker="o", markersize=9, color=ALERT, linestyle="none")
        axes.text(0.98, 0.05, note, color=ALERT, ha="right", va="bottom", transform=axes.transAxes)
    if x.min() > 0 and x.max() / x.min() > 3:
        log_axis(axes, "x")
    axes.xaxis.set_major_formatter(FuncFormatter((lambda v, _: size(v)) if in_bytes else short))
    if stretched:
        low, high = float(place(drawn).min()), float(place(drawn).max())
        marks = np.array([0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999])
        where = -np.log10(1 - marks)
        inside = (where >= low - 0.1) & (where <= high + 0.1)
        axes.set_yticks(where[inside], [f"{100 * m:.4g} %" for m in marks[inside]])
    elif accuracy:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.4g} %"))
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(short))
    axes.set_xlabel("file" if in_bytes else "weights kept")
    axes.set_ylabel("validation accuracy" if accuracy else "validation error")
    calm(axes, grid="both")
    axes.margins(x=0.06, y=0.12)
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
