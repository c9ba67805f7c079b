"""Linear reconstruction with Sparse VD and with the group horseshoe, against each alone: bytes at equal error.

Five rows start from the same dense LeNet-300-100: reconstruction; Sparse VD; reconstruction, then Sparse VD; group
horseshoe (GHS); GHS, then reconstruction. Each ends in the same way: cuts of the row are trained through their own
rounding at a few steps, and the smallest file is taken whose validation error is at most 2.3 %, a level that is the
same for every row and seed. Nothing is interpolated: the errors of the files that are compared are at or below the
level, and are written down seed by seed. A grid of cuts or steps grows while the choice is at one of its ends; where it
still is after as many widenings as are allowed, ``edges`` says so. Where no file is within the level, the one of the
lowest error is taken, and ``within`` says so. The test set is looked at once, when every row of every seed has been
decided.

A layer's step is c times the median posterior standard deviation of its kept weights. Least squares has no posterior:
after GHS, a reconstructed layer keeps the median of the layer that it was made from; for reconstruction alone, the unit
is an eighth of the root mean square of the layer's weights.

A row of a seed that is finished is read back from the cache, and so are the fits of one that is not.

    python benchmarks/reconstruction_together.py [--seeds 50 51 52] [--epochs 50] [--tune]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
    print(f"{row}, seed {seed}: dense val {100 * dense_error:.2f} %", flush=True)
    torch.manual_seed(seed)
    cpu = time.process_time()
    cut, ending, fit_seconds = ROWS[row](shared)
    if fit_seconds:  # earlier runs of the fit count too; to make its cuts costs little beside it
        cpu = time.process_time() - fit_seconds
    choices = Choices(cut, ending, shared.data, recipe.level)
    made, final = choices.widened(recipe.widenings)
    info = ps.save(path, final, c=made["c"])
    result = {
        "row": row,
        "seed": seed,
        "recipe": key,
        "dense_val_error": dense_error,
        "within": made["val_error"] <= recipe.level,
        "edges": choices.edges(made),
        **made,
        "bytes": info.bytes,
        "file": 4 * shared.parameters / info.bytes,
        "val_error": ps.evaluate(ps.load(path), shared.data.val).error,
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "choices": [one for one, _ in choices.made.values()],
    }
    path.with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False))
    print(_line(result), flush=True)
    return result


class Choices:
    """Every file that a row can choose from, made when it is first looked at.

    :param cut: makes the network at a value of the grid of cuts.
    :param ending: both grids, and how long to train through the rounding.
    :param level: validation error that a file may have.
    """

    def __init__(self, cut: Callable[[float], Pruned], ending: Ending, data: Data, level: float) -> None:
        self.cut, self.ending, self.data, self.level = cut, ending, data, level
        self.cuts, self.steps = list(ending.cuts), list(ending.steps)
        self.networks: dict[float, Pruned] = {}
        self.made: dict[tuple[float, float], tuple[dict[str, Any], Pruned]] = {}

    def widened(self, times: int) -> tuple[dict[str, Any], Pruned]:
        """Choose, and let grids grow where the choice is at an end, until it is not or they have grown often enough."""
        chosen = self.choose()
        for _ in range(times):
            edges = self.edges(chosen[0])
            if not edges:
                break
            for edge in edges:
                _grow(self.cuts if edge.endswith("cut") else self.steps, up=edge.startswith("largest"))
            chosen = self.choose()
        return chosen

    def choose(self) -> tuple[dict[str, Any], Pruned]:
        """Choose the smallest file within the level, or the one of the lowest error where there is none."""
        found = [self.at(cut, c) for cut in self.cuts for c in self.steps]
        fitting = [one for one in found if one[0]["val_error"] <= self.level]
        return min(fitting, key=_size) if fitting else min(found, key=_error)

    def edges(self, made: dict[str, Any]) -> list[str]:
        """Ends of the grids that a choice is at."""
        grids = {"cut": self.cuts, "c": self.steps}
        smallest = [f"smallest {key}" for key, grid in grids.items() if made[key] == grid[0]]
        return smallest + [f"largest {key}" for key, grid in grids.items() if made[key] == grid[-1]]

    def at(self, cut: float, c: float) -> tuple[dict[str, Any], Pruned]:
        """Train one cut through its rounding at one step."""
        if (cut, c) not in self.made:
            if cut not in self.networks:
                self.networks[cut] = self.cut(cut)
            options = {"epochs": self.ending.epochs, "lr": self.ending.lr, "val_loader": self.data.val}
            rounded = quantise_aware(self.networks[cut], self.data.train, c=c, progress=False, **options)
            stored = quantise(rounded, c).network  # what a reader of the file gets: biases are rounded too
            error = ps.evaluate(stored, self.data.val).error
            made = {"cut": cut, "c": c, "bytes": encoded_size(rounded, c=c), "val_error": error}
            print(f"  cut {cut:g}, c {c:g}: {made['bytes']} bytes, val {100 * error:.2f} %", flush=True)
            self.made[cut, c] = made, rounded
        return self.made[cut, c]


def _grow(grid: list[float], *, up: bool) -> None:
    """Add a value at one end of a geometric grid."""
    if up:
        grid.append(float(f"{grid[-1] * grid[-1] / grid[-2]:.3g}"))
    else:
        grid.insert(0, float(f"{grid[0] * grid[0] / grid[1]:.3g}"))


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
        table[row] = {key: spread([r[key] for r in own]) for key in keys} | {
            "within": all(r["within"] for r in own),
            "edges": sorted({edge for r in own for edge in r["edges"]}),
            "by_seed": {r["seed"]: {key: r[key] for key in keys} for r in own},
        }
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
        f"cut {result['cut']:g}, c {result['c']:g}, val {100 * result['val_error']:.2f} % "
        f"({'within' if result['within'] else 'not within'} the level), {result['cpu_seconds']:.0f} CPU s"
    )


def main() -> None:
    """Run, print and write medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[50, 51, 52])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), help="only with --tune")
    parser.add_argument("--epochs", type=int, default=50, help="of each fit")
    parser.add_argument("--ending", type=int, default=6, help="epochs of training through the rounding")
    parser.add_argument("--widenings", type=int, default=4, help="how often a grid may grow")
    parser.add_argument("--out", default="reconstruction-together.json")
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write no table")
    options = parser.parse_args()
    if not options.tune and options.rows != list(ROWS):
        parser.error("a table has all rows: --rows goes with --tune")
    torch.set_num_threads(1)
    recipe = replace(Recipe.of(epochs=options.epochs, ending=options.ending), widenings=options.widenings)
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
    write(options.out, result | {"gains": compared, "seeds": results, **environment()})


if __name__ == "__main__":
    main()
