"""Words for people: sizes, numbers, suggestions and tables in plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

__all__ = ["kind", "nearest", "size", "table"]


def kind(distribution: Any) -> str:
    """Name a distribution with what it is made of: ``Independent(Normal)``."""
    base = getattr(distribution, "base_dist", None)
    name = type(distribution).__name__
    return name if base is None else f"{name}({kind(base)})"


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest: ``"; did you mean 'x'? (known: …)"``."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(names)})"


def size(count: float) -> str:
    """Write a number of bytes for people: ``1.2 kB``; 1 kB is 1000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if round(abs(count), 1) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Align columns: the first ``left`` to the left, the others to the right."""
    cells = [list(header), *[list(r) for r in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    rule = "  ".join("─" * w for w in widths)
    return "\n".join([line(cells[0]), rule, *(line(r) for r in cells[1:])])
