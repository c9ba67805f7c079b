"""Sizes of files as people write them."""

from __future__ import annotations

import re

from pyrosparse.errors import ConfigError

__all__ = ["parse_size"]

_UNITS = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000, "kib": 1_024, "mib": 1_048_576}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """Turn ``"20kB"``, ``"1.5 MB"``, ``"800"`` or a number into bytes; 1 kB is 1000 bytes, 1 KiB is 1024.

    :raises ConfigError: when it is not a size, or not at least one byte.
    """
    match = _SIZE.fullmatch(str(text))
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigError(f"{text!r} is not a size: write for example 20kB, 1.5MB or 800")
    size = int(float(match[1]) * _UNITS[match[2].lower()])
    if size < 1:
        raise ConfigError(f"a size of {text!r} is no byte at all: give at least 1")
    return size
