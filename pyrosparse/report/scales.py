"""The part of a report that tells which groups of weights live: their scales as a forest, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pyrosparse.report.axes import log_axis, power
from pyrosparse.report.figures import count, finite
from pyrosparse.report.markup import Html, element, figure, join, section, table
from pyrosparse.report.read import Run
from pyrosparse.report.theme import CUT, KEPT, calm, themed, to_svg

__all__ = ["forest", "layer_scales", "scales"]

# more rows than this run into each other: the largest are shown
MOST = 60


def scales(run: Run) -> Html:
    """A forest of each layer's scales; nothing where the priors have no groups."""
    rows = [row for row in run.rows("scales") if _whole(row)]
    if not rows:
        return Html("")
    lead = (
        "Every weight is a scale of its group times a weight of its own. Each line is one group: the median of its "
        "scale and the range that holds 94 % of the posterior. Groups that were cut while fitting are not there any "
        "more."
    )
    drawn = []
    for i, row in enumerate(rows):
        svg = to_svg(forest(row), key=f"scale{i}", alt=f"Scales of {len(row['groups'])} groups of {row['site']}")
        shown = "" if len(row["groups"]) <= MOST else f" The {MOST} largest are drawn."
        caption = f"{len(row['groups']):,} of {row['total']:,} groups are left.{shown}"
        drawn.append(figure(svg, str(row["site"]), caption))
    parts = [element("div", *drawn, class_="grid small")]
    layers = [row for row in rows if _positive(row.get("layer"))]
    if layers:
        parts.append(_layers(layers))
    return section("Which groups live", lead, *parts)


@themed
def forest(row: Mapping[str, Any]) -> Figure:
    """Median and 94 % range of each group's scale, the largest on top, on a logarithmic axis.

    :param row: ``low``, ``median`` and ``high``, numbers above 0 (gates may be 0), one for each group.
    """
    low, median, high = (np.asarray(row[key], dtype=np.float64) for key in ("low", "median", "high"))
    order = np.argsort(median)[-MOST:]
    gates = bool((low <= 0).any())  # a gate that is shut in some draws has no logarithm
    drawing = Figure(figsize=(3.5, 0.7 + 0.052 * len(order) + 0.3), layout="constrained")
    axes = drawing.add_subplot()
    places = np.arange(len(order))
    axes.hlines(places, low[order], high[order], color=CUT, linewidth=2)
    axes.plot(median[order], places, "o", color=KEPT, markersize=2.4)
    if not gates:
        log_axis(axes, "x")
    calm(axes)
    axes.set_yticks([])
    axes.set_xlabel("gate z" if gates else "scale z")
    return drawing


def _layers(rows: list[Mapping[str, Any]]) -> Html:
    """The scale of each layer: what the prior expects, and what the posterior knows."""
    body = [
        [element("code", f"{row['site']}.layer"), _range(row["layer"]["prior"]), _range(row["layer"]["posterior"])]
        for row in rows
    ]
    header = ["Scale of the layer", "Prior, median (94 %)", "Posterior, median (94 %)"]
    written = table(header, body, caption="Prior against posterior of the layers' own scales")
    svg = to_svg(layer_scales(rows), key="layer-scales", alt=f"Prior and posterior of the scales of {len(rows)} layers")
    caption = "Median and 94 % of the scale that all groups of a layer share: grey before the data, blue after them."
    return join([element("div", figure(svg, "The layers' own scales", caption), class_="grid"), written])


@themed
def layer_scales(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Median and 94 % range of each layer's scale under the prior and under the posterior, on a logarithmic axis.

    :param rows: ``site`` and ``layer`` with ``prior`` and ``posterior``, each with ``low``, ``median`` and ``high``.
    """
    drawing = Figure(figsize=(5.2, 0.7 + 0.34 * len(rows)), layout="constrained")
    axes = drawing.add_subplot()
    for place, row in enumerate(reversed(rows)):
        for kind, colour, shift in (("prior", CUT, 0.13), ("posterior", KEPT, -0.13)):
            low, median, high = (math.log10(float(row["layer"][kind][key][0])) for key in ("low", "median", "high"))
            axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=3)
            axes.plot([median], [place + shift], "o", color=colour, markersize=5)
    calm(axes)
    axes.set_yticks(range(len(rows)), [str(row["site"]) for row in reversed(rows)])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(power))
    axes.set_xlabel("scale of the layer")
    return drawing


def _range(quantiles: Mapping[str, Any]) -> str:
    low, median, high = (float(quantiles[key][0]) for key in ("low", "median", "high"))
    return f"{median:.2g} ({low:.2g} – {high:.2g})"


def _whole(row: Mapping[str, Any]) -> bool:
    """Whether an entry has its numbers, and as many of each."""
    lists = [row.get(key) for key in ("groups", "low", "median", "high")]
    if not all(isinstance(values, list) and values for values in lists):
        return False
    same = len({len(values) for values in lists if isinstance(values, list)}) == 1
    return same and count(row.get("total")) != "" and all(finite(v) is not None for v in lists[2] or [])


def _positive(layer: Any) -> bool:
    """Whether a layer's scale has its quantiles, above 0."""
    if not isinstance(layer, Mapping):
        return False
    kinds = [layer.get(kind) for kind in ("prior", "posterior")]
    lists = [
        kind.get(key) if isinstance(kind, Mapping) else None for kind in kinds for key in ("low", "median", "high")
    ]
    return all(isinstance(v, list) and v and (finite(v[0]) or 0.0) > 0 for v in lists)
