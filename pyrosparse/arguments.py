"""Arguments as people write them: sizes of files, and numbers that must be numbers."""

from __future__ import annotations

import re
from numbers import Integral
from typing import Any

from pyrosparse.errors import ConfigError

__all__ = ["budget_bytes", "check_numbers", "parse_size"]

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


def budget_bytes(budget: int | str) -> int:
    """Turn a budget into bytes: a whole number, or a size as :func:`parse_size` reads it.

    :raises ConfigError: when it is neither.
    """
    if isinstance(budget, str):
        return parse_size(budget)
    if isinstance(budget, bool) or not isinstance(budget, Integral):
        raise ConfigError(f"budget is {budget!r}: give a whole number of bytes, or a size such as '20kB'")
    return int(budget)


def check_numbers(where: str, **values: Any) -> None:
    """See that arguments are numbers, or None.

    :raises ConfigError: naming the first that is neither.
    """
    for name, value in values.items():
        try:
            fits = value is None or (not isinstance(value, str | bytes | bool) and float(value) is not None)
        except (TypeError, ValueError, RuntimeError):  # the last is torch's, of more than one number
            fits = False
        if not fits:
            raise ConfigError(f"{where}: {name} is {value!r}; give a number")
