"""MNIST, LeNet-5-Caffe: weights and bytes that Sparse VD needs after one cycle and after two.

All rows use pixel shifts, soft labels and a cut of the dense network to 10-20-250 units before the fit: the full
network's filters die too slowly for a CPU. The second cycle fits the pruned network of the first one again, with
a heavier KL weight in its first half.

    python benchmarks/lenet_5_caffe.py [--seeds 40 41 42] [--tune]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from common import environment, write
from compression import Recipe, finished, run_seed
from precut import precut
from rows import row_of

FIRST = Recipe(
    "lenet_5_caffe",
    epochs=60,
    rounding_epochs=36,
    rounding_lr=1e-2,
    c_grid=(1.0,),
    curve_epochs=0,
    pretrain_epochs=4,
    shift=1,
    teacher_epochs=12,
    teacher_weight=0.5,
    shrink_every=1,
    peak=1.5,
    threshold=0.5,
    next_tolerance=0.0005,
    precut=(10, 20, 250),
    aids=(
        "pixel shifts of ±1",
        "soft labels of one dense LeNet-5, weight 0.5, temperature 2",
        "cut to 10-20-250 units before the fit",
        "KL weight of fc1 up to 1.5 until 0.6 of the run, 1 at its end",
    ),
)
SECOND = replace(
    FIRST,
    peak=3.0,
    settle_value=1.5,
    sites=("conv2.weight", "fc1.weight"),
    threshold=0.0,
    next_tolerance=None,
    aids=(
        *FIRST.aids[:3],
        "a second fit that starts at the pruned network of the first",
        "KL weight of conv2 and fc1 up to 3, and 1.5 at the end: a posterior that is over-weighted by the prior",
    ),
)
# what was asked of the network that is read back from its file: figure, at least, at most this test error
BARS = {"first": {"weights": ("params", 280, 0.0085)}, "second": {"weights": ("params", 450, 0.01)}}


def two_cycles(seed: int, *, tune: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both rows of one seed: the second cycle starts at the pruned network of the first."""
    names = ("lenet_5_caffe-first", "lenet_5_caffe-second")
    if not tune:
        one, two = (finished(r, seed, n) for r, n in zip((FIRST, SECOND), names, strict=True))
        if one and two:
            return one, two
    first, spent = run_seed(FIRST, seed, names[0], prepare=precut, test=not tune)
    return first, run_seed(SECOND, seed, names[1], before=spent, test=not tune)[0]


def main() -> None:
    """Run both cycles for each seed, one JSON each, then the tables of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[40, 41, 42])
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
    options = parser.parse_args()
    pairs = [two_cycles(seed, tune=options.tune) for seed in options.seeds]
    if options.tune:
        return
    for row, results in zip(("first", "second"), zip(*pairs, strict=True), strict=True):
        table = row_of(list(results), BARS[row])
        write(f"lenet_5_caffe-{row}.json", table | {"claim": "MNIST, LeNet-5-Caffe", **environment()})


if __name__ == "__main__":
    main()
