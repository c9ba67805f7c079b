"""Random codes of networks in the table of coders: bytes and errors beside those of the integers.

The posterior of one seed is read back from the cache of the row's own table and goes on as coding_random.py has it, at
a bit for a bit of its KL, on the row's own labels and shifts: all images for LeNet-300-100, 20,000 for LeNet-5.
Nothing is chosen; the test set is looked at once. Rows are kept in the JSON until they are made anew.

    python benchmarks/coding_random_networks.py [--rows "LeNet-5, GHS, seed 46" …]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from coding_posteriors import SOURCES, Source, read_back
from coding_random import BITS, EXAMPLES, measure
from common import RESULTS, environment, write
from mnist import load_data, train_teacher

import pyrosparse as ps
from pyrosparse import coding
from pyrosparse.data import TensorLoader

FILE = "coding_random_networks.json"


def row(name: str, source: Source) -> dict[str, Any]:
    """Fit the codes, write the file, read it back."""
    recipe, data = source.recipe, load_data(0)
    images = data.num_data if recipe.network == "lenet_300_100" else EXAMPLES
    pruned = read_back(source, images, data.train.x[:1])
    known = source.result()
    print(
        f"{name}: {pruned.nonzero:,} weights, val {100 * ps.evaluate(pruned.network, data.val).error:.2f} %", flush=True
    )
    torch.manual_seed(int(source.name.rpartition("seed")[2]))
    train = TensorLoader(data.train.x[:images], data.train.y[:images], 128, shift=recipe.shift)
    if recipe.teacher_epochs:
        train = train.soften(train_teacher(recipe.teacher_epochs)[0], weight=recipe.teacher_weight)
    start = time.process_time()
    coded = coding.random_code(
        pruned, train, bits=BITS, rate=1.0, settle=5, rounds=10, lr=2e-3, lr_log_var=2e-2, progress=False
    )
    seconds = time.process_time() - start
    found = measure(name, coded, data, codec="random-code")
    return found | {
        "weights": pruned.nonzero,
        "images": images,
        "cpu_seconds": round(seconds, 1),
        "integers": {k: known[k] for k in ("bytes", "val_error", "test_error")},
    }


def main() -> None:
    """Write coding_random_networks.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / FILE
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in options.rows:
        rows[name] = row(name, SOURCES[name])
        result = {
            "claim": "random codes of networks in the table of coders",
            "bits_a_block": BITS,
            "rows": {name: rows[name] for name in SOURCES if name in rows},
            **environment(),
        }
        write(FILE, result)


if __name__ == "__main__":
    main()
