"""Rows of tables: medians over seeds, and what was asked beside them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Spread = dict[str, float]


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest over seeds."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def claim(figure: str, asked: float, at_most: float, measured: Spread, error: Spread) -> dict[str, Any]:
    """Say whether medians meet a figure of at least what was asked, at a test error of at most."""
    return {
        "figure": figure,
        "asked": asked,
        "at_most_error": at_most,
        "measured": measured["median"],
        "test_error": error["median"],
        "met": measured["median"] >= asked and error["median"] <= at_most,
    }


def row_of(results: list[dict[str, Any]], bars: Mapping[str, tuple[str, float, float]]) -> dict[str, Any]:
    """One row of a compression table; ``bars`` are figure, at least, at a test error of at most."""

    def over_seeds(*keys: str) -> Spread:
        values = []
        for result in results:
            value: Any = result
            for key in keys:
                value = value[key]
            values.append(float(value))
        return spread(values)

    file = {key: over_seeds("file", key) for key in ("params", "ratio", "bytes", "val_error", "test_error")}
    return {
        "row": results[0]["row"],
        "seeds": [r["seed"] for r in results],
        "recipe": results[0]["recipe"],
        "pruned": {key: over_seeds("pruned", key) for key in ("params", "val_error", "test_error")},
        "file": file,
        "dense": {"test_error": over_seeds("dense", "test_error")},
        "cpu_seconds": over_seeds("cpu_seconds"),
        "teacher_cpu_seconds": results[0]["teacher_cpu_seconds"],
        "units": [r["units"] for r in results],
        "verdict": [
            {"claim": name, **claim(figure, least, error, file[figure], file["test_error"])}
            for name, (figure, least, error) in bars.items()
        ],
    }
