"""MNIST, LeNet-300-100 and LeNet-5-Caffe: what whole-unit priors leave of them.

Group Normal-Jeffreys (gnj), group horseshoe (ghs) and L0 gates (l0). Each row gives four rates: weights that are not
0 (params), weights of the smaller dense network (dense), the same at the bits of each layer's precision (bits), and
bytes on disk (file).

    python benchmarks/lenet_groups.py [--rows ghs-5 …] [--seeds 40 41 42] [--tune]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import cached
import torch
from common import RESULTS, environment, write
from compression import round_off
from mnist import Data, load_data, pretrained, train_teacher
from rows import claim, spread
from torch import nn

import pyrosparse as ps
from pyrosparse import guides, priors
from pyrosparse.coding import precision_bits
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

AIDS = ("pixel shifts of ±1", "soft labels of one dense LeNet-5, temperature 2")
COLD = "a cold posterior: the KL weight ends at {:g}"


@dataclass(frozen=True)
class GroupRecipe:
    """Everything that a row depends on; written into its JSON.

    :param peaks: KL weight of each layer until the network has ``rate`` times fewer weights.
    :param value: KL weight after that.
    """

    network: str
    prior: str
    options: dict[str, Any]
    peaks: dict[str, float]
    value: float
    rate: float
    epochs: int
    pretrain_epochs: int
    shift: int = 0
    teacher_epochs: int = 0
    teacher_weight: float = 0.5
    lr: float = 3e-3
    lr_log_var: float = 5e-2
    lr_scale: float = 3e-2
    log_var: float = -4.0
    max_std: dict[str, float] | None = None
    criterion: str = "information"
    latest: float = 0.6
    hold: float = 0.45
    tolerance: float = 0.002
    rounding_epochs: int = 12

    @property
    def aids(self) -> list[str]:
        """What published rows do not use."""
        used = [aid for aid, on in zip(AIDS, (self.shift, self.teacher_epochs), strict=True) if on]
        return used + ([COLD.format(self.value)] if self.value < 1 else [])


LENET_5 = {"network": "lenet_5_caffe", "epochs": 40, "pretrain_epochs": 3, "shift": 1, "teacher_epochs": 12}
LENET_300 = {"network": "lenet_300_100", "epochs": 60, "pretrain_epochs": 5}
AIDED = {"shift": 1, "teacher_epochs": 12, "teacher_weight": 0.7}
ROWS = {
    "ghs-5": GroupRecipe(
        **(LENET_5 | {"epochs": 60}),
        prior="GroupHorseshoe",
        options={"global_scale": 1e-5},
        peaks={"conv1": 8.0, "conv2": 5.0, "fc1": 4.0, "fc2": 3.0},
        value=0.08,
        rate=118.0,
        teacher_weight=0.7,
        rounding_epochs=20,
    ),
    "gnj-5": GroupRecipe(
        **LENET_5,
        prior="GroupLogUniform",
        options={},
        peaks={"conv1": 5.0, "conv2": 4.0, "fc1": 5.0, "fc2": 4.0},
        value=0.08,
        rate=95.0,
    ),
    "gnj-300": GroupRecipe(
        **LENET_300,
        prior="GroupLogUniform",
        options={},
        peaks={"fc1": 3.0, "fc2": 2.0, "fc3": 2.0},
        value=0.5,
        rate=8.0,
        max_std={"fc1": 0.2},
    ),
    "ghs-300": GroupRecipe(
        **LENET_300,
        prior="GroupHorseshoe",
        options={"global_scale": 1e-5},
        peaks={"fc1": 2.0, "fc2": 2.0, "fc3": 2.0},
        value=0.3,
        rate=8.0,
        max_std={"fc1": 0.2},
    ),
    "ghs-300-taught": GroupRecipe(
        **(LENET_300 | {"teacher_epochs": 12, "teacher_weight": 0.7}),
        prior="GroupHorseshoe",
        options={"global_scale": 1e-5},
        peaks={"fc1": 2.0, "fc2": 2.0, "fc3": 2.0},
        value=0.3,
        rate=8.0,
        max_std={"fc1": 0.2},
    ),
    "l0-300": GroupRecipe(
        **(LENET_300 | AIDED),
        prior="L0",
        options={"penalty": 0.1, "drop_rate": 0.2},
        peaks={"fc1": 1.0, "fc2": 1.0, "fc3": 1.0},
        value=0.2,
        rate=4.0,
        criterion="scale",
    ),
    "l0-300-small": GroupRecipe(
        **(LENET_300 | AIDED | {"epochs": 150}),
        prior="L0",
        options={"penalty": 0.1, "drop_rate": 0.2},
        peaks={"fc1": 22.0, "fc2": 300.0, "fc3": 900.0},
        value=0.2,
        rate=28.5,
        criterion="scale",
    ),
    "l0-5": GroupRecipe(
        **LENET_5,
        prior="L0",
        options={"penalty": 0.1, "drop_rate": 0.2},
        peaks={"conv1": 600.0, "conv2": 50.0, "fc1": 8.0, "fc2": 600.0},
        value=0.2,
        rate=66.0,
        criterion="scale",
    ),
}
# what was asked of the network that is read back from its file: rates of at least, at a test error of at most
BARS: dict[str, tuple[dict[str, float], float]] = {
    "ghs-5": ({"dense": 156, "bits": 419, "file": 771}, 0.010),
    "gnj-5": ({"dense": 108}, 0.010),
    "gnj-300": ({"dense": 9, "bits": 36, "file": 60}, 0.018),
    "ghs-300": ({"dense": 9, "bits": 36, "file": 60}, 0.018),
    # 266,200 weights over those of 219-214-100 and 430,500 over those of 9-18-65-25 units
    "ghs-300-taught": ({"dense": 9, "bits": 36, "file": 60}, 0.018),
    "l0-300": ({"dense": 266_200 / (219 * 214 + 214 * 100 + 100 * 10)}, 0.014),
    "l0-300-small": ({"dense": 28}, 0.019),
    "l0-5": ({"dense": 430_500 / (9 * 25 + 9 * 18 * 25 + 65 * 25 + 25 * 10)}, 0.010),
}


def fit_groups(
    dense: nn.Module, train: TensorLoader, data: Data, recipe: GroupRecipe, name: str
) -> tuple[ps.SparseModel, guides.AutoSparse, list[dict[str, Any]], float]:
    """Fit with pressure until the network is as small as asked; a finished fit is read back from its checkpoint."""
    prior = getattr(priors, recipe.prior)(**recipe.options)
    model = ps.SparseModel(dense, prior, ps.likelihoods.Categorical(num_data=data.num_data))
    guide = guides.AutoSparse(
        model, log_var=recipe.log_var, max_std=recipe.max_std, criterion=guides.Criterion(recipe.criterion)
    )
    after = ("tolerance", "rounding_epochs")
    history, seconds = cached.fit(
        model,
        guide,
        train,
        name=name,
        key=json.dumps({k: v for k, v in asdict(recipe).items() if k not in after}),
        epochs=recipe.epochs,
        say=lambda state: _say(state, model),
        val_loader=data.val,
        lr=recipe.lr,
        lr_log_var=recipe.lr_log_var,
        lr_scale=recipe.lr_scale,
        lr_schedule=schedules.linear_decay(hold=recipe.hold),
        site_schedules={
            layer: schedules.ClosedLoop(peak=peak, value=recipe.value, rate=recipe.rate, latest=recipe.latest)
            for layer, peak in recipe.peaks.items()
        },
        shrink_every=1,
    )
    return model, guide, history, seconds


def _say(state: Any, model: ps.SparseModel) -> None:
    last = state.history[-1]
    print(
        f"  epoch {last['epoch']:3d}  {last['seconds']:5.0f} s  {last['step_ms']:5.1f} ms  "
        f"β {max(last['beta_sites'].values()):4.2f}  dense {last['dense_rate']:5.1f}  "
        f"kept {model.original_parameters / max(1, last['kept']):5.1f}  "
        f"units {[len(model.kept[s.layer][1]) for s in model.sites.values()]}  val {100 * last['val_error']:.2f} %",
        flush=True,
    )


def run_seed(row: str, seed: int, *, test: bool) -> dict[str, Any]:
    """One seed of one row, written as JSON unless the recipe is being chosen."""
    recipe, name = ROWS[row], f"lenet_groups-{row}"
    path = RESULTS / f"{name}-seed{seed}"
    if test and path.with_suffix(".json").exists():
        found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        if found["recipe"] == json.loads(json.dumps(asdict(recipe))):
            return found
    torch.set_num_threads(1)
    teacher = train_teacher(recipe.teacher_epochs)[0] if recipe.teacher_epochs else None
    data = load_data(recipe.shift)
    cpu = time.process_time()
    torch.manual_seed(seed)
    taught = data.train if teacher is None else data.train.soften(teacher, weight=recipe.teacher_weight)
    dense = pretrained(recipe.network, data, recipe.pretrain_epochs)
    print(f"{name} seed {seed}: dense val {100 * ps.evaluate(dense, data.val).error:.2f} %", flush=True)
    before_fit = time.process_time() - cpu
    model, guide, history, fit_seconds = fit_groups(dense, taught, data, recipe, path.name)
    cpu = time.process_time()
    pruned = ps.prune(model, guide, threshold="auto", val_loader=data.val, tolerance=recipe.tolerance)
    rounded, c = round_off(pruned, taught, data, epochs=recipe.rounding_epochs, lr=1e-2, grid=(1.0, 1.5))
    RESULTS.mkdir(exist_ok=True)
    info = ps.save(path.with_suffix(".psz"), rounded, c=c)
    again = ps.load(path.with_suffix(".psz"))
    weights = sum(p.numel() for n, p in dense.named_parameters() if n.endswith("weight"))
    bits = precision_bits(rounded, c=c)
    result = {
        "row": name,
        "seed": seed,
        "recipe": asdict(recipe),
        "aids": recipe.aids,
        "cpu_seconds": round(before_fit + fit_seconds + time.process_time() - cpu, 1),
        "threshold": pruned.report.threshold,
        "c": c,
        "units": [layer.inputs for layer in rounded.report.layers] + [rounded.report.layers[-1].units],
        "rates": {
            "params": weights / rounded.nonzero,
            "dense": pruned.report.dense_ratio,
            "bits": 32 * weights / sum(layer.bits for layer in bits),
            "file": 4 * model.original_parameters / info.bytes,
        },
        "bytes": info.bytes,
        "bits": {layer.site: layer.each for layer in bits},
        "kl_bits": ps.summarize(model, guide).kl_bits,
        "val_error": {"pruned": pruned.report.error, "file": ps.evaluate(again, data.val).error},
        "step_ms": [history[0]["step_ms"], history[-1]["step_ms"]],
        **environment(),
    }
    shown = {k: round(v, 1) for k, v in result["rates"].items()}
    print(f"{name} seed {seed}: {shown} {info.bytes} bytes, c {c}, units {result['units']}, val {result['val_error']}")
    if not test:
        path.with_suffix(".psz").unlink()
    else:
        # the one look at the test set, after everything has been decided
        networks = {"dense": dense, "pruned": pruned.network, "file": again}
        result["test_error"] = {key: ps.evaluate(network, data.test).error for key, network in networks.items()}
        write(f"{path.name}.json", result)
    return result


def table_of(row: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, lowest and highest over seeds, and whether what was asked is met."""
    rates = {key: spread([r["rates"][key] for r in results]) for key in ("params", "dense", "bits", "file")}
    error = spread([r["test_error"]["file"] for r in results])
    asked, at_most = BARS.get(row, ({}, 1.0))
    return {
        "row": results[0]["row"],
        "claim": f"MNIST, {ROWS[row].network}: whole units",
        "seeds": [r["seed"] for r in results],
        "recipe": results[0]["recipe"],
        "aids": results[0]["aids"],
        "rates": rates,
        "test_error": error,
        "dense_test_error": spread([r["test_error"]["dense"] for r in results]),
        "cpu_seconds": spread([r["cpu_seconds"] for r in results]),
        "units": [r["units"] for r in results],
        "verdict": [claim(figure, least, at_most, rates[figure], error) for figure, least in asked.items()],
        **environment(),
    }


def main() -> None:
    """Run rows and seeds, one JSON each, then the table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[40, 41, 42])
    parser.add_argument("--tune", action="store_true", help="leave the test set alone and write nothing")
    options = parser.parse_args()
    for row in options.rows:
        results = [run_seed(row, seed, test=not options.tune) for seed in options.seeds]
        if not options.tune:
            write(f"lenet_groups-{row}.json", table_of(row, results))


if __name__ == "__main__":
    main()
