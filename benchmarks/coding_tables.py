"""Tables of coders for benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def coders(result: dict[str, Any] | None, verdicts: Callable[[list[dict[str, Any]], str], list[str]]) -> list[str]:
    """Table of coders on the same integers; ``verdicts`` writes what was asked."""
    if result is None:
        return []
    names = list(dict.fromkeys(name for figures in result["medians"].values() for name in figures))
    names.remove("order-0 bound")
    names.sort(key=lambda name: (name == "ours") + 2 * (name == "random codes"))  # these last
    lines = [
        "## Coders, on the same integers",
        "",
        "Bytes over the order-0 bound: the empirical entropy of all integers of each weight, zeros included. No column",
        "has biases, index maps or headers. Medians over the seeds that are there; weights and bytes are those",
        "of the first of them. Random codes are of one seed, and send other weights of the same posterior: whole files",
        "with their test errors stand beside those of the integers of that seed.",
        "",
        "| network or layer | weights | bound, bytes | "
        + " | ".join(names)
        + " | file, integers | file, random codes |",
        "|---" * (5 + len(names)) + "|",
    ]
    for name, figures in result["medians"].items():
        found = next(row for title, row in result["rows"].items() if title.partition(", seed")[0] == name)
        shown = [f"{figures[k]:.2f}" if k in figures else "–" for k in names]
        rows = [row for title, row in result["rows"].items() if title.partition(", seed")[0] == name]
        files = _files(next((row["random_code"] for row in rows if "random_code" in row), None))
        cells = (name, f"{found['weights']:,}", f"{found['bytes']['order-0 bound']:,.0f}", *shown, *files)
        lines.append("| " + " | ".join(cells) + " |")
    notes = verdicts(result["verdict"], "{:.3f}")
    if result["missing"]:
        notes.append(f"- Not there yet: {', '.join(result['missing'])}.")
    whys: dict[str, list[str]] = {}
    for name, why in result.get("no_random_codes", {}).items():
        whys.setdefault(why, []).append(name)
    notes += [f"- No random codes ({why}): {'; '.join(names)}." for why, names in whys.items()]
    notes += [f"- {k}: {v}." if isinstance(v, str) else f"- {k}: {v['missing']}." for k, v in result["outside"].items()]
    return [*lines, "", *notes, ""]


def _files(codes: dict[str, Any] | None) -> tuple[str, str]:
    """Bytes and test errors of a file of integers and one of random codes, of one seed."""
    if codes is None:
        return "–", "–"
    first, second = (f"{file['bytes']:,}, {100 * file['test_error']:.2f} %" for file in (codes["integers"], codes))
    return first, second


def random_codes(result: dict[str, Any] | None) -> list[str]:
    """Table of random codes against integers."""
    if result is None:
        return []
    lines = [
        "## Random codes against integers, LeNet-5, Sparse VD, two cycles",
        "",
        f"Whole files of one posterior, seed {result['seed']}: {result['weights']:,} weights, "
        f"{result['bits_a_block']} bits a block.",
        "",
        "| row | bytes | file | mask, bytes | values, bytes | validation error % | test error % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        parts = [f"{row[k]:,.0f}" if k in row else "–" for k in ("mask_bytes", "value_bytes")]
        errors = ["–" if row[k] is None else f"{100 * row[k]:.2f}" for k in ("val_error", "test_error")]
        lines.append("| " + " | ".join((name, f"{row['bytes']:,}", f"{row['ratio']:,.0f}", *parts, *errors)) + " |")
    return [*lines, ""]
