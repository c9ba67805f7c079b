"""Dense networks trained for as long as the paths of the comparisons: whether what a path gains is only its length.

The dense network that a path starts from has had fewer epochs than what comes out of it. Here the same network, from
the same start, has those of the whole path and of a fine-tuning; nothing is chosen.

    python benchmarks/complex_long.py [--rows conv-fft-C-VD …] [--seeds 44 45 46]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import torch
from common import environment, write
from complex_mnist import STUDY as MNIST
from complex_path import train_dense
from complex_twins import STUDY as TWINS
from rows import spread

import pyrosparse as ps
from pyrosparse import models

ROWS = {
    name: study
    for study, names in (
        (MNIST, ("dense-fft-C-VD", "conv-fft-C-VD")),
        (TWINS, ("flevoland-C-complex", "flevoland-2R-complex", "fsdd-C-complex", "fsdd-2R-complex")),
    )
    for name in names
}


def main() -> None:
    """Train, look at the test set once, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, help="those of the row's table, if not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.rows:
        row = ROWS[name].rows[name]
        epochs = row.path.dense_epochs + row.path.ends[-1] + row.path.tune_epochs
        runs: list[dict[str, Any]] = []
        for seed in options.seeds or ROWS[name].seeds[name]:
            data = ROWS[name].load(row)
            torch.manual_seed(seed)
            network = models.build(row.network, **row.args)
            key = json.dumps([row.network, row.args, row.data, seed])
            dense, seconds = train_dense(network, data, replace(row.path, dense_epochs=epochs), key=key)
            errors = {part: ps.evaluate(dense, getattr(data, part)).error for part in ("val", "test")}
            runs.append(
                {"seed": seed, "val_error": errors["val"], "test_error": errors["test"], "cpu_seconds": seconds}
            )
            print(f"{name} seed {seed}: {epochs} epochs, val {100 * errors['val']:.2f} %", flush=True)
        test = spread([run["test_error"] for run in runs])
        result = {"claim": "dense networks trained for as long as a path", "row": name, "epochs": epochs}
        write(f"complex_long-{name}.json", result | {"test_error": test, "runs": runs, **environment()})


if __name__ == "__main__":
    main()
