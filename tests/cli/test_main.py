"""Exit codes, one plain line for an error, and help before anything heavy loads."""

from __future__ import annotations

import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.cli import main
from pyrosparse.errors import PyrosparseError, PyrosparseWarning
from tests.cli.calls import call

COMMANDS = ("demo", "run", "inspect", "prune", "report", "info", "unpack", "export", "bench")
HEAVY = ("torch", "pyro", "numpy", "scipy", "matplotlib", "arviz", "pydantic", "sklearn", "onnx", "rich")


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pyrosparse.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as left:\n    assert left.code == 0\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of the processor, so that a busy machine does not fail the test
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.stderr.split() == []
    for command in COMMANDS:
        assert f"  {command}" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = call(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert f"Example:  pyrosparse {command} " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"pyrosparse {ps.__version__}\n", "")


def test_without_a_command_there_is_help_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys)
    assert code == 2
    assert "Usage: pyrosparse" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["dmo"], ["No such command 'dmo'", "pyrosparse --help"]),
        (["run"], ["CONFIG.toml", "pyrosparse run --help"]),
        (["demo", "--sed", "3"], ["No such option", "--seed", "pyrosparse demo --help"]),
        (["demo", "--seed", "x"], ["--seed", "valid integer"]),
        (["prune", "x", "--threshold", "1", "--budget", "2kB"], ["--threshold or --budget"]),
    ],
)
def test_bad_use_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], args: list[str], words: list[str]) -> None:
    code, out, err = call(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith("pyrosparse: error: ") and err.count("\n") == 1
    for word in words:
        assert word in err


def broken(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_an_error_of_ours_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "run", broken(PyrosparseError("it is\nso")))
    assert call(capsys, "demo") == (1, "", "pyrosparse: error: it is so\n")


def test_an_error_of_the_system_names_its_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run", broken(OSError(36, "File name too long", "runs/long")))
    assert call(capsys, "demo") == (1, "", "pyrosparse: error: runs/long: File name too long\n")
    monkeypatch.setattr(pipeline, "run", broken(OSError(28, "No space left on device")))
    assert call(capsys, "demo") == (1, "", "pyrosparse: error: No space left on device\n")


def test_an_unexpected_error_points_to_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run", broken(ZeroDivisionError("by zero")))
    code, _, err = call(capsys, "demo")
    assert code == 1
    assert err == "pyrosparse: error: unexpected ZeroDivisionError: by zero; --debug shows where it comes from\n"


@pytest.mark.parametrize("place", [0, 1])
def test_debug_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(pipeline, "run", broken(PyrosparseError("it is so")))
    args = ["demo"]
    args.insert(place, "--debug")
    with pytest.raises(PyrosparseError, match="it is so"):
        main(args)


def test_ctrl_c_says_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pipeline, "run", broken(KeyboardInterrupt()))
    monkeypatch.setattr(pipeline, "prune_again", broken(KeyboardInterrupt()))
    folder = tmp_path / "my run"
    assert call(capsys, "demo", "--out", folder) == (130, "", "pyrosparse: interrupted; nothing had begun\n")
    folder.mkdir()
    (folder / "config.toml").touch()
    code, _, err = call(capsys, "demo", "--out", folder)
    assert code == 130
    assert "the fit has no checkpoint yet" in err and err.count("\n") == 1
    (folder / "checkpoint").mkdir()
    for command in (["demo", "--out", folder], ["prune", folder]):
        code, _, err = call(capsys, *command)
        assert code == 130
        assert f"the checkpoint is in {folder / 'checkpoint'}" in err
        # as a shell reads it
        assert err.endswith(f"pyrosparse run '{folder / 'config.toml'}' --out '{folder}' --resume\n")


def test_our_warnings_are_one_line_and_others_are_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def warn(*_: object, **__: object) -> dict[str, Any]:
        warnings.warn("look\nhere", PyrosparseWarning, stacklevel=1)
        warnings.warn("for developers", DeprecationWarning, stacklevel=1)
        return {"stages": []}

    monkeypatch.setattr(pipeline, "run", warn)
    code, _, err = call(capsys, "demo", "--out", tmp_path)
    assert (code, err) == (0, "pyrosparse: warning: look here\n")
