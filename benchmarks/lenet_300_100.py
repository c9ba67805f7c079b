"""MNIST, LeNet-300-100: weights and bytes that Sparse VD and ARD need, without and with aids.

python benchmarks/lenet_300_100.py [--rows plain aided ard] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse

from common import environment, write
from compression import Recipe, medians, run_seed

ROWS = {
    "plain": Recipe("lenet_300_100"),
    "ard": Recipe("lenet_300_100", prior="ARD"),
    "aided": Recipe(
        "lenet_300_100",
        shift=1,
        teacher_epochs=6,
        aids=("pixel shifts of ±1", "soft labels of a dense LeNet-5, weight 0.7, temperature 2"),
    ),
}


def main() -> None:
    """Run rows and seeds, one JSON each, then the table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    for row in options.rows:
        name = f"lenet_300_100-{row}"
        table = medians([run_seed(ROWS[row], seed, name) for seed in options.seeds])
        write(f"{name}.json", {"claim": "MNIST, LeNet-300-100", **table, **environment()})


if __name__ == "__main__":
    main()
