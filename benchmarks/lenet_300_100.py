"""MNIST, LeNet-300-100: weights and bytes that Sparse VD and ARD need, without and with aids.

python benchmarks/lenet_300_100.py [--rows plain aided ard] [--seeds 40 41 42] [--tune]
"""

from __future__ import annotations

import argparse

from common import environment, write
from compression import Recipe, finished, run_seed
from rows import row_of

ROWS = {
    "plain": Recipe("lenet_300_100", threshold=1.0),
    "aided": Recipe(
        "lenet_300_100",
        shift=1,
        teacher_epochs=6,
        threshold=0.0,
        aids=("pixel shifts of ±1", "soft labels of one dense LeNet-5, weight 0.7, temperature 2"),
    ),
    "ard": Recipe("lenet_300_100", prior="ARD", tolerance=0.0005),
}
# what was asked of the network that is read back from its file: figure, at least, at most this test error
BARS = {
    "plain": {"weights": ("params", 68, 0.0192), "bytes": ("ratio", 200, 0.0192)},
    "aided": {"weights": ("params", 120, 0.018), "bytes": ("ratio", 350, 0.018)},
    "ard": {},
}


def main() -> None:
    """Run rows and seeds, one JSON each, then the table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[40, 41, 42])
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
    options = parser.parse_args()
    for row in options.rows:
        name = f"lenet_300_100-{row}"
        results = [
            (None if options.tune else finished(ROWS[row], seed, name))
            or run_seed(ROWS[row], seed, name, test=not options.tune)[0]
            for seed in options.seeds
        ]
        if not options.tune:
            table = row_of(results, BARS[row])
            write(f"{name}.json", table | {"claim": "MNIST, LeNet-300-100", **environment()})


if __name__ == "__main__":
    main()
