"""Wall time of whole Sparse VD runs, with and without live shrinking, of deterministic training for as many epochs.

The run is that of a compression table: dense training, a cut where the recipe has one, the fit, the pruning; its
fine-tuning through rounding is left out, since the points that are asked for are counts of weights. After each of its
epochs some steps of deterministic training of the whole network, and of the same fit without shrinking, are timed.
Their steps take the same time throughout, so that a whole run of theirs is so many steps; each epoch of the fit is
compared with the steps that were timed right after it.

    python benchmarks/wall_time.py [--rows lenet_300_100 lenet_5_caffe] [--seeds 40 41 42] [--tune]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from by_hand import deterministic
from common import environment, write
from compression import Recipe, options_of, pair_of, prune_to
from lenet_5_caffe import FIRST
from lenet_300_100 import ROWS
from mnist import load_data, pretrained, train_teacher
from precut import precut
from rows import spread
from step_profile import Step, step_of
from torch import Tensor

import pyrosparse as ps
from pyrosparse import models, priors

PLAIN = replace(ROWS["plain"], epochs=100)
RECIPES = {
    "lenet_300_100": PLAIN,
    # its seeds are 43 to 45: on 40 to 42 a cut to 300-60-30 and all of the KL had 2.07 % at 96 times fewer weights
    "lenet_300_100-cut": replace(
        PLAIN,
        precut=(80, 40),
        peak=0.9,
        settle_value=0.9,
        aids=("cut to 400-80-40 inputs and units before the fit", "KL weight of fc1 0.9"),
    ),
    "lenet_5_caffe": FIRST,
}
INPUTS = {"lenet_300_100-cut": 400}  # of 784 pixels, by the rule of the units
# weights over those that are left, at most this test error: Molchanov et al. (2017), table 1
POINTS = {"lenet_300_100": (68, 0.0192), "lenet_300_100-cut": (68, 0.0192), "lenet_5_caffe": (280, 0.0085)}
STEPS = 20  # timed after an epoch


@dataclass
class Clock:
    """Milliseconds of steps between the epochs of a fit, and the fit's own seconds."""

    dense: Step
    whole: Step
    batches: Iterator[tuple[Tensor, Tensor]]
    dense_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    alive: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def __call__(self, state: Any) -> None:
        """An epoch of the fit is over."""
        last = state.history[-1]
        self.epoch_seconds.append(time.perf_counter() - self.began)
        self.step_ms.append(last["step_ms"])
        self.alive.append(last["dense_rate"])
        self.dense_ms.append(self._time(self.dense))
        self.whole_ms.append(self._time(self.whole))
        if state.epoch % 10 == 0:
            print(
                f"  epoch {state.epoch:3d}  fit {self.step_ms[-1]:5.2f} ms  unshrunk {self.whole_ms[-1]:5.2f} ms  "
                f"deterministic {self.dense_ms[-1]:5.2f} ms  dense ×{self.alive[-1]:.0f}  "
                f"val {100 * last['val_error']:.2f} %",
                flush=True,
            )
        self.began = time.perf_counter()

    def _time(self, step: Step) -> float:
        batches = [next(self.batches) for _ in range(STEPS)]
        start = time.perf_counter()
        for x, y in batches:
            step(x, y)
        return 1000 * (time.perf_counter() - start) / STEPS


