"""Runs that take a second, and what is in their folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyrosparse.config import Config, parse

EPOCHS = 4
SMALL: dict[str, Any] = {
    "model": {"name": "pyrosparse.models:mlp", "args": {"sizes": [64, 40, 20, 10]}},
    "pretrain": {"epochs": 4},
    "fit": {"epochs": EPOCHS, "kl": "constant", "log_var": -8.0, "lr_log_var": 0.02, "shrink_every": 1},
    "prune": {"threshold": 2.0, "curve": [0.0]},
    "fine_tune": {"epochs": 1},
    "file": {"tolerance": 0.05},
    "posterior": {"draws": 5, "max_weights": 4},
}


def settings(*overrides: str, **tables: Any) -> Config:
    return parse(SMALL | tables, overrides=overrides)


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
