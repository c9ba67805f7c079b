"""The command line, ``pyrosparse``. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pyrosparse.cli.main import main

__all__ = ["main"]
