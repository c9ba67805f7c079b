"""The settings of ``pyrosparse demo``."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from pyrosparse.config import Config, parse
from pyrosparse.errors import PyrosparseWarning

__all__ = ["demo_config"]


def demo_config(*, seed: int = 0, overrides: Iterable[str] = ()) -> Config:
    """Read the settings that come with the package.

    Without the packages of the ``onnx`` extra the ONNX file is left out, with a warning.
    """
    path = Path(__file__).with_name("demo.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    table["seed"] = seed
    if any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        warnings.warn(
            "the packages for ONNX are not installed, so network.onnx is left out: pip install 'pyrosparse[onnx]'",
            PyrosparseWarning,
            stacklevel=2,
        )
        table["export"] = {"onnx": False}
    return parse(table, overrides=overrides, file=path.name)
