"""The protocol that every compression table follows.

Pre-train, fit, prune, end with quantisation, save; thresholds and steps are chosen on validation data (the last
5,000 training images), and the test set is looked at once, after everything has been decided. Recipes are tuned
with ``--tune`` on seeds 0 to 2, which leaves the test set alone; the tables come from other seeds, 40 to 42. One
JSON a seed is written as soon as it is there; the table takes medians over seeds.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cached
import torch
from common import CACHE, RESULTS, environment, write
from mnist import Data, load_data, pretrained, train_teacher
from torch import nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.coding import encoded_size, quantise_aware
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

# what a fit does not depend on: it is read back from the cache when one of these is changed
AFTER_THE_FIT = (
    "threshold", "tolerance", "next_tolerance", "rounding_epochs", "rounding_lr", "c_grid", "curve_epochs", "aids",
)  # fmt: skip
THRESHOLDS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)


Prepare = Callable[[nn.Module, TensorLoader, "Data", "Recipe"], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """Everything that a row of a table depends on; written into its JSON.

    ``threshold`` is the largest log α that is kept; None lets :func:`pyrosparse.prune` choose it for each seed, within
    ``tolerance``; ``next_tolerance`` is that of the network that a second cycle starts from, where it is another one.
    ``aids`` says what published rows do not use: pixel shifts, soft labels of a teacher, a cut before
    the fit.
    """

    network: str
    prior: str = "log-uniform"
    epochs: int = 200
    pretrain_epochs: int = 6
    shift: int = 0
    teacher_epochs: int = 0
    teacher_weight: float = 0.7
    lr: float = 2e-3
    lr_log_var: float = 5e-2
    log_var: float = -6.0
    hold: float = 0.4
    peak: float = 1.0
    settle_value: float = 1.0
    sites: tuple[str, ...] = ("fc1.weight",)
    shrink_every: int = 2
    freeze_at: float = 0.86
    freeze_threshold: float = 3.0
    threshold: float | None = None
    tolerance: float = 0.0
    next_tolerance: float | None = None
    rounding_epochs: int = 16
    rounding_lr: float = 5e-3
    c_grid: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    curve_epochs: int = 2
    precut: tuple[int, ...] = ()
    aids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spent:
    """What a cycle leaves for the next one of the same seed, which starts at ``following``."""

    dense: nn.Module
    pruned: nn.Module
    following: nn.Module
    cpu_seconds: float


def fit_posterior(
    net: nn.Module, train: TensorLoader, data: Data, recipe: Recipe, name: str
) -> tuple[ps.SparseModel, guides.AutoSparse, list[dict[str, Any]], float]:
    """Fit Sparse VD or ARD with live shrinking, or read the fit back; also the CPU seconds that it took."""
    parts = {k: v for k, v in asdict(recipe).items() if k not in AFTER_THE_FIT}
    start = sum(float(p.detach().double().abs().sum()) for p in net.parameters())
    model, guide = pair_of(net, data, recipe)
    history, seconds = cached.fit(
        model, guide, train, name=name, key=json.dumps([parts, start]), say=_say, **options_of(data, recipe)
    )
    return model, guide, history, seconds


def pair_of(net: nn.Module, data: Data, recipe: Recipe) -> tuple[ps.SparseModel, guides.AutoSparse]:
    """Model and guide of a recipe."""
    prior = {"log-uniform": ps.priors.LogUniform, "ARD": ps.priors.ARD}[recipe.prior]()
    model = ps.SparseModel(net, prior, ps.likelihoods.Categorical(num_data=data.num_data))
    return model, guides.AutoSparse(model, log_var=recipe.log_var)


def options_of(data: Data, recipe: Recipe) -> dict[str, Any]:
    """Options of :func:`pyrosparse.fit` by a recipe."""
    heavy = schedules.overweight(peak=recipe.peak, rise=0.15, hold=0.4, settle=0.6, value=recipe.settle_value)
    return {
        "epochs": recipe.epochs,
        "val_loader": data.val,
        "lr": recipe.lr,
        "lr_log_var": recipe.lr_log_var,
        "lr_schedule": schedules.cosine(hold=recipe.hold),
        "kl_schedule": schedules.warm_up(until=0.15),
        "site_schedules": dict.fromkeys(recipe.sites, heavy),
        "threshold": recipe.freeze_threshold,
        "freeze_at": recipe.freeze_at,
        "shrink_every": recipe.shrink_every,
    }


def _say(state: Any) -> None:
    last = state.history[-1]
    if last["epoch"] % 10 == 0:
        print(
            f"  epoch {last['epoch']:3d}  {last['seconds']:6.0f} s  {last['step_ms']:5.1f} ms  kept {last['kept']:6,}  "
            f"units {list(last['units'].values())}  val {100 * last['val_error']:.2f} %",
            flush=True,
        )


def run_seed(
    recipe: Recipe,
    seed: int,
    name: str,
    *,
    prepare: Prepare | None = None,
    before: Spent | None = None,
    test: bool = True,
) -> tuple[dict[str, Any], Spent]:
    """Run one seed of a row; one that stands in the cache with the same recipe is read back.

    :param prepare: makes the network that the fit starts from, out of the dense one.
    :param before: what an earlier cycle of the same seed has trained and spent.
    :param test: look at the test set and write the JSON. False while a recipe is being chosen.
    """
    path = CACHE / f"{name}-seed{seed}"
    torch.set_num_threads(1)
    held = _held(path, recipe)
    if held is not None:
        return (_tested(path, held, load_data(0)) if test else held.result), held.spent
    teacher, teacher_cpu = train_teacher(recipe.teacher_epochs) if recipe.teacher_epochs else (None, 0.0)
    data = load_data(recipe.shift)
    cpu = time.process_time()
    torch.manual_seed(seed)
    taught = data.train if teacher is None else data.train.soften(teacher, weight=recipe.teacher_weight)
    dense = before.dense if before is not None else pretrained(recipe.network, data, recipe.pretrain_epochs)
    start = before.following if before is not None else dense
    if prepare is not None:
        start = prepare(dense, taught, data, recipe)
    print(f"{name} seed {seed}: dense val {100 * ps.evaluate(dense, data.val).error:.2f} %", flush=True)
    original = sum(p.numel() for p in dense.parameters())
    weights = sum(p.numel() for n, p in dense.named_parameters() if n.endswith("weight"))
    before_fit = time.process_time() - cpu
    model, guide, history, fit_seconds = fit_posterior(start, taught, data, recipe, path.name)
    cpu = time.process_time()
    threshold = "auto" if recipe.threshold is None else recipe.threshold
    pruned = prune_to(model, guide, original, threshold=threshold, val_loader=data.val, tolerance=recipe.tolerance)
    following = pruned
    if recipe.next_tolerance is not None:
        options = {"threshold": "auto", "val_loader": data.val, "tolerance": recipe.next_tolerance}
        following = prune_to(model, guide, original, **options)
    rounded, c = round_off(
        pruned, taught, data, epochs=recipe.rounding_epochs, lr=recipe.rounding_lr, grid=recipe.c_grid
    )
    info = ps.save(path.with_suffix(".psz"), rounded, c=c)
    again = ps.load(path.with_suffix(".psz"))
    seconds = before_fit + fit_seconds + time.process_time() - cpu + (before.cpu_seconds if before else 0.0)
    spent = Spent(dense, pruned.network, following.network, seconds)
    result = {
        "row": name,
        "seed": seed,
        "recipe": asdict(recipe),
        "cpu_seconds": round(spent.cpu_seconds, 1),
        "teacher_cpu_seconds": round(teacher_cpu, 1),
        "threshold": pruned.report.threshold,
        "c": c,
        "units": [layer.inputs for layer in pruned.report.layers] + [pruned.report.layers[-1].units],
        "pruned": {"kept": pruned.nonzero, "params": weights / pruned.nonzero, "val_error": pruned.report.error},
        "file": {
            "kept": rounded.nonzero,
            "params": weights / rounded.nonzero,
            "bytes": info.bytes,
            "ratio": 4 * original / info.bytes,
            "val_error": ps.evaluate(again, data.val).error,
        },
        "step_ms": [history[0]["step_ms"], history[-1]["step_ms"]],
        "curve": trade_off(model, guide, original, taught, data, recipe) if recipe.curve_epochs else [],
        **environment(),
    }
    print(summary_line(result), flush=True)
    held = Held(result, spent, again)
    torch.save(held, path.with_suffix(".pt"))
    return (_tested(path, held, data) if test else result), spent


@dataclass(frozen=True)
class Held:
    """A run of which everything has been decided, and that has not seen the test set."""

    result: dict[str, Any]
    spent: Spent
    again: nn.Module


def _held(path: Path, recipe: Recipe) -> Held | None:
    """A run that stands in the cache, if its recipe is this one."""
    if not path.with_suffix(".pt").exists():
        return None
    held: Held = torch.load(path.with_suffix(".pt"), weights_only=False)  # our own, of this machine
    return held if _same(held.result["recipe"], recipe) else None


def _tested(path: Path, held: Held, data: Data) -> dict[str, Any]:
    """The one look at the test set, after everything has been decided; writes the run's JSON and its file."""
    result = held.result
    networks = {"dense": held.spent.dense, "pruned": held.spent.pruned, "file": held.again}
    for key, network in networks.items():
        result.setdefault(key, {})["test_error"] = ps.evaluate(network, data.test).error
    RESULTS.mkdir(exist_ok=True)
    shutil.copy(path.with_suffix(".psz"), RESULTS)
    write(f"{path.name}.json", result)
    return result


