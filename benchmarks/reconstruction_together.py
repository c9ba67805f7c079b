"""Linear reconstruction with Sparse VD and with the group horseshoe, against each alone: bytes at equal error.

Five rows start from the same dense LeNet-300-100: reconstruction; Sparse VD; reconstruction, then Sparse VD; group
horseshoe (GHS); GHS, then reconstruction. Each ends in the same way: a few cuts of the row are trained through
their own rounding at a few steps, and the smallest file is taken whose validation error is at most that of the dense
network plus 0.002. Where none is, the one of the lowest error is taken, and the row says so. The test set is looked
at once, when every row of every seed has been decided.

A layer's step is c times the median posterior standard deviation of its kept weights. Least squares has no posterior:

- after GHS, a reconstructed layer keeps the median of the layer that it was made from, so that its step is that of GHS
  for the same c;
- for reconstruction alone, c times the root mean square of the layer's weights is the step.

In both, as everywhere, c is chosen on validation data.

A row of a seed that is finished is read back from the cache, and so are the fits of one that is not.

    python benchmarks/reconstruction_together.py [--seeds 50 51 52] [--epochs 50] [--tune]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from common import CACHE, environment, write
from mnist import Data, load_data, pretrained
from reconstruction_rows import ALONE, ROWS, Ending, Recipe, Start
from rows import Spread, spread

import pyrosparse as ps
from pyrosparse.coding import encoded_size, quantise, quantise_aware
from pyrosparse.pruning import Pruned


def run_row(row: str, seed: int, recipe: Recipe, start: Callable[[], Start]) -> dict[str, Any]:
    """Decide one row of one seed, or read it back."""
    path = _path(row, seed)
    key = json.loads(json.dumps(asdict(recipe)))
    if path.with_suffix(".json").exists():
        found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        if found["recipe"] == key:
            return found
    shared = start()
    dense_error = ps.evaluate(shared.dense, shared.data.val).error
    bound = dense_error + recipe.tolerance
    print(f"{row}, seed {seed}: dense val {100 * dense_error:.2f} %", flush=True)
    torch.manual_seed(seed)
    cpu = time.process_time()
    candidates, ending, fit_seconds = ROWS[row](shared)
    if fit_seconds:  # earlier runs of the fit count too; to make its cuts costs little beside it
        cpu = time.process_time() - fit_seconds
    choices = [made for title, cut in candidates for made in endings(title, cut, ending, shared.data)]
    fitting = [made for made in choices if made[0]["val_error"] <= bound]
    made, final = min(fitting, key=_size) if fitting else min(choices, key=_error)
    info = ps.save(path, final, c=made["c"])
    result = {
        "row": row,
        "seed": seed,
        "recipe": key,
        "dense_val_error": dense_error,
        "within": bool(fitting),
        **made,
        "bytes": info.bytes,
        "file": 4 * shared.parameters / info.bytes,
        "val_error": ps.evaluate(ps.load(path), shared.data.val).error,
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "choices": [one for one, _ in choices],
    }
    path.with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False))
    print(_line(result), flush=True)
    return result


def endings(title: str, cut: Pruned, ending: Ending, data: Data) -> list[tuple[dict[str, Any], Pruned]]:
    """Train one cut through its rounding at each step."""
    found = []
    for c in ending.steps:
        options = {"epochs": ending.epochs, "lr": ending.lr, "val_loader": data.val, "progress": False}
        rounded = quantise_aware(cut, data.train, c=c, **options)
        stored = quantise(rounded, c).network  # what a reader of the file gets: biases are rounded too
        made = {
            "cut": title,
            "c": c,
            "bytes": encoded_size(rounded, c=c),
            "val_error": ps.evaluate(stored, data.val).error,
        }
        print(f"  {title}, c {c:g}: {made['bytes']} bytes, val {100 * made['val_error']:.2f} %", flush=True)
        found.append((made, rounded))
    return found


def run_seed(seed: int, recipe: Recipe, rows: Sequence[str]) -> list[dict[str, Any]]:
    """All rows of one seed; without the test set."""
    made: list[Start] = []

    def start() -> Start:
        if not made:
            data = load_data(0)
            torch.manual_seed(seed)
            made.append(Start(seed, pretrained("lenet_300_100", data, recipe.pretrain_epochs), data, recipe))
        return made[0]

    return [run_row(row, seed, recipe, start) for row in rows]


def table_of(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Spread over seeds of each row."""
    keys = ("bytes", "file", "val_error", "test_error", "cpu_seconds")
    table: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        own = [r for r in results if r["row"] == row]
        table[row] = {key: spread([r[key] for r in own]) for key in keys} | {"within": all(r["within"] for r in own)}
    return table


def gains(results: list[dict[str, Any]]) -> dict[str, dict[str, Spread]]:
    """How many times smaller the file of both together is than that of each alone, seed by seed."""
    size = {(r["row"], r["seed"]): r["bytes"] for r in results}
    seeds = sorted({r["seed"] for r in results})
    return {
        both: {one: spread([size[one, seed] / size[both, seed] for seed in seeds]) for one in alone}
        for both, alone in ALONE.items()
    }


def _path(row: str, seed: int) -> Path:
    CACHE.mkdir(exist_ok=True)
    return CACHE / f"reconstruction-together-{row.replace(', ', '-then-')}-seed{seed}.psz"


def _size(choice: tuple[dict[str, Any], Pruned]) -> tuple[float, float]:
    return choice[0]["bytes"], choice[0]["val_error"]


def _error(choice: tuple[dict[str, Any], Pruned]) -> tuple[float, float]:
    return choice[0]["val_error"], choice[0]["bytes"]


def _line(result: dict[str, Any]) -> str:
    return (
        f"{result['row']}, seed {result['seed']}: {result['bytes']} bytes, {result['file']:.0f} times smaller, "
        f"{result['cut']}, c {result['c']:g}, val {100 * result['val_error']:.2f} % "
        f"({'within' if result['within'] else 'not within'} the tolerance), {result['cpu_seconds']:.0f} CPU s"
    )


def main() -> None:
    """Run, print and write medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[50, 51, 52])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), help="only with --tune")
    parser.add_argument("--epochs", type=int, default=50, help="of each fit")
    parser.add_argument("--ending", type=int, default=6, help="epochs of training through the rounding")
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write no table")
    options = parser.parse_args()
    if not options.tune and options.rows != list(ROWS):
        parser.error("a table has all rows: --rows goes with --tune")
    torch.set_num_threads(1)
    recipe = Recipe.of(epochs=options.epochs, ending=options.ending)
    results = [result for seed in options.seeds for result in run_seed(seed, recipe, options.rows)]
    for result in results:
        print(_line(result))
    if options.tune:
        return
    test = load_data(0).test  # the one look at the test set, after everything has been decided
    for result in results:
        result["test_error"] = ps.evaluate(ps.load(_path(result["row"], result["seed"])), test).error
    table, compared = table_of(results), gains(results)
    for row, figures in table.items():
        print(row, figures)
    print("times smaller together than alone:", compared)
    result = {"claim": "reconstruction with Sparse VD and with GHS", "recipe": asdict(recipe), "rows": table}
    write("reconstruction-together.json", result | {"gains": compared, "seeds": results, **environment()})


if __name__ == "__main__":
    main()
