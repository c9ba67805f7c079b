"""MNIST by linear reconstruction: error against size for both LeNets, with and without retraining.

A network is trained (LeNet-5-Caffe with pixel shifts of ±1; LeNet-300-100 with them, or with dropout and no shifts),
reconstructed at several λ/λ_max (refitted), and each result is factorised at several errors; the moments are those of
the first training images. What a recipe is helped by is listed under ``aids`` in the JSON.
Among what fits the size asked for, the lowest validation error is taken, retrained for as many epochs as are best on
validation data, and the test set is looked at once. KiB are float32 bytes of weights, biases and the index of kept
input features, over 1024.

    python benchmarks/reconstruction_mnist.py [--networks lenet_300_100 lenet_5_caffe] [--seeds …] [--tune]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from common import CACHE, environment, write
from mnist import Data, load_data
from torch import nn

import pyrosparse as ps
from pyrosparse import models
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules
from pyrosparse.reconstruction import ReconstructionReport, factorise, reconstruct


@dataclass(frozen=True)
class Recipe:
    """Everything that a row depends on.

    ``bars`` are (KiB, test error in percent) without and with retraining; ``dropout`` has the rate before each layer
    while the dense network is trained.
    """

    network: str
    epochs: int
    weight_decay: float
    images: int
    batch: int
    ratios: tuple[float, ...]
    ranks: tuple[float | None, ...]
    retraining: tuple[int, ...]
    bars: dict[str, tuple[float, float]]
    seeds: tuple[int, ...] = (40, 41, 42)
    shift: int = 0
    lr: float = 1e-3
    retraining_lr: float = 3e-4
    retraining_weight: float = 0.9
    dropout: tuple[float, ...] = ()
    chaining: str = "bottom-up"


RECIPES = {
    "lenet_300_100": Recipe(
        "lenet_300_100",
        epochs=50,
        weight_decay=0.0,
        images=20_000,
        batch=1000,
        ratios=(0.002, 0.005, 0.01),
        ranks=(0.002, 0.003, 0.004, 0.005, 0.006, 0.008),
        retraining=(3, 6, 12),
        seeds=(60, 61, 62),
        dropout=(0.2, 0.3, 0.2),
        bars={"plain": (330, 1.71), "retrained": (307, 1.64)},
    ),
    "lenet_300_100-shifts": Recipe(
        "lenet_300_100",
        epochs=20,
        weight_decay=0.0,
        images=20_000,
        batch=1000,
        ratios=(0.002, 0.005),
        ranks=(0.001, 0.002, 0.003, 0.005),
        retraining=(3, 6),
        seeds=(46, 47, 48),
        shift=1,
        bars={"plain": (330, 1.71), "retrained": (307, 1.64)},
    ),
    "lenet_5_caffe": Recipe(
        "lenet_5_caffe",
        epochs=12,
        weight_decay=1e-4,
        images=10_000,
        batch=200,
        shift=1,
        ratios=(0.01, 0.02),
        ranks=(0.004, 0.005, 0.007, 0.01),
        retraining=(1, 2),
        bars={"plain": (180, 0.78)},
    ),
}


def aids(recipe: Recipe) -> list[str]:
    """What helps beside the training images and their labels."""
    found = ["retraining on soft labels of the dense network itself"]
    if recipe.shift:
        found.append(f"training images shifted by up to {recipe.shift} pixels")
    if recipe.dropout:
        found.append(f"dropout of {', '.join(f'{p:g}' for p in recipe.dropout)} before the layers of the dense network")
    return found


def with_dropout(network: nn.Module, rates: tuple[float, ...]) -> nn.Module:
    """Put dropout before each layer of a sequential network; parameters are shared and keep their names."""
    left = iter(rates)
    parts: dict[str, nn.Module] = {}
    for name, part in network.named_children():
        if isinstance(part, nn.Linear | nn.Conv2d):
            parts[f"drop_{name}"] = nn.Dropout(next(left))
        parts[name] = part
    return nn.Sequential(OrderedDict(parts))


def dense(recipe: Recipe, seed: int) -> nn.Module:
    """Train a network, or read it from the cache."""
    how = f"{recipe.network}-{recipe.epochs}-{recipe.weight_decay:g}-{recipe.lr:g}-shift{recipe.shift}"
    how += "".join(f"-{rate:g}" for rate in recipe.dropout)
    path = CACHE / f"dense-{how}-seed{seed}.pt"
    torch.manual_seed(seed)
    network = models.build(recipe.network)
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    trained = ps.train(
        with_dropout(network, recipe.dropout) if recipe.dropout else network,
        load_data(recipe.shift).train,
        epochs=recipe.epochs,
        lr=recipe.lr,
        lr_schedule=schedules.cosine(hold=0.3),
        weight_decay=recipe.weight_decay,
        progress=False,
    )
    network.load_state_dict(trained.state_dict())
    CACHE.mkdir(exist_ok=True)
    torch.save(network.state_dict(), path)
    return network.eval()


def candidates(network: nn.Module, data: Data, recipe: Recipe) -> list[tuple[nn.Module, ReconstructionReport, float]]:
    """Every combination of λ/λ_max and error of the factorisation, with its validation error."""
    part = slice(recipe.images)
    loader = TensorLoader(data.train.x[part], data.train.y[part], recipe.batch, shuffle=False)
    found = []
    for ratio in recipe.ratios:
        base = reconstruct(network, loader, lam_ratio=ratio, chaining=recipe.chaining, refit=True)
        for rank in recipe.ranks:
            small, report = base if rank is None else factorise(base[0], loader, error=rank, report=base[1])
            report.notes.insert(0, f"λ/λ_max {ratio:g}, error of the factorisation {rank}")
            found.append((small, report, ps.evaluate(small, data.val).error))
            print(f"  {report.notes[0]}: {report.kib:.1f} KiB, val {100 * found[-1][2]:.2f} %", flush=True)
    return found


def retrained(small: nn.Module, network: nn.Module, data: Data, recipe: Recipe) -> tuple[nn.Module, int, float]:
    """Train at several lengths on soft labels of the dense network; the best on validation data, epochs and error."""
    tried = []
    taught = load_data(recipe.shift).train.soften(network, weight=recipe.retraining_weight)
    for epochs in recipe.retraining:
        trained = ps.train(
            small,
            taught,
            epochs=epochs,
            lr=recipe.retraining_lr,
            lr_schedule=schedules.linear_decay(hold=0.0),
            progress=False,
        )
        tried.append((trained, epochs, ps.evaluate(trained, data.val).error))
    return min(tried, key=lambda t: t[2])


def run_seed(recipe: Recipe, seed: int, *, test: bool) -> dict[str, Any]:
    """One seed: dense, reconstructed, retrained."""
    data = load_data(0)
    cpu = time.process_time()
    network = dense(recipe, seed)
    found = candidates(network, data, recipe)
    result: dict[str, Any] = {
        "seed": seed,
        "dense": {"val_error": ps.evaluate(network, data.val).error, "kib": found[0][1].kib_before},
        "curve": [{"choice": r.notes[0], "kib": r.kib, "val_error": e} for _, r, e in found],
    }
    finals = {"dense": network}
    for row, (kib, _) in recipe.bars.items():
        fitting = [f for f in found if f[1].kib <= kib]
        if not fitting:
            raise SystemExit(f"{recipe.network}: nothing fits {kib} KiB: add larger λ/λ_max or errors")
        small, report, error = min(fitting, key=lambda f: (f[2], f[1].kib))
        result[row] = {"choice": report.notes[0], "kib": report.kib, "val_error": error, "report": report.to_dict()}
        finals[row] = small
        if row == "retrained":
            finals[row], result[row]["epochs"], result[row]["val_error"] = retrained(small, network, data, recipe)
    result["cpu_seconds"] = round(time.process_time() - cpu, 1)
    if test:  # the one look at the test set, after everything has been decided
        for row, final in finals.items():
            result[row]["test_error"] = ps.evaluate(final, data.test).error
    return result


def main() -> None:
    """Run, print and write medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, help="those of the recipe if not given")
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        recipe = RECIPES[name]
        seeds = [run_seed(recipe, seed, test=not options.tune) for seed in options.seeds or recipe.seeds]
        rows: dict[str, Any] = {}
        for row in ("dense", *recipe.bars):
            keys = ("kib", "val_error") if options.tune else ("kib", "val_error", "test_error")
            rows[row] = {key: statistics.median(s[row][key] for s in seeds) for key in keys}
            if row in recipe.bars and not options.tune:
                kib, error = recipe.bars[row]
                rows[row]["asked"] = {"kib": kib, "error": error / 100}
                rows[row]["met"] = rows[row]["kib"] <= kib and rows[row]["test_error"] <= error / 100
            print(name, row, rows[row], flush=True)
        if not options.tune:
            result = {"claim": "MNIST by linear reconstruction", "aids": aids(recipe), "recipe": asdict(recipe)}
            result |= {"medians": rows}
            write(f"reconstruction-{name}.json", result | {"seeds": seeds, **environment()})


if __name__ == "__main__":
    main()
