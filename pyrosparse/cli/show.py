"""What a run has reached, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from pyrosparse.text import size, table

__all__ = ["show_metrics"]

_WHAT = {
    "teacher": "teacher",
    "dense": "dense network",
    "reconstruct": "reconstructed",
    "fit": "posterior mean",
    "prune": "pruned",
    "reconstruct_pruned": "reconstructed",
    "fine_tune": "fine-tuned",
    "quantise": "rounded, trained",
    "file": "file (.psz)",
    "onnx": "ONNX",
    "magnitude": "largest weights",
    "l1": "ℓ1 penalty",
    "kmeans": "k-means",
}


def show_metrics(metrics: Mapping[str, Any], folder: Path, *, layers: bool = False) -> None:
    """Print the stages of a run, with ``layers`` the layers too, and where the files are.

    On a terminal rich draws the tables; elsewhere they are plain text.
    """
    stages = metrics.get("stages", [])
    if not stages:
        typer.echo(f"{folder}: no stage is finished yet")
        return
    dense: Mapping[str, Any] = next((row for row in stages if row["name"] == "dense"), {})
    _print("Stage by stage", _STAGES, [_stage(row, dense) for row in stages])
    if layers and metrics.get("layers"):
        _print("Layer by layer", _LAYERS, [_layer(row) for row in metrics["layers"]])
    if layers:
        _show_lengths(metrics)
    for note in metrics.get("notes", []):
        typer.echo(f"note: {note}")
    agreement = metrics.get("agreement", {})
    if agreement:
        parts = ", ".join(f"{name} {value:.1e}" for name, value in agreement.items())
        typer.echo(f"largest difference from the network in memory on the test set: {parts}")
    file: Mapping[str, Any] = next((row for row in stages if row["name"] == "file"), {})
    if file.get("bytes") and dense.get("bytes"):
        ratio = dense["bytes"] / file["bytes"]
        typer.echo(f"{folder / 'network.psz'}: {size(file['bytes'])}, {ratio:.0f} times smaller than float32")
    if (folder / "report.html").is_file():
        typer.echo(f"report: {folder / 'report.html'}")


_STAGES = ("stage", "validation", "test", "parameters", "not zero", "bytes", "smaller", "seconds")
_LENGTHS = ("site", "KL", "at its precision", "order-0 entropy", "in the file")
_LAYERS = ("site", "shape", "small", "kept", "density", "units")


def _stage(row: Mapping[str, Any], dense: Mapping[str, Any]) -> list[str]:
    ratio = dense["bytes"] / row["bytes"] if dense.get("bytes") and row.get("bytes") else None
    return [
        _WHAT.get(row["name"], row["name"]),
        _percent(row.get("val_accuracy")),
        _percent(row.get("accuracy")),
        _count(row.get("parameters")),
        _count(row.get("nonzero")),
        _count(row.get("bytes")),
        "" if ratio is None else f"{ratio:.1f} ×",
        f"{row['seconds']:.1f}" if "seconds" in row else "",
    ]


def _layer(row: Mapping[str, Any]) -> list[str]:
    return [
        str(row["site"]),
        " × ".join(str(n) for n in row["shape"]),
        " × ".join(str(n) for n in row["small_shape"]),
        f"{row['kept']:,} / {row['total']:,}",
        _percent(row["kept"] / max(1, row["total"])),
        f"{row['original_units']} → {row['units']}",
    ]


def _show_lengths(metrics: Mapping[str, Any]) -> None:
    """What the posterior says the weights are worth, beside what is stored."""
    from pyrosparse.coding.lengths import lengths, total

    found = lengths(metrics.get("summary"), metrics.get("file"))
    if not found:
        return
    rows = [
        [row.site, *("" if n is None else f"{n:,.0f}" for n in (row.kl, row.precision, row.entropy, row.stored))]
        for row in [*found, total(found)]
    ]
    _print("Weights in bits", _LENGTHS, rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _print(title: str, header: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        typer.echo(f"{title}\n{table(header, rows)}\n")
        return
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
        drawn.add_column(name, justify="right" if i else "left")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)
