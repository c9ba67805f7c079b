"""Modules that torch lacks."""

from __future__ import annotations

from pyrosparse.nn.select import SelectLinear

__all__ = ["SelectLinear"]
