"""``pyrosparse bench``: the benchmarks of a source checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pyrosparse.errors import ConfigError, PyrosparseError
from pyrosparse.text import nearest

__all__ = ["bench"]


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A script of benchmarks/, without .py.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print the JSON that the script wrote, and nothing else.")
    ] = False,
) -> None:
    """Run a benchmark of a source checkout.

    Further options go to its script.
    Each script writes benchmarks/results/NAME.json.

    Example:  pyrosparse bench lenet_300_100 --json
    """
    folder = benchmarks()
    scripts = {p.stem: p for p in folder.glob("*.py") if not p.stem.startswith("_")}
    if name not in scripts:
        raise ConfigError(f"there is no benchmark {name!r} in {folder}{nearest(name, scripts)}")
    result = folder / "results" / f"{name}.json"
    # with --json the script's own words go to stderr, so that stdout is JSON alone
    code = subprocess.run(
        [sys.executable, str(scripts[name]), *context.args],
        stdout=sys.stderr.fileno() if json else None,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        check=False,
    ).returncode
    if code:
        raise PyrosparseError(f"the benchmark {name} failed with exit code {code}")
    if json:
        if not result.is_file():
            raise PyrosparseError(f"the benchmark {name} wrote no {result}")
        typer.echo(result.read_text(encoding="utf-8").rstrip())


def benchmarks() -> Path:
    """The folder of the benchmark scripts.

    :raises ConfigError: when pyrosparse was installed from a wheel, which has none.
    """
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    if not folder.is_dir():
        raise ConfigError(
            "the benchmarks are not part of the installed package: run this in a checkout of the sources, "
            "installed with pip install -e ."
        )
    return folder
