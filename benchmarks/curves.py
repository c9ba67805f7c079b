"""Pictures of benchmarks/README.md: validation error against file bytes."""

from __future__ import annotations

import json

import matplotlib
from common import RESULTS
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

matplotlib.rcParams["svg.hashsalt"] = "pyrosparse"  # the same picture from the same figures


def round_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 times powers of ten, where the axis is logarithmic; plain numbers either way."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def curve(network: str, rows: dict[str, str]) -> list[str]:
    """Draw validation error against file bytes and return the lines that show it."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    colours = ("#0b6e99", "#d9730d", "#4f7a28", "#9b51e0")
    drawn = False
    for colour, (row, title) in zip(colours, rows.items(), strict=False):
        label: str | None = title
        for path in sorted(RESULTS.glob(f"{network}-{row}-seed*.json")):
            points = sorted(json.loads(path.read_text())["curve"], key=lambda p: p["bytes"])
            points = [p for p in points if p["val_error"] is not None]
            if not points:
                continue
            xs, ys = [p["bytes"] for p in points], [100 * p["val_error"] for p in points]
            axes.plot(xs, ys, "o-", color=colour, markersize=3, linewidth=1, label=label)
            label, drawn = None, True
    if not drawn:
        return []
    axes.set(xscale="log", yscale="log", xlabel="bytes of the .psz file", ylabel="validation error, %")
    round_ticks(axes.xaxis)
    round_ticks(axes.yaxis)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    name = f"{network}-curve.svg"
    figure.savefig(RESULTS / name, metadata={"Date": None})
    return ["", f"![validation error against file bytes, one line a seed](results/{name})"]
