"""``inspect``, ``prune`` and ``report``: what can be done with the folder of a run."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from pyrosparse.cli.resumable import resumable
from pyrosparse.errors import ConfigError

__all__ = ["inspect", "prune", "report"]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def inspect(run: Run, json: Json = False) -> None:
    """Say what a run has reached, layer by layer.

    Example:  pyrosparse inspect runs/demo --json
    """
    from pyrosparse.pipeline.folder import RunFolder

    metrics = RunFolder.existing(run).metrics
    if json:
        typer.echo(json_format.dumps(metrics, indent=2))
        return
    from pyrosparse.cli.show import show_metrics

    show_metrics(metrics, run, layers=True)


def prune(
    run: Run,
    *,
    threshold: Annotated[
        float | None,
        typer.Option(help="Largest log alpha that is kept; chosen on validation data when left out."),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Largest file, such as 20kB, in place of a threshold.")] = None,
    rate_weight: Annotated[
        str | None,
        typer.Option(help="What length counts against error in the file's integers, such as 0.06; or auto."),
    ] = None,
    codebook: Annotated[
        int | None,
        typer.Option(help="Centres of k-means that the file's weights take, layer by layer; 0: steps again."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="What the file has of weights: integers, or random-code (numbers of draws)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be cut and write nothing.")] = False,
) -> None:
    """Cut the network of a run again, at another threshold.

    The posterior stays as it is; files, report and metrics are written anew.

    Example:  pyrosparse prune runs/demo --budget 2kB --dry-run
    """
    if threshold is not None and budget is not None:
        raise ConfigError("give --threshold or --budget, not both")
    if budget is not None:
        from pyrosparse.arguments import parse_size

        parse_size(budget)
    weight = None if rate_weight is None else _rate_weight(rate_weight)
    from pyrosparse import pipeline

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if dry_run:
        typer.echo(str(pipeline.preview(run, threshold=threshold, budget=budget)))
        typer.echo("dry run: nothing was written", err=True)
        return
    from pyrosparse.cli.show import show_metrics

    with resumable(run):
        metrics = pipeline.prune_again(
            run, threshold=threshold, budget=budget, rate_weight=weight, codebook=codebook, codec=codec, say=say
        )
    show_metrics(metrics, run, layers=True)


def _rate_weight(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise ConfigError(f"--rate-weight {text}: give a number from 0 up, such as 0.06, or auto") from error


def report(run: Run) -> None:
    """Write report.html of a run again.

    Example:  pyrosparse report runs/demo
    """
    from pyrosparse import report as reports

    typer.echo(str(reports.write(run)))
