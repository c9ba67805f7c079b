"""The protocol that every compression table follows.

Pre-train, fit, prune, end with quantisation, save; thresholds and steps are chosen on validation data (the last
5,000 training images), and the test set is looked at once, after everything has been decided. One JSON a seed is
written as soon as it is there; the table takes medians over seeds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import CACHE, RESULTS, environment, mnist_folder, write
from torch import nn

import pyrosparse as ps
from pyrosparse import guides, models
from pyrosparse.coding import quantise_aware
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

VALIDATION = 5_000
C_GRID = (0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Recipe:
    """Everything that a row of a table depends on; written into its JSON.

    ``aids`` says what published rows do not use: pixel shifts, soft labels of a teacher, a cut before the fit.
    """

    network: str
    prior: str = "log-uniform"
    epochs: int = 150
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
    tolerance: float = 0.0
    rounding_epochs: int = 8
    rounding_tolerance: float = 0.0005
    curve_epochs: int = 2
    precut: tuple[int, ...] = ()
    aids: tuple[str, ...] = ()


@dataclass
class Data:
    """MNIST with its last training images for validation."""

    train: TensorLoader
    val: TensorLoader
    test: TensorLoader
    num_data: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_data = self.train.x.shape[0]


def load_data(shift: int) -> Data:
    """Load MNIST; the training loader moves images by up to ``shift`` pixels."""
    mnist = ps.data.load("idx", path=mnist_folder(), validation=VALIDATION)
    return Data(
        TensorLoader(mnist.x_train, mnist.y_train, 128, shift=shift),
        TensorLoader(mnist.x_val, mnist.y_val, 1000, shuffle=False),
        TensorLoader(mnist.x_test, mnist.y_test, 1000, shuffle=False),
    )


def train_teacher(epochs: int) -> tuple[nn.Module, float]:
    """One dense LeNet-5 for all seeds, trained with shifts and kept in a cache; also its CPU seconds."""
    path = CACHE / f"teacher-{epochs}.pt"
    network = models.lenet_5_caffe()
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["state"])
        return network.eval(), saved["cpu_seconds"]
    cpu = time.process_time()
    torch.manual_seed(1_000)
    network = models.lenet_5_caffe()
    network = ps.train(
        network,
        load_data(1).train,
        epochs=epochs,
        lr=1e-3,
        lr_schedule=schedules.cosine(hold=0.3),
        progress=False,
    )
    seconds = time.process_time() - cpu
    CACHE.mkdir(exist_ok=True)
    torch.save({"state": network.state_dict(), "cpu_seconds": seconds}, path)
    return network, seconds


def fit_posterior(
    net: nn.Module, train: TensorLoader, data: Data, recipe: Recipe, run: Path
) -> tuple[ps.SparseModel, guides.AutoSparse, list[dict[str, Any]]]:
    """Sparse VD or ARD with live shrinking."""
    prior = {"log-uniform": ps.priors.LogUniform, "ARD": ps.priors.ARD}[recipe.prior]()
    model = ps.SparseModel(net, prior, ps.likelihoods.Categorical(num_data=data.num_data))
    guide = guides.AutoSparse(model, log_var=recipe.log_var)
    heavy = schedules.overweight(peak=recipe.peak, rise=0.15, hold=0.4, settle=0.6, value=recipe.settle_value)
    fitted = ps.fit(
        model,
        guide,
        train,
        epochs=recipe.epochs,
        val_loader=data.val,
        lr=recipe.lr,
        lr_log_var=recipe.lr_log_var,
        lr_schedule=schedules.cosine(hold=recipe.hold),
        kl_schedule=schedules.warm_up(until=0.15),
        site_schedules=dict.fromkeys(recipe.sites, heavy),
        threshold=recipe.freeze_threshold,
        freeze_at=recipe.freeze_at,
        shrink_every=recipe.shrink_every,
        checkpoint=run,
        checkpoint_every=10,
        resume=True,
        progress=False,
        callbacks=(_say,),
    )
    return model, guide, fitted.history


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
    prepare: Callable[..., nn.Module] | None = None,
    after: Callable[[ps.Pruned], object] | None = None,
) -> dict[str, Any]:
    """Run one seed of a row and write its JSON.

    :param prepare: makes the network that the fit starts from, out of the dense one.
    :param after: gets the pruned network.
    """
    torch.set_num_threads(1)
    teacher, teacher_cpu = train_teacher(recipe.teacher_epochs) if recipe.teacher_epochs else (None, 0.0)
    cpu = time.process_time()
    data = load_data(recipe.shift)
    torch.manual_seed(seed)
    taught = data.train if teacher is None else data.train.soften(teacher, weight=recipe.teacher_weight)
    dense = ps.train(models.build(recipe.network), data.train, epochs=recipe.pretrain_epochs, lr=1e-3, progress=False)
    start = dense if prepare is None else prepare(dense, taught, data, recipe)
    print(f"{name} seed {seed}: dense val {100 * ps.evaluate(dense, data.val).error:.2f} %", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model, guide, history = fit_posterior(start, taught, data, recipe, Path(folder))
    original = sum(p.numel() for p in dense.parameters())
    weights = sum(p.numel() for n, p in dense.named_parameters() if n.endswith("weight"))
    pruned = ps.prune(model, guide, threshold="auto", val_loader=data.val, tolerance=recipe.tolerance)
    pruned.original_parameters = original
    if after is not None:
        after(pruned)
    rounded, c = round_off(pruned, taught, data, recipe)
    path = RESULTS / f"{name}-seed{seed}.psz"
    path.parent.mkdir(exist_ok=True)
    info = ps.save(path, rounded, c=c)
    again = ps.load(path)
    result = {
        "row": name,
        "seed": seed,
        "recipe": asdict(recipe),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "teacher_cpu_seconds": round(teacher_cpu, 1),
        "threshold": pruned.report.threshold,
        "c": c,
        "units": [layer.inputs for layer in pruned.report.layers] + [pruned.report.layers[-1].units],
        "kept": pruned.nonzero,
        "params": weights / pruned.nonzero,
        "params_file": weights / max(1, rounded.nonzero),
        "bytes": info.bytes,
        "file": 4 * original / info.bytes,
        "val_error": {"pruned": pruned.report.error, "file": ps.evaluate(again, data.val).error},
        "step_ms": [history[0]["step_ms"], history[-1]["step_ms"]],
        "curve": trade_off(pruned, taught, data, recipe, original, model, guide),
        # the one look at the test set
        "test_error": {
            "dense": ps.evaluate(dense, data.test).error,
            "pruned": ps.evaluate(pruned.network, data.test).error,
            "file": ps.evaluate(again, data.test).error,
        },
        **environment(),
    }
    path.unlink()
    write(f"{name}-seed{seed}.json", result)
    print(summary_line(result), flush=True)
    return result


def round_off(pruned: ps.Pruned, train: TensorLoader, data: Data, recipe: Recipe) -> tuple[ps.Pruned, float]:
    """Quantisation-aware ending at the largest step that validation data allow."""
    assert pruned.report.error is not None
    bound = pruned.report.error + recipe.rounding_tolerance
    best: tuple[ps.Pruned, float] | None = None
    for c in C_GRID:
        rounded = quantise_aware(pruned, train, c=c, epochs=recipe.rounding_epochs, val_loader=data.val, progress=False)
        if best is None or (rounded.report.error is not None and rounded.report.error <= bound):
            best = rounded, c
    assert best is not None
    return best


def trade_off(
    pruned: ps.Pruned,
    train: TensorLoader,
    data: Data,
    recipe: Recipe,
    original: int,
    model: ps.SparseModel,
    guide: guides.AutoSparse,
) -> list[dict[str, float]]:
    """Validation error against file bytes over thresholds, each with its own ending at c = 1."""
    points = []
    for threshold in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0):
        small = ps.prune(model, guide, threshold=threshold)
        small.original_parameters = original
        small = quantise_aware(small, train, c=1.0, epochs=recipe.curve_epochs, val_loader=data.val, progress=False)
        with tempfile.TemporaryDirectory() as folder:
            info = ps.save(Path(folder) / "point.psz", small, c=1.0)
        points.append(
            {
                "threshold": threshold,
                "kept": small.nonzero,
                "bytes": info.bytes,
                "file": 4 * original / info.bytes,
                "val_error": small.report.error or float("nan"),
            }
        )
    return points


def summary_line(result: Mapping[str, Any]) -> str:
    """One seed in one line."""
    test = result["test_error"]
    return (
        f"{result['row']} seed {result['seed']}: params {result['params']:.0f} at test {100 * test['pruned']:.2f} %, "
        f"file {result['file']:.0f} (params {result['params_file']:.0f}, {result['bytes']} bytes, "
        f"c {result['c']}) at test {100 * test['file']:.2f} %, "
        f"dense {100 * test['dense']:.2f} %, units {result['units']}, {result['cpu_seconds']:.0f} CPU s"
    )


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, lowest and highest over seeds of each figure of a row."""

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "low": min(values), "high": max(values)}

    return {
        "row": results[0]["row"],
        "seeds": [r["seed"] for r in results],
        "aids": results[0]["recipe"]["aids"],
        "params": spread([r["params"] for r in results]),
        "params_file": spread([r["params_file"] for r in results]),
        "file": spread([r["file"] for r in results]),
        "bytes": spread([r["bytes"] for r in results]),
        "test_error_pruned": spread([r["test_error"]["pruned"] for r in results]),
        "test_error_file": spread([r["test_error"]["file"] for r in results]),
        "test_error_dense": spread([r["test_error"]["dense"] for r in results]),
        "cpu_seconds": spread([r["cpu_seconds"] for r in results]),
        "units": [r["units"] for r in results],
    }
