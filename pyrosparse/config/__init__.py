"""The settings of a run: what they are (:mod:`.tables`), and how they are read from TOML (:mod:`.reader`)."""

from __future__ import annotations

from pyrosparse.arguments import parse_size
from pyrosparse.config.reader import parse, read
from pyrosparse.config.tables import Config
from pyrosparse.config.toml import dumps

__all__ = ["Config", "dumps", "parse", "parse_size", "read"]
