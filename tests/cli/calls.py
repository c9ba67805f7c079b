"""Calling a command inside the test process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrosparse.cli import main


def call(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    """Run a command; returns exit code, stdout and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    code = left.value.code
    assert isinstance(code, int)
    return code, out, err
