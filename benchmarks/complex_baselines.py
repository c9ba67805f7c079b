"""Complex weights cut by a posterior, by modulus and by ℓ1 on moduli, each rounded in its own way: error and file.

Radar patches: all start from the dense network of complex_twins.py, and each has as many epochs as the posterior's path
and its fine-tuning together. The posterior's network is the one that complex_twins.py has chosen for its table, made
again from the cache; the others keep as many weights. By modulus: at once, or in rounds with training between them,
the way that loses least. Files: the posterior's is rounded by its deviations, the others by k-means in the plane.

    python benchmarks/complex_baselines.py [--seeds 44 45 46] [--tune]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, environment, write
from complex_path import cut, fit_key, shots_of, train_dense
from complex_rows import is_of
from complex_twins import STUDY
from mnist import Data
from rows import spread
from torch import nn

import pyrosparse as ps
from pyrosparse import models
from pyrosparse.coding.kmeans import kmeans
from pyrosparse.infer import schedules
from pyrosparse.pruning import Pruned, l1_prune, magnitude_prune

ROW = "flevoland-C-complex"
RATES = ("50", "100")


@dataclass(frozen=True)
class Settings:
    """What the baselines depend on; chosen on validation data, on seed 39 (``--tune``).

    :param rounds: cuts of the gradual way, each a like factor smaller.
    :param tune_lr: learning rate after the last cut, half a cosine down to 0.
    :param penalty: λ of ℓ1 in nats an example.
    :param clusters: centres of k-means in each layer.
    """

    rounds: int = 11
    round_lr: float = 1e-3
    tune_lr: float = 1e-2
    l1_lr: float = 1e-2
    penalty: float = 3e-3
    clusters: int = 16


def methods(dense: nn.Module, data: Data, density: float, epochs: tuple[int, int], s: Settings) -> dict[str, Any]:
    """Cut networks by the names of the baselines, each a function that makes it."""
    example, cosine = next(iter(data.val))[0], schedules.cosine(hold=0.0)
    cutting, tuning = epochs

    def tuned(pruned: Pruned, count: int) -> Pruned:
        return ps.fine_tune(
            pruned, data.train, epochs=count, lr=s.tune_lr, lr_schedule=cosine, val_loader=data.val, progress=False
        )

    def at_once() -> Pruned:
        return tuned(magnitude_prune(dense, example, density=density), cutting + tuning)

    def in_rounds() -> Pruned:
        network, pruned = dense, None
        for k in range(1, s.rounds + 1):
            pruned = magnitude_prune(network, example, density=_share(network, dense, density ** (k / s.rounds)))
            if k < s.rounds:
                each = cutting * k // (s.rounds - 1) - cutting * (k - 1) // (s.rounds - 1)  # all of them together
                pruned = ps.fine_tune(pruned, data.train, epochs=each, lr=s.round_lr, progress=False)
            network = pruned.network
        assert pruned is not None
        return tuned(pruned, tuning)

    def l1() -> Pruned:
        found = l1_prune(
            dense,
            data.train,
            penalty=s.penalty,
            epochs=cutting,
            lr=s.l1_lr,
            lr_schedule=cosine,
            density=density,
            progress=False,
        )
        return tuned(found, tuning)

    return {"modulus": at_once, "modulus-in-rounds": in_rounds, "l1": l1}


def _share(network: nn.Module, dense: nn.Module, density: float) -> float:
    """Share of a smaller network's weights that are that share of the dense one's."""
    return min(1.0, density * _numbers(dense) / _numbers(network))


def _numbers(network: nn.Module) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if name.endswith("weight"))


def _kept(network: nn.Module) -> int:
    return sum(int(p.detach().count_nonzero()) for name, p in network.named_parameters() if name.endswith("weight"))


def _file(pruned: Pruned, data: Data, *, test: bool, codebook: int | None = None) -> dict[str, Any]:
    """Bytes of a file, and the error of what is read back from it."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "network.psz"
        written = ps.save(path, pruned, codebook=codebook, val_loader=None if codebook else data.val)
        network = ps.load(path)
    found = {"bytes": written.bytes, "val_error": ps.evaluate(network, data.val).error}
    return found | ({"test_error": ps.evaluate(network, data.test).error} if test else {})


def _row(
    pruned: Pruned, file: dict[str, Any], dense: int, data: Data, seconds: float | None, *, test: bool
) -> dict[str, Any]:
    found = {
        "rate": round(dense / _kept(pruned.network), 1),
        "val_error": ps.evaluate(pruned.network, data.val).error,
        "file": file,
    }
    if seconds is not None:
        found["cpu_seconds"] = round(seconds, 1)
    return found | ({"test_error": ps.evaluate(pruned.network, data.test).error} if test else {})


