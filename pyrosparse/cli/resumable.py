"""What Ctrl-C leaves of a run, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

__all__ = ["INTERRUPTED", "resumable"]

INTERRUPTED = 130


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Work on the folder of a run: Ctrl-C leaves with exit code 130 and says what there is and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"pyrosparse: interrupted; {_left(folder)}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _left(folder: Path) -> str:
    config, checkpoint = folder / "config.toml", folder / "checkpoint"
    if not config.is_file():
        return "nothing had begun"
    where = f"the checkpoint is in {checkpoint}" if checkpoint.is_dir() else "the fit has no checkpoint yet"
    command = shlex.join(["pyrosparse", "run", str(config), "--out", str(folder), "--resume"])
    return f"{where}, and finished stages are kept. Go on with: {command}"
