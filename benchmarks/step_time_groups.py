"""Milliseconds a step of the group methods on LeNet-300-100, against deterministic training with the same optimiser.

All variants in one process and in turn over as many images as MNIST has, as in step_time.py; nothing is shrunk.

    python benchmarks/step_time_groups.py [--rounds 5] [--steps 468] [--batch 128]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import environment, write
from step_time import deterministic

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.infer.progress import Bar
from pyrosparse.infer.run import Run
from pyrosparse.infer.settings import FitSettings
from pyrosparse.poutine.parameters import unexposed

PRIORS: dict[str, Callable[[], priors.Prior]] = {
    "Sparse VD": priors.LogUniform,
    "group Normal-Jeffreys": priors.GroupLogUniform,
    "group horseshoe": priors.GroupHorseshoe,
    "L0, point weights": priors.L0,
    "L0, Gaussian weights": lambda: priors.L0(slab="normal"),
}
# what was asked: at most so many times the deterministic step
BARS = {"group Normal-Jeffreys": 2.2, "L0, point weights": 1.2}


def epoch_of(prior: priors.Prior, loader: ps.data.TensorLoader) -> Callable[[], None]:
    """One epoch of `fit`."""
    model = ps.SparseModel(models.lenet_300_100(), prior, ps.likelihoods.Categorical(num_data=loader.num_data))
    settings = FitSettings(epochs=10**6, device="cpu", shrink_every=0, progress=False)
    run = Run(model, guides.AutoSparse(model, log_var=-4.0), loader, None, settings)
    bar = Bar("fit", 1, show=False)

    def epoch() -> None:
        with unexposed():
            run.epoch(bar)

    return epoch


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=468)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    count = options.batch * options.steps
    loader = ps.data.TensorLoader(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)), options.batch)
    step = deterministic(models.lenet_300_100(), fused=True)

    def plain() -> None:
        for x, y in loader:
            step(x, y)

    epochs = {"deterministic, fused Adam": plain} | {name: epoch_of(make(), loader) for name, make in PRIORS.items()}
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _round in range(options.rounds + 1):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            times[name].append(1000 * (time.perf_counter() - start) / options.steps)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    # a ratio a round, then its median: what else the machine does hits both
    base = times["deterministic, fused Adam"]
    ratios = {
        name: statistics.median(t / b for t, b in zip(values[1:], base[1:], strict=True))
        for name, values in times.items()
    }
    for name in epochs:
        print(f"{name:28s} {medians[name]:6.2f} ms  {ratios[name]:5.2f} of deterministic")
    write(
        "step_time_groups.json",
        {
            "claim": "step time of the group methods, LeNet-300-100, one thread",
            "batch": options.batch,
            "rounds": options.rounds,
            "ms": medians,
            "of_deterministic": ratios,
            "verdict": [
                {"claim": name, "asked": most, "measured": ratios[name], "met": ratios[name] <= most}
                for name, most in BARS.items()
            ],
            **environment(),
        },
    )


if __name__ == "__main__":
    main()