def run_seed(seed: int, settings: Settings, rates: tuple[str, ...], only: list[str], *, test: bool) -> dict[str, Any]:
    """All methods at all rates; the test set is looked at once for each network, at the end."""
    row, data = STUDY.rows[ROW], STUDY.load(STUDY.rows[ROW])
    recipe = row.path
    torch.manual_seed(seed)
    network = models.build(row.network, **row.args)
    key = json.dumps([row.network, row.args, row.data, seed])
    dense, _ = train_dense(network, data, recipe, key=key)
    numbers, rows = _numbers(dense), {}
    for rate in rates:
        found: dict[str, Any] = {}
        kept = round(numbers / float(rate))
        if test:
            table = json.loads((RESULTS / f"{STUDY.name}-{ROW}-seed{seed}.json").read_text())
            if not is_of(table, row):
                raise SystemExit(f"{ROW}, seed {seed}: the table has another recipe; run complex_twins.py first")
            chosen = table["chosen"][rate]
            step = recipe.ends[recipe.kl_weights.index(chosen["kl_weight"])]
            shot = shots_of(f"{STUDY.name}-{ROW}-seed{seed}", fit_key(row.method, recipe, key=key), recipe)[step]
            torch.manual_seed(seed)
            point = cut(shot, chosen["kl_weight"], chosen["threshold"], data, recipe, dense=dense)
            found["posterior"] = _row(point.after, _file(point.after, data, test=test), numbers, data, None, test=test)
            kept = _kept(point.after.network)
        for name, make in methods(dense, data, kept / numbers, (recipe.ends[-1], recipe.tune_epochs), settings).items():
            if only and name not in only:
                continue
            torch.manual_seed(seed)
            began = time.process_time()
            pruned = make()
            seconds = time.process_time() - began
            books = kmeans(pruned, clusters=settings.clusters)
            file = _file(books.pruned, data, test=test, codebook=settings.clusters)
            found[name] = _row(pruned, file, numbers, data, seconds, test=test)
            print(f"seed {seed} ×{rate} {name}: {found[name]}", flush=True)
        rows[rate] = found
    return {"seed": seed, "rates": rows}


def main() -> None:
    """Run the seeds, write the table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(STUDY.seeds[ROW]))
    parser.add_argument("--rates", nargs="+", default=list(RATES), choices=RATES)
    parser.add_argument("--tune", action="store_true", help="leave posterior and test set alone, write nothing")
    parser.add_argument("--only", nargs="+", default=[], help="names of methods")
    parser.add_argument("--penalty", type=float, default=Settings.penalty)
    parser.add_argument("--tune-lr", type=float, default=Settings.tune_lr)
    options = parser.parse_args()
    if options.only and not options.tune:
        parser.error("--only is for --tune: a table has all methods")
    torch.set_num_threads(1)
    settings = Settings(penalty=options.penalty, tune_lr=options.tune_lr)
    runs = []
    for seed in options.seeds:
        path = RESULTS / f"complex_baselines-seed{seed}.json"
        depends = {"settings": asdict(settings), "rates_asked": options.rates, "recipe": asdict(STUDY.rows[ROW])}
        depends = json.loads(json.dumps(depends))
        if not options.tune and path.exists():
            found = json.loads(path.read_text())
            if all(found.get(key) == value for key, value in depends.items()):
                runs.append(found)
                continue
        run = run_seed(seed, settings, tuple(options.rates), options.only, test=not options.tune)
        if not options.tune:
            runs.append(run | depends | environment())
            write(path.name, runs[-1])
    if options.tune:
        return
    table = {
        rate: {
            name: {
                "rate": spread([r["rates"][rate][name]["rate"] for r in runs]),
                "test_error": spread([r["rates"][rate][name]["test_error"] for r in runs]),
                "bytes": spread([r["rates"][rate][name]["file"]["bytes"] for r in runs]),
                "file_test_error": spread([r["rates"][rate][name]["file"]["test_error"] for r in runs]),
            }
            for name in runs[0]["rates"][rate]
        }
        for rate in options.rates
    }
    result = {"claim": "complex weights: a posterior and its baselines", "row": ROW, "seeds": options.seeds}
    write("complex_baselines.json", result | {"settings": asdict(settings), "rates": table, **environment()})


if __name__ == "__main__":
    main()
