"""Rows of the comparisons of complex and real networks: one JSON a seed, the table of medians, and trade-off curves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from common import RESULTS, environment, write
from complex_path import Recipe, choose, train_dense, walk
from mnist import Data
from rows import spread

import pyrosparse as ps
from pyrosparse import models

PAPER = (
    "40 dense, 75 sparsifying and 40 fine-tuning epochs, an own run for each KL weight; here one path of KL weights",
    "learning rate 1e-3, ×0.1 at epoch 10, for means and variances alike; here 2e-3 and 5e-2, a cosine for each step",
    "log σ² begins at −10; here at −6",
    "weights are kept at log α ≤ −½; here at the thresholds above",
)


@dataclass(frozen=True)
class Row:
    """One network with one method on one kind of data.

    :param network: its name in the zoo, and ``args`` what it is built with.
    :param data: what the network reads, in words.
    :param method: a name of :data:`complex_path.PRIORS`.
    :param rates: compressions of which the table speaks.
    """

    network: str
    args: Mapping[str, Any]
    data: str
    method: str
    rates: tuple[float, ...]
    path: Recipe = field(default_factory=Recipe)


def is_of(found: Mapping[str, Any], row: Row) -> bool:
    """Whether a seed's JSON has the recipe of a row; a field that came later had its default then."""
    then = found["recipe"] | {"path": asdict(Recipe(**found["recipe"]["path"]))}
    return bool(json.loads(json.dumps(then)) == json.loads(json.dumps(asdict(row))))


@dataclass(frozen=True)
class Study:
    """The rows of one script.

    :param name: of the script, and of its results.
    :param load: gives the data of a row.
    :param splits: how they are split, for the JSON.
    :param seeds: of the rows' tables; each has its own, because a recipe that is changed gets new ones.
    :param trials: what the test set was asked before, of other seeds, in words.
    :param bars: test error above the dense network's, at most, at each rate of a row.
    """

    name: str
    rows: Mapping[str, Row]
    load: Callable[[Row], Data]
    splits: Mapping[str, Any]
    seeds: Mapping[str, tuple[int, ...]]
    trials: tuple[str, ...] = ()
    bars: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    def run_seed(self, name: str, seed: int, *, test: bool) -> dict[str, Any]:
        """One seed of one row; the test set is looked at once, at the end, and not at all in tuning."""
        row = self.rows[name]
        path = RESULTS / f"{self.name}-{name}-seed{seed}.json"
        if test and path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            if is_of(found, row):
                return found
        torch.set_num_threads(1)
        data = self.load(row)
        torch.manual_seed(seed)
        network = models.build(row.network, **row.args)
        key = json.dumps([row.network, row.args, row.data, seed])
        dense, dense_seconds = train_dense(network, data, row.path, key=key)
        dense_error = ps.evaluate(dense, data.val).error
        print(f"{name} seed {seed}: dense val {100 * dense_error:.2f} %, {dense_seconds:.0f} CPU s", flush=True)
        points, spent = walk(dense, row.method, data, row.path, name=f"{self.name}-{name}-seed{seed}", key=key)
        chosen = {rate: point for rate in row.rates if (point := choose(points, rate)) is not None}
        result: dict[str, Any] = {
            "row": name,
            "seed": seed,
            "recipe": asdict(row),
            "splits": self.splits,
            "otherwise_than_the_paper": PAPER,
            "parameters": sum(p.numel() for p in dense.parameters()),
            "cpu_seconds": round(dense_seconds + sum(spent["cpu_seconds"].values()), 1),
            "spent": spent,
            "dense": {"val_error": dense_error},
            "curve": [point.figures() for point in points],
            "chosen": {f"{rate:g}": point.figures() for rate, point in chosen.items()},
            **environment(),
        }
        if test:
            # the one look at the test set, after everything has been decided
            result["dense"]["test_error"] = ps.evaluate(dense, data.test).error
            for rate, point in chosen.items():
                result["chosen"][f"{rate:g}"]["test_error"] = {
                    when: ps.evaluate(pruned.network, data.test).error
                    for when, pruned in (("before", point.before), ("after", point.after))
                }
            write(path.name, result)
        return result

    def table_of(self, name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
        """Medians over seeds at each rate, and whether what was asked is met."""
        dense = [r["dense"]["test_error"] for r in results]
        rates: dict[str, Any] = {}
        for key in (f"{rate:g}" for rate in results[0]["recipe"]["rates"]):
            found = [r["chosen"][key] for r in results if key in r["chosen"]]
            if len(found) < len(results):
                rates[key] = {"seeds_that_missed_it": len(results) - len(found)}
                continue
            above = [p["test_error"]["after"] - d for p, d in zip(found, dense, strict=True)]
            rates[key] = {
                "rate": spread([p["rate"] for p in found]),
                "before": spread([p["test_error"]["before"] for p in found]),
                "after": spread([p["test_error"]["after"] for p in found]),
                "above_dense": spread(above),
            }
        verdict = []
        for rate, at_most in self.bars.get(name, {}).items():
            measured = rates.get(f"{rate:g}", {}).get("above_dense", {}).get("median")
            met = measured is not None and measured <= at_most
            verdict.append({"rate": rate, "above_dense_at_most": at_most, "above_dense": measured, "met": met})
        first = {key: results[0][key] for key in ("recipe", "splits", "otherwise_than_the_paper", "parameters")}
        return {
            "row": name,
            "seeds": [r["seed"] for r in results],
            **first,
            "dense": {"test_error": spread(dense)},
            "rates": rates,
            "cpu_seconds": spread([r["cpu_seconds"] for r in results]),
            "verdict": verdict,
            **environment(),
        }

    def main(self, description: str) -> None:
        """Run rows and seeds, one JSON each, then the table of medians."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--rows", nargs="+", default=list(self.rows), choices=list(self.rows), metavar="ROW")
        parser.add_argument("--seeds", nargs="+", type=int, help="those of the row's table, if not given")
        parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
        options = parser.parse_args()
        for name in options.rows:
            results = [self.run_seed(name, seed, test=not options.tune) for seed in options.seeds or self.seeds[name]]
            if not options.tune:
                write(f"{self.name}-{name}.json", self.table_of(name, results))
