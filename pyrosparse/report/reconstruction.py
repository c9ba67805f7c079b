"""The part of a report that tells of linear reconstruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pyrosparse.report.axes import log_axis, short
from pyrosparse.report.figures import NONE, count, decimal, decimal4, finite
from pyrosparse.report.markup import Html, element, figure, join, section, table
from pyrosparse.report.read import Run
from pyrosparse.report.theme import ALERT, INK, KEPT, calm, themed, to_svg

__all__ = ["error_against_size", "reconstruction"]

_WHERE = {
    "before": ", before the posterior",
    "after": ", in the pruned network",
    "instead": ", with no posterior at all",
}
_COLOURS = {"parallel": KEPT, "top-down": ALERT, "bottom-up": INK}


def reconstruction(run: Run) -> Html:
    """What reconstruction did to each layer, and error against size; nothing where the stage was not run."""
    found = run.metrics.get("reconstruction")
    if not isinstance(found, Mapping):
        return Html("")
    where = _WHERE.get(str(found.get("position")), "")
    lead = f"What the next layer can do without{where}: {found.get('method', NONE)}."
    rows = [row for row in found.get("rows", []) if isinstance(row, Mapping)]
    factors = any(row.get("rank") is not None for row in rows)
    header = ["Layer", "Inputs before", "after", *(["Rank"] if factors else []), "λ / λ max"]
    header += ["Error of reconstruction", "KiB before", "after"]
    body = [
        [
            element("code", row.get("layer", NONE)),
            count(row.get("inputs")),
            count(row.get("kept")),
            *([count(row.get("rank"))] if factors else []),
            decimal4(row.get("lam_ratio")),
            decimal4(row.get("error")),
            decimal(row.get("kib_before"), 1),
            decimal(row.get("kib"), 1),
        ]
        for row in rows
    ]
    if len(rows) > 1:
        sizes = [decimal(found.get(key), 1) for key in ("kib_before", "kib")]
        body.append(["Network", *[""] * (len(header) - 3), *sizes])
    shown = [table(header, body, caption="Reconstruction of each layer")]
    points = [p for p in found.get("curve", []) if isinstance(p, Mapping) and finite(p.get("val_error")) is not None]
    if points:
        alt = f"Validation error against size for {len(points)} reconstructions"
        marks = _marks(run, found)
        svg = to_svg(error_against_size(points, marks), key="reconstruction", alt=alt)
        caption = (
            "Whole lines are debiased by least squares, dashed ones are not; neither is refitted. Down is better, left "
            "is smaller."
        )
        shown.append(element("div", figure(svg, "Over λ, by chaining", caption), class_="grid"))
    notes = [str(note) for note in found.get("notes", [])]
    if notes:
        shown.append(element("ul", *(element("li", note) for note in notes), class_="notes"))
    return section("Reconstruction", lead, join(shown))


def _marks(run: Run, found: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """KiB and validation error of the network before the stage and after it, where both were measured."""
    before, after = ("prune", "reconstruct_pruned") if found.get("position") == "after" else ("dense", "reconstruct")
    ends = {
        before: (found.get("kib_before"), run.stage(before).get("val_error")),
        "this run": (found.get("kib"), run.stage(after).get("val_error")),
    }
    numbers = {name: (finite(kib), finite(error)) for name, (kib, error) in ends.items()}
    return {name: (kib, error) for name, (kib, error) in numbers.items() if kib and error is not None}


@themed
def error_against_size(
    points: Sequence[Mapping[str, Any]], marks: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Validation error against KiB: a line for each chaining, dashed where it is not debiased.

    :param points: with ``chaining``, ``debias``, ``kib`` and ``val_error``.
    :param marks: other networks, as KiB and error by name.
    """
    drawn = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = drawn.add_subplot()
    for name, colour in _COLOURS.items():
        for debias in (True, False):
            line = [p for p in points if p.get("chaining") == name and bool(p.get("debias")) is debias]
            if not line:
                continue
            kib, error = np.array(sorted((float(p["kib"]), float(p["val_error"])) for p in line)).T
            dashes = "-" if debias else (0, (4, 2))
            label = name if debias else None
            axes.plot(
                kib, error, color=colour, linestyle=dashes, linewidth=1.4, marker="o", markersize=3.5, label=label
            )
    for shape, (name, (kib, error)) in zip("sD^v", (marks or {}).items(), strict=False):
        axes.plot(kib, error, shape, color="none", markeredgecolor=INK, markersize=6, label=name)
    sizes = np.array([float(p["kib"]) for p in points] + [kib for kib, _ in (marks or {}).values()])
    if sizes.min() > 0 and sizes.max() / sizes.min() > 3:
        log_axis(axes, "x")
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    axes.set_xlabel("KiB")
    axes.set_ylabel("validation error")
    axes.legend(frameon=False)
    calm(axes, grid="both")
    return drawn
