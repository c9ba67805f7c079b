"""Results, and how their numbers are written in a table."""

from __future__ import annotations

import json
from typing import Any

from common import RESULTS

__all__ = ["read", "spread", "verdicts"]


def read(name: str) -> dict[str, Any] | None:
    """One result, or None when its script has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def spread(figure: dict[str, float], digits: int = 0, scale: float = 1.0) -> str:
    """Median with the range of the seeds."""
    median, low, high = (f"{scale * figure[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def verdicts(claims: list[dict[str, Any]], scale: str = "{:.2f}") -> list[str]:
    """What was asked, what was measured, and whether it is met."""
    lines = []
    for claim in claims:
        met = "met" if claim["met"] else "**not met**"
        least = "at least " if claim.get("at_least") else ""
        lines.append(f"- {claim['claim']}: asked {scale.format(claim['asked'])}, measured {least}"
                     f"{scale.format(claim['measured'])}: {met}.")  # fmt: skip
    return lines