def finished(recipe: Recipe, seed: int, name: str) -> dict[str, Any] | None:
    """A result that stands there already, if its recipe is this one."""
    path = RESULTS / f"{name}-seed{seed}.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    return result if _same(result["recipe"], recipe) else None


def _same(written: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a recipe that was written down is this one; options that came later had their defaults."""
    then = json.loads(json.dumps(asdict(Recipe(recipe.network)) | dict(written)))
    return bool(then == json.loads(json.dumps(asdict(recipe))))


def prune_to(model: ps.SparseModel, guide: guides.AutoSparse, original: int, **options: Any) -> ps.Pruned:
    """Prune, counting the numbers of the network that stood before any cut."""
    return replace(ps.prune(model, guide, **options), original_parameters=original)


def round_off(
    pruned: ps.Pruned, train: TensorLoader, data: Data, *, epochs: int, lr: float, grid: Sequence[float]
) -> tuple[ps.Pruned, float]:
    """Quantisation-aware ending at the step of the lowest validation error; of equals, the largest step."""
    best: tuple[ps.Pruned, float] | None = None
    lowest = float("inf")
    for c in grid:
        rounded = quantise_aware(pruned, train, c=c, epochs=epochs, lr=lr, val_loader=data.val, progress=False)
        assert rounded.report.error is not None
        print(f"  c {c}: val {100 * rounded.report.error:.2f} %", flush=True)
        if rounded.report.error <= lowest:
            best, lowest = (rounded, c), rounded.report.error
    assert best is not None
    return best


def trade_off(
    model: ps.SparseModel,
    guide: guides.AutoSparse,
    original: int,
    train: TensorLoader,
    data: Data,
    recipe: Recipe,
) -> list[dict[str, float | None]]:
    """Validation error against file bytes over thresholds, each with its own ending at c = 1."""
    points: list[dict[str, float | None]] = []
    for threshold in THRESHOLDS:
        small = prune_to(model, guide, original, threshold=threshold)
        small = quantise_aware(small, train, c=1.0, epochs=recipe.curve_epochs, val_loader=data.val, progress=False)
        size = encoded_size(small, c=1.0)
        points.append(
            {
                "threshold": threshold,
                "kept": small.nonzero,
                "bytes": size,
                "file": 4 * original / size,
                "val_error": small.report.error,
            }
        )
    return points


def summary_line(result: Mapping[str, Any]) -> str:
    """One seed in one line, without the test set."""
    pruned, file = result["pruned"], result["file"]
    return (
        f"{result['row']} seed {result['seed']}: pruned {pruned['params']:.0f} times fewer at val "
        f"{100 * pruned['val_error']:.2f} %; file {file['params']:.0f} times fewer, {file['ratio']:.0f} times smaller "
        f"({file['bytes']} bytes, c {result['c']}) at val {100 * file['val_error']:.2f} %; units {result['units']}; "
        f"{result['cpu_seconds']:.0f} CPU s"
    )
