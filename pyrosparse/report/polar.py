"""Complex weights in a report: phase and modulus, the one as an angle, the other as a distance."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from pyrosparse.report.markup import Html, element, figure, section
from pyrosparse.report.read import Run, SiteArrays
from pyrosparse.report.theme import CUT, KEPT, MUTED, themed, to_svg

__all__ = ["phases", "polar"]

MOST = 3000  # points of one picture: more would be one blot, and the page large


@themed
def polar(mean: ArrayLike, keep: ArrayLike) -> Figure:
    """Posterior means of complex weights by phase and modulus, and how the kept ones share out over the phases.

    :param mean: complex means of any shape.
    :param keep: which of them are kept.
    """
    values, kept = np.asarray(mean, dtype=np.complex128).ravel(), np.asarray(keep, dtype=bool).ravel()
    figure = Figure(figsize=(3.5, 3.0), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    for points, colour, size in ((values[~kept], CUT, 1.5), (values[kept], KEPT, 5.0)):
        shown = points[np.abs(points) > 0]
        shown = shown[:: max(1, -(-len(shown) // MOST))]
        axes.scatter(np.angle(shown), np.abs(shown), s=size, color=colour, linewidths=0, alpha=0.7)
    axes.set_xticks(np.arange(0, 2 * np.pi, np.pi / 2), ["0", "π/2", "π", "3π/2"])
    axes.tick_params(labelcolor=MUTED)
    axes.set_rlabel_position(45)  # type: ignore[attr-defined]
    return figure


def phases(run: Run) -> Html:
    """One polar picture for each complex site; nothing for a network without them."""
    sites = [site for site in run.sites.values() if site.complex_mean is not None and site.keep.size]
    if not sites:
        return Html("")
    lead = "A complex weight is an angle and a distance from the middle. Blue is kept, grey is gone."
    return section(
        "Phase and modulus", lead, element("div", *map(_picture, range(len(sites)), sites), class_="grid small")
    )


def _picture(index: int, site: SiteArrays) -> Html:
    assert site.complex_mean is not None
    kept = int(site.keep.sum())
    alt = f"Phase and modulus of {site.site}: {kept} of {site.keep.size} complex weights kept"
    caption = f"{kept:,} of {site.keep.size:,} complex weights live. {_direction(site.complex_mean[site.keep])}"
    return figure(to_svg(polar(site.complex_mean, site.keep), key=f"polar{index}", alt=alt), site.site, caption)


def _direction(weights: NDArray[np.complex128]) -> str:
    """How much the phases agree: the length of their mean direction, 0 for none and 1 for all alike."""
    size = np.abs(weights)
    if not (size > 0).any():
        return ""
    length = abs(np.mean(weights[size > 0] / size[size > 0]))
    return f"Mean direction {length:.2f} (0: every phase as often, 1: all alike)."
