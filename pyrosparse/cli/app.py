"""The typer application and the options that stand before every command."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    name="pyrosparse",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"pyrosparse {version('pyrosparse')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and every warning.")] = False,
) -> None:
    """Sparse Bayesian neural networks with Pyro: a network goes in, a smaller one comes out.

    Exit codes: 0 done, 1 failed, 2 bad use. Errors are one line on stderr; --debug shows the traceback.

    Example:  pyrosparse demo --out runs/demo
    """