def endless(loader: ps.data.TensorLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without an end."""
    while True:
        yield from loader


def run_seed(name: str, recipe: Recipe, seed: int, *, test: bool) -> dict[str, Any]:
    """One seed."""
    teacher = train_teacher(recipe.teacher_epochs)[0] if recipe.teacher_epochs else None
    data = load_data(recipe.shift)
    taught = data.train if teacher is None else data.train.soften(teacher, weight=recipe.teacher_weight)
    torch.manual_seed(seed)
    began = time.perf_counter()
    dense = pretrained(recipe.network, data, recipe.pretrain_epochs)
    start = precut(dense, taught, data, recipe, INPUTS.get(name)) if recipe.precut else dense
    before = time.perf_counter() - began
    weights = sum(p.numel() for n, p in dense.named_parameters() if n.endswith("weight"))
    original = sum(p.numel() for p in dense.parameters())
    model, guide = pair_of(start, data, recipe)
    clock = Clock(
        deterministic(models.build(recipe.network), fused=True),
        step_of(deepcopy(start), priors.LogUniform, data.train),
        endless(data.train),
    )
    ps.fit(model, guide, taught, progress=False, callbacks=(clock,), **options_of(data, recipe))
    began = time.perf_counter()
    pruned = prune_to(model, guide, original, threshold=recipe.threshold, val_loader=data.val)
    after = time.perf_counter() - began
    steps = len(data.train)
    dense_epoch = steps * statistics.median(clock.dense_ms) / 1000
    # epochs of deterministic training that the run took, each beside the steps that were timed after it
    shrunk = [s / (steps * ms / 1000) for s, ms in zip(clock.epoch_seconds, clock.dense_ms, strict=True)]
    whole = [w / ms for w, ms in zip(clock.whole_ms, clock.dense_ms, strict=True)]
    around = (before + after) / dense_epoch
    epochs = recipe.pretrain_epochs + recipe.epochs
    quarter = recipe.epochs // 4
    last = [s / ms for s, ms in zip(clock.step_ms[-quarter:], clock.dense_ms[-quarter:], strict=True)]
    return {
        "seed": seed,
        "epochs": epochs,
        "seconds": {
            "deterministic": epochs * dense_epoch,
            "with_shrinking": before + sum(clock.epoch_seconds) + after,
            "without_shrinking": before + recipe.epochs * steps * statistics.median(clock.whole_ms) / 1000 + after,
        },
        "of_deterministic": {
            "with_shrinking": (around + sum(shrunk)) / epochs,
            "without_shrinking": (around + sum(whole)) / epochs,
            "first_epoch_step": clock.step_ms[0] / clock.dense_ms[0],
            "last_quarter_step": statistics.median(last),
        },
        "curve": {
            "step_of_deterministic": [round(s / d, 3) for s, d in zip(clock.step_ms, clock.dense_ms, strict=True)],
            "dense_rate": [round(rate, 2) for rate in clock.alive],
        },
        "params": weights / pruned.nonzero,
        "val_error": pruned.report.error,
        "test_error": ps.evaluate(pruned.network, data.test).error if test else None,
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[40, 41, 42])
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for name in options.rows:
        recipe = RECIPES[name]
        results = []
        for seed in options.seeds:
            result = run_seed(name, recipe, seed, test=not options.tune)
            of = ", ".join(f"{key} {value:.2f}" for key, value in result["of_deterministic"].items())
            print(
                f"{name} seed {seed}: {of}; {result['params']:.0f} times fewer weights at val "
                f"{100 * result['val_error']:.2f} %",
                flush=True,
            )
            results.append(result)
        if options.tune:
            continue
        ratios = {key: spread([r["of_deterministic"][key] for r in results]) for key in results[0]["of_deterministic"]}
        params, error = (spread([r[key] for r in results]) for key in ("params", "test_error"))
        fewer, at_most = POINTS[name]
        write(
            f"wall_time-{name}.json",
            {
                "claim": "wall time of a whole run, of deterministic training for as many epochs",
                "network": recipe.network,
                "recipe": asdict(recipe),
                "seeds": options.seeds,
                "denormals": "flushed to zero",
                "of_deterministic": ratios,
                "seconds": {k: spread([r["seconds"][k] for r in results]) for k in results[0]["seconds"]},
                "params": params,
                "test_error": error,
                "verdict": {
                    "point": params["median"] >= fewer and error["median"] <= at_most,
                    "whole_run": ratios["with_shrinking"]["median"] <= 1.0,
                    "last_quarter": ratios["last_quarter_step"]["median"] <= 0.35,
                    "first_epoch": ratios["first_epoch_step"]["median"] <= 2.3,
                },
                "runs": results,
                **environment(),
            },
        )


if __name__ == "__main__":
    main()
