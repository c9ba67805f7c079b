"""Words and numbers for the page: how a measurement is written."""

from __future__ import annotations

import math
from typing import Any

from pyrosparse.text import size

__all__ = ["NONE", "count", "decimal", "decimal4", "finite", "percent", "points", "shape", "size_of", "times"]

NONE = "–"


def finite(value: Any) -> float | None:
    """The value as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def count(value: Any) -> str:
    """12,345."""
    number = finite(value)
    return NONE if number is None else f"{number:,.0f}"


def decimal(value: Any, places: int = 2) -> str:
    """1,234.50."""
    number = finite(value)
    return NONE if number is None else f"{number:,.{places}f}"


def decimal4(value: Any) -> str:
    """0.0278."""
    return decimal(value, 4)


def percent(fraction: Any, places: int = 2) -> str:
    """0.984 as 98.40 %."""
    number = finite(fraction)
    return NONE if number is None else f"{100 * number:.{places}f}\u202f%"


def points(now: Any, before: Any) -> str:
    """Difference of two fractions in percentage points: −0.25."""
    a, b = finite(now), finite(before)
    if a is None or b is None:
        return NONE
    change = round(100 * (a - b), 2)
    return "0.00" if change == 0 else f"{change:+.2f}".replace("-", "\N{MINUS SIGN}")


def size_of(value: Any) -> str:
    """1234 as 1.2 kB."""
    number = finite(value)
    return NONE if number is None else size(number).replace(" ", "\u202f")


def times(before: Any, now: Any) -> str:
    """How many times smaller: 68×, 4.2×."""
    a, b = finite(before), finite(now)
    if a is None or b is None or b == 0:
        return NONE
    return f"{a / b:,.0f}×" if a / b >= 10 else f"{a / b:.1f}×"


def shape(value: Any) -> str:
    """[300, 784] as 300 × 784."""
    return " × ".join(f"{int(n):,}" for n in value) if isinstance(value, list | tuple) else NONE
