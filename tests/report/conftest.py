"""A synthetic run folder: the files that a pipeline writes, with made-up numbers of a likely shape."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

THRESHOLD = 3.0
MakeRun = Callable[..., Path]

CONFIG = """\
seed = 0

[data]
source = "digits"
validation = 0.1

[model]
name = "digits_mlp"

[fit]
epochs = 60
lr = 1e-3
"""


def _saliency(inputs: int) -> NDArray[np.float64]:
    """How likely an input is to matter: the middle of a square image more than its rim."""
    side = math.isqrt(inputs)
    if side * side != inputs:
        return np.full(inputs, 0.5)
    axis = np.linspace(-1, 1, side)
    return np.exp(-2.2 * (axis[:, None] ** 2 + 1.6 * axis[None, :] ** 2)).ravel()


def posterior(shape: tuple[int, ...], *, first: bool, seed: int) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(seed)
    flat = (shape[0], int(np.prod(shape[1:])))
    unit = rng.random(flat[0]) < 0.5
    weight = _saliency(flat[1]) if first else np.full(flat[1], 0.3)
    keep_chance = 0.35 * unit[:, None] * weight[None, :]
    alive = rng.random(flat) < keep_chance
    mean = np.where(alive, rng.normal(0, 0.25, flat) + 0.12 * rng.choice([-1, 1], flat), rng.normal(0, 0.004, flat))
    log_alpha = np.where(alive, rng.normal(-2.5, 1.6, flat), rng.normal(6.5, 1.3, flat))
    std = np.abs(mean) * np.exp(log_alpha / 2)
    gone = (rng.random(flat) < 0.25) & ~alive
    mean[gone], std[gone] = 0.0, 0.0
    relevance = np.where(gone, -np.inf, -log_alpha)
    return {
        "mean": mean.reshape(shape).astype(np.float32),
        "std": std.reshape(shape).astype(np.float32),
        "relevance": relevance.reshape(shape).astype(np.float32),
        "keep": (relevance >= -THRESHOLD).reshape(shape).astype(np.uint8),
    }


def build(
    folder: Path,
    shapes: dict[str, tuple[int, ...]] | None = None,
    *,
    epochs: int = 60,
    config: str = CONFIG,
    example: tuple[int, ...] = (1, 8, 8),
) -> Path:
    """Write a complete run folder for layers of the given shapes."""
    shapes = shapes or {"fc1.weight": (40, 64), "fc2.weight": (20, 40), "fc3.weight": (10, 20)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(config, encoding="utf-8")
    sites = {name: posterior(s, first=i == 0, seed=i) for i, (name, s) in enumerate(shapes.items())}
    save_file({f"{n}/{k}": v for n, parts in sites.items() for k, v in parts.items()}, folder / "posterior.safetensors")
    total = sum(int(np.prod(s)) for s in shapes.values())
    kept = sum(int(parts["keep"].sum()) for parts in sites.values())
    layers = []
    for name, parts in sites.items():
        keep = parts["keep"].reshape(parts["keep"].shape[0], parts["keep"].shape[1], -1).any(-1)
        small = [max(1, int(keep.any(1).sum())), max(1, int(keep.any(0).sum())), *parts["keep"].shape[2:]]
        layers.append(
            {
                "site": name,
                "shape": list(parts["keep"].shape),
                "small_shape": small,
                "kept": int(parts["keep"].sum()),
                "total": int(parts["keep"].size),
                "units": small[0],
                "original_units": parts["keep"].shape[0],
                "inputs": small[1],
                "original_inputs": parts["keep"].shape[1],
            }
        )
    size, file = 4 * total, 120 + kept
    curve = [
        {
            "threshold": t,
            "kept": int(kept * math.exp(0.25 * (t - THRESHOLD))),
            "nonzero": int(kept * math.exp(0.25 * (t - THRESHOLD))),
            "bytes": int(120 + kept * math.exp(0.25 * (t - THRESHOLD))),
            "val_error": 0.022 + 0.3 * math.exp(-(t + 6) / 1.8),
        }
        for t in (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    ]

    def stage(name: str, accuracy: float, nonzero: int, count: int, seconds: float) -> dict[str, object]:
        return {
            "name": name, "accuracy": accuracy, "error": 1 - accuracy, "parameters": total, "nonzero": nonzero,
            "bytes": count, "seconds": seconds, "val_accuracy": accuracy,
        }  # fmt: skip

    metrics = {
        "schema": 1,
        "versions": {"pyrosparse": "0.1.0", "torch": "2.13.0", "pyro": "1.9.2", "numpy": "2.4.6", "python": "3.11.7"},
        "seed": 0,
        "model": "digits_mlp",
        "data": f"digits: 1293 train, 144 val, 360 test, examples of shape {example}, 10 classes",
        "threshold": THRESHOLD,
        "stages": [
            stage("dense", 0.9806, total, size, 4.2),
            stage("fit", 0.9778, total, size, 41.0),
            stage("prune", 0.9750, kept, 4 * kept, 0.4),
            stage("fine_tune", 0.9778, kept, 4 * kept, 3.1),
            stage("file", 0.9778, kept, file, 0.1),
            stage("onnx", 0.9778, kept, 2 * size // 30, 1.7),
        ],
        "layers": layers,
        "curve": curve,
        "units": {"original": [r["original_units"] for r in layers], "kept": [r["units"] for r in layers]},
        "file": {
            "bytes": file,
            "c": 0.5,
            "sections": {"header": 60, "fc1.weight mask": file // 2, "fc1.weight values": file - 60 - file // 2},
            "layers": [
                {"name": r["site"], "shape": r["small_shape"], "nonzero": r["kept"], "bytes": r["kept"]} for r in layers
            ],
        },
        "notes": ["fc2: one unit was kept"],
        "agreement": {"file": 0.0, "onnx": 2.4e-7},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with (folder / "history.jsonl").open("w", encoding="utf-8") as lines:
        for epoch in range(1, epochs + 1):
            beta = min(1.0, epoch / (epochs / 3))
            share = 0.05 + 0.95 / (1 + math.exp((epoch - 0.45 * epochs) / 4))
            fit = -1500 * math.exp(-epoch / 6) - 160 - 60 * beta
            kl = (4.5 * total) ** (1 - 0.12 * beta) * (0.25 + 0.75 * share)
            units = {
                r["site"].rpartition(".")[0]: round(r["units"] + (r["original_units"] - r["units"]) * share)
                for r in layers
            }
            row = {
                "epoch": epoch, "loss": -fit + beta * kl, "log_likelihood": fit, "kl": kl, "beta": beta,
                "kept": round(kept + (total - kept) * (share - 0.05) / 0.95), "total": total, "val_error": 0.03,
                "val_accuracy": 0.97, "seconds": 0.5, "lr": 1e-3, "units": units,
            }  # fmt: skip
            lines.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture(scope="session")
def build_run() -> MakeRun:
    """Write a run folder to a place: ``build_run(folder, shapes, epochs=..., config=..., example=...)``."""
    return build


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder: ``make_run(shapes, epochs=..., config=..., example=...)``."""
    return partial(build, tmp_path / "run")
