"""Curves: how a fit went over its epochs, and what pruning gave up for what. Arrays in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pyrosparse.report.axes import label_ends, log_axis, short, spans
from pyrosparse.report.theme import ALERT, CUT, INK, KEPT, MUTED, WIDTH, calm, themed
from pyrosparse.text import size

__all__ = ["elbo", "kept_over_time", "quality_against_size"]


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
