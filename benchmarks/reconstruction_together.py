"""Linear reconstruction before Sparse VD, against each alone, at equal validation error: bytes of the .psz file.

All rows start from the same dense LeNet-300-100. Reconstruction alone has no posterior that would say how exactly its
weights are needed, so that its file holds them as they are, in float32; the other rows are fitted, pruned and stored by
the protocol of the compression tables. Each step may cost the same tolerance in validation error.

    python benchmarks/reconstruction_together.py [--seeds 50] [--epochs 60] [--tune]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from common import RESULTS, environment, write
from compression import Recipe, fit_posterior, prune_to, round_off
from mnist import Data, load_data, pretrained
from torch import nn

import pyrosparse as ps
from pyrosparse.data import TensorLoader
from pyrosparse.reconstruction import reconstruct

TOLERANCE = 0.001
RATIOS = (0.002, 0.005, 0.01, 0.02, 0.03)
IMAGES = 10_000


def reconstructed(network: nn.Module, data: Data) -> nn.Module:
    """The smallest network whose validation error is within the tolerance; the least reduced one if none is."""
    loader = TensorLoader(data.train.x[:IMAGES], data.train.y[:IMAGES], 1000, shuffle=False)
    bound = ps.evaluate(network, data.val).error + TOLERANCE
    best: nn.Module | None = None
    for ratio in RATIOS:
        small, report = reconstruct(network, loader, lam_ratio=ratio, chaining="bottom-up", refit=True)
        error = ps.evaluate(small, data.val).error
        print(f"  λ/λ_max {ratio:g}: {report.kib:.0f} KiB, val {100 * error:.2f} %", flush=True)
        if best is None or error <= bound:
            best = small
    assert best is not None
    return best


def fitted(start: nn.Module, data: Data, recipe: Recipe, original: int) -> tuple[ps.Pruned, float]:
    """Sparse VD from a network to a rounded, pruned one."""
    model, guide, _ = fit_posterior(start, data.train, data, recipe)
    pruned = prune_to(model, guide, original, threshold="auto", val_loader=data.val, tolerance=recipe.tolerance)
    rounded, c, _ = round_off(pruned, data.train, data, recipe)
    return rounded, c


def run_seed(seed: int, recipe: Recipe, *, test: bool) -> dict[str, Any]:
    """All three rows of one seed."""
    data = load_data(0)
    torch.manual_seed(seed)
    dense = pretrained(recipe.network, data, recipe.pretrain_epochs)
    original = sum(p.numel() for p in dense.parameters())
    start = time.process_time()
    small = reconstructed(dense, data)
    seconds = {"reconstruction": time.process_time() - start}
    result: dict[str, Any] = {"seed": seed, "dense": {"val_error": ps.evaluate(dense, data.val).error}}
    finals: dict[str, tuple[nn.Module, int]] = {}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"reconstruction-together-seed{seed}.psz"
    try:
        info = ps.save(path, small)
        finals["reconstruction"] = ps.load(path), info.bytes
        for row, network in (("sparse vd", dense), ("reconstruction, sparse vd", small)):
            start = time.process_time()
            torch.manual_seed(seed)
            pruned, c = fitted(network, data, recipe, original)
            seconds[row] = time.process_time() - start
            info = ps.save(path, pruned, c=c)
            finals[row] = ps.load(path), info.bytes
    finally:
        path.unlink(missing_ok=True)
    for row, (network, size) in finals.items():
        result[row] = {
            "bytes": size,
            "file": 4 * original / size,
            "val_error": ps.evaluate(network, data.val).error,
            "cpu_seconds": round(seconds[row], 1),
        }
        if test:
            result[row]["test_error"] = ps.evaluate(network, data.test).error
        print(row, result[row], flush=True)
    return result


def main() -> None:
    """Run, print and write medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[50, 51, 52])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe("lenet_300_100", epochs=options.epochs, tolerance=TOLERANCE)
    seeds = [run_seed(seed, recipe, test=not options.tune) for seed in options.seeds]
    rows = [key for key in seeds[0] if key not in {"seed", "dense"}]
    medians = {row: {key: statistics.median(s[row][key] for s in seeds) for key in seeds[0][row]} for row in rows}
    print(medians)
    if not options.tune:
        result = {"claim": "reconstruction and Sparse VD together", "medians": medians, "seeds": seeds}
        write("reconstruction-together.json", result | environment())


if __name__ == "__main__":
    main()
