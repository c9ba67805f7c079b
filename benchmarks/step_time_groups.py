"""Milliseconds a step of the group methods on LeNet-300-100, against deterministic training with the same optimiser.

All variants in one process and in turn over as many images as MNIST has, as in step_time.py; nothing is shrunk. "By
hand" is the form of the published code in plain torch with plain Adam, see by_hand.py.

    python benchmarks/step_time_groups.py [--rounds 5] [--steps 468] [--batch 128]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import by_hand
import torch
from by_hand import deterministic, step_of
from common import environment, write
from torch import nn

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
    "L0, point weights": lambda: priors.L0(per_example=False),
    "L0, gates for each example": priors.L0,
    "L0, Gaussian weights": lambda: priors.L0(slab="normal"),
}
BY_HAND: dict[str, type[nn.Module]] = {
    "Sparse VD by hand": by_hand.SparseVD,
    "group Normal-Jeffreys by hand": by_hand.GroupNormalJeffreys,
    "L0 by hand": by_hand.L0,
}
# what was asked: at most so many times the deterministic step, or the step by hand
BARS = {
    "group Normal-Jeffreys": ("deterministic, fused Adam", 2.2),
    "group Normal-Jeffreys, of that by hand": ("group Normal-Jeffreys by hand", 0.6),
    "L0, point weights": ("deterministic, fused Adam", 1.2),
}


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
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    count = options.batch * options.steps
    loader = ps.data.TensorLoader(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)), options.batch)

    def over(step: by_hand.Step) -> Callable[[], None]:
        def epoch() -> None:
            for x, y in loader:
                step(x, y)

        return epoch

    epochs = {"deterministic, fused Adam": over(deterministic(models.lenet_300_100(), fused=True))}
    epochs |= {name: over(step_of(models.lenet_300_100(), layer, count)) for name, layer in BY_HAND.items()}
    epochs |= {name: epoch_of(make(), loader) for name, make in PRIORS.items()}
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _round in range(options.rounds + 1):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            times[name].append(1000 * (time.perf_counter() - start) / options.steps)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    # a ratio a round, then its median: what else the machine does hits both

    def ratio(name: str, to: str) -> float:
        return statistics.median(t / b for t, b in zip(times[name][1:], times[to][1:], strict=True))

    ratios = {name: ratio(name, "deterministic, fused Adam") for name in times}
    measured = {claim: ratio(claim.split(", of")[0], to) for claim, (to, _most) in BARS.items()}
    for name in epochs:
        print(f"{name:28s} {medians[name]:6.2f} ms  {ratios[name]:5.2f} of deterministic")
    write(
        "step_time_groups.json",
        {
            "claim": "step time of the group methods, LeNet-300-100, one thread",
            "batch": options.batch,
            "denormals": "flushed to zero",
            "rounds": options.rounds,
            "ms": medians,
            "of_deterministic": ratios,
            "verdict": [
                {"claim": claim, "to": to, "asked": most, "measured": measured[claim], "met": measured[claim] <= most}
                for claim, (to, most) in BARS.items()
            ],
            **environment(),
        },
    )


if __name__ == "__main__":
    main()
