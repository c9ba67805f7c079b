"""The report of a run: one self-contained HTML page, made from the run folder alone."""

from __future__ import annotations

from pyrosparse.report.page import write

__all__ = ["write"]
