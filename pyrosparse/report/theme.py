"""The look of the figures, and how a figure becomes a piece of the page.

Figures are drawn in the light palette, so that they stand on their own; in the page each palette
colour becomes a CSS variable, and the figures follow the reader's light or dark setting.
Kept is blue, pruned is grey, the thing to look at is vermilion: these stay apart for colour-blind
readers (Okabe and Ito) and in black and white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import ParamSpec, TypeVar

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["ALERT", "CUT", "GRID", "INK", "KEPT", "LIGHT", "MUTED", "PAPER", "WIDTH", "calm", "themed", "to_svg"]

INK, MUTED, GRID, PAPER = "#1c2126", "#656d76", "#e4e6e9", "#fefefd"
KEPT, CUT, ALERT = "#0072b2", "#b3b9c0", "#d05a00"
WIDTH = 5.2  # inches: half of a page
LIGHT = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER, "kept": KEPT, "cut": CUT, "alert": ALERT}

_STYLE = {
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": CUT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": CUT,
    "ytick.color": CUT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": "none",
    "figure.dpi": 72,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "pyrosparse",
    "svg.image_inline": True,
    "path.simplify": True,
}


def themed(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the report's style, whatever the reader's own matplotlib settings are."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return inner


def calm(axes: Axes, *, grid: str = "y") -> None:
    """Hairline grid behind the data, along one axis ("x", "y", "both"), or none ("")."""
    axes.set_axisbelow(True)
    if grid:
        axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.tick_params(length=3)


def to_svg(figure: Figure, *, key: str, alt: str) -> str:
    """Turn a figure into an inline ``<svg>`` element.

    ``key`` keeps the element's ids apart from those of the page's other figures; ``alt`` is what a
    screen reader says. The same figure always gives the same text: no date, no random ids.
    """
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with style.context(["default", _STYLE]):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{key}-\1"', svg)
    width, height = (72 * float(inches) for inches in figure.get_size_inches())
    head = (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{width / 0.75:.0f}px" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    svg = re.sub(r"<svg\b[^>]*>", lambda _: head, svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]+", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]+;?", "", svg)
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()
