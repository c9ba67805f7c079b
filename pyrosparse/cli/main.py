"""The entry point: it runs a command and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import typer

from pyrosparse.cli.app import app
from pyrosparse.cli.bench import bench
from pyrosparse.cli.files import export, info, unpack
from pyrosparse.cli.folder import inspect, prune, report
from pyrosparse.cli.resumable import INTERRUPTED
from pyrosparse.cli.run import demo, run
from pyrosparse.errors import ConfigError, PyrosparseError, PyrosparseWarning

__all__ = ["main"]

FAILED = 1
BAD_USE = 2

for _command in (demo, run, inspect, prune, report, info, unpack, export):
    app.command()(_command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 1 (failed), 2 (bad use) or 130 (Ctrl-C).

    :param args: the arguments; those of the process when None.
    """
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"] if debug else given
    with warnings.catch_warnings():
        if not debug:
            _plain_warnings()
        sys.exit(_run(given, debug=debug))


def _run(args: list[str], *, debug: bool) -> int:
    try:
        code = app(args or ["--help"], prog_name="pyrosparse", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output (head, less) has gone
        sys.stderr.close()
        return FAILED
    except Exception as error:
        text, exit_code = _explain(error)
        if debug and not hasattr(error, "format_message"):
            raise
        return _say(text, exit_code)
    if not args:
        return BAD_USE
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, PyrosparseError):
        return f"error: {error}", BAD_USE if isinstance(error, ConfigError) else FAILED
    if hasattr(error, "format_message"):  # typer's own: an unknown option, a missing argument
        return f"error: {error.format_message()} ({_help_of(error)})", getattr(error, "exit_code", BAD_USE)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror}", FAILED
    return f"error: unexpected {type(error).__name__}: {error}; --debug shows where it comes from", FAILED


def _help_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"see {context.command_path if context else 'pyrosparse'} --help"


def _say(text: str, code: int) -> int:
    print("pyrosparse:", " ".join(text.split()), file=sys.stderr)
    return code


def _plain_warnings() -> None:
    """Our own warnings as one line each; those of other packages are for developers (``--debug``)."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", PyrosparseWarning)

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print("pyrosparse: warning:", " ".join(str(message).split()), file=sys.stderr)

    warnings.showwarning = show
