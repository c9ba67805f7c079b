"""What every benchmark needs: versions, JSON, MNIST."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
CACHE = FOLDER / "cache"


def environment(*others: str) -> dict[str, Any]:
    """Versions, of other packages too, and the kind of machine; no names, no paths."""
    packages = ("pyrosparse", "torch", "pyro-ppl", "numpy", "scipy", "constriction", "scikit-learn", *others)
    return {
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }


def write(name: str, result: dict[str, Any]) -> Path:
    """Write a result as JSON into benchmarks/results."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def mnist_folder() -> Path:
    """Folder with the four MNIST idx files: $PYROSPARSE_DATA/mnist."""
    root = os.environ.get("PYROSPARSE_DATA")
    if not root:
        raise SystemExit("PYROSPARSE_DATA is not set: set it to a folder that has mnist/ with the four idx files in it")
    folder = Path(root) / "mnist"
    if not folder.is_dir():
        raise SystemExit(f"no MNIST in {folder}: set PYROSPARSE_DATA to a folder with mnist/*.gz")
    return folder
