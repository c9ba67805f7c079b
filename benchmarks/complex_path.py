"""A path of posteriors from one fit: the KL weight climbs a staircase, and each step gives a smaller network.

What the comparisons of complex and real networks share. A grid of KL weights, each with a run of its own, would cost as
many full-size beginnings; here each step starts where the one before it ended, with a network that live shrinking has
made small already. At the end of a step the network is pruned at some thresholds and fine-tuned. The fit stands in the
cache: one that died goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cached
import torch
from common import CACHE
from mnist import Data
from torch import nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.infer import schedules

# what a fit does not depend on: it is read back from the cache when one of these is changed
AFTER_THE_FIT = ("thresholds", "tune_epochs", "tune_lr", "tune_best", "teacher_weight", "teacher_temperature")
PRIORS = {
    "C-VD": ps.priors.ComplexLogUniform,
    "C-ARD": ps.priors.ComplexARD,
    "R-VD": ps.priors.LogUniform,
    "R-ARD": ps.priors.ARD,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that a path depends on; written into its JSON.

    :param kl_weights: β of each step.
    :param first_epochs: epochs of the first step, in which most of the network goes.
    :param step_epochs: epochs of each step after it; both multiples of :data:`cached.EVERY`.
    :param thresholds: largest log α that is kept, each of them tried at the end of each step.
    :param alive: largest log α that counts as alive in live shrinking.
    :param tune_best: fine-tuning gives its epoch of lowest validation error, which favours those that were lucky; or
        else its last one.
    :param teacher_weight: share of the dense network's opinion in the labels of fine-tuning.
    :param teacher_temperature: what the dense network's logits are divided by for it.
    """

    dense_epochs: int = 10
    dense_lr: float = 1e-3
    kl_weights: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    first_epochs: int = 25
    step_epochs: int = 10
    batch: int = 128
    lr: float = 2e-3
    lr_log_var: float = 5e-2
    log_var: float = -6.0
    clip: float = 0.5
    thresholds: tuple[float, ...] = (3.0, 2.0)
    alive: float = 3.0
    tune_epochs: int = 10
    tune_lr: float = 5e-4
    tune_best: bool = True
    teacher_weight: float = 0.0
    teacher_temperature: float = 4.0

    @property
    def ends(self) -> list[int]:
        """Epoch at which each step ends."""
        return [self.first_epochs + k * self.step_epochs for k in range(len(self.kl_weights))]

    def step_at(self, t: float) -> tuple[int, float]:
        """Step at the progress t of the run, and how much of it is over."""
        epoch = t * self.ends[-1]
        k = next((k for k, end in enumerate(self.ends) if epoch < end), len(self.ends) - 1)
        start = self.ends[k - 1] if k else 0
        return k, min(1.0, (epoch - start) / (self.ends[k] - start))

    def kl_weight(self, t: float) -> float:
        """β at the progress t of the run."""
        return self.kl_weights[self.step_at(t)[0]]

    def rate(self, t: float) -> float:
        """Factor on learning rates: in each step half a cosine from 1 to a tenth."""
        return 0.1 + 0.45 * (1.0 + math.cos(math.pi * self.step_at(t)[1]))


@dataclass(frozen=True)
class Point:
    """One network of a path.

    :param before: the network as pruned, and its validation error.
    :param after: the same after fine-tuning; the start counts as an epoch of it.
    """

    kl_weight: float
    threshold: float
    before: ps.Pruned
    after: ps.Pruned

    @property
    def rate(self) -> float:
        """Numbers of the dense network's weights over those that are not 0; a complex weight has two."""
        return self.before.report.ratio

    def __str__(self) -> str:
        before, after = (100 * (p.report.error or 0.0) for p in (self.before, self.after))
        return f"  β {self.kl_weight:.3g} τ {self.threshold:g}: ×{self.rate:.0f}, val {before:.2f} → {after:.2f} %"

    def figures(self) -> dict[str, Any]:
        """What goes into the JSON."""
        layers = self.before.report.layers
        return {
            "kl_weight": self.kl_weight,
            "threshold": self.threshold,
            "rate": round(self.rate, 1),
            "dense_rate": round(self.before.report.dense_ratio, 1),
            "units": [layer.inputs for layer in layers] + [layers[-1].units],
            "val_error": {"before": self.before.report.error, "after": self.after.report.error},
        }


def train_dense(network: nn.Module, data: Data, recipe: Recipe, *, key: str) -> tuple[nn.Module, float]:
    """Train the network that the path starts from, or read it back; also the CPU seconds that it took."""
    path = _folder(key, recipe, ("dense_epochs", "dense_lr", "batch")) / "dense.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["state"])
        return network.eval(), saved["cpu_seconds"]
    cpu = time.process_time()
    half = schedules.cosine(hold=0.3)
    dense = ps.train(
        network, data.train, epochs=recipe.dense_epochs, lr=recipe.dense_lr, lr_schedule=half, progress=False
    )
    seconds = time.process_time() - cpu
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state": dense.state_dict(), "cpu_seconds": seconds}, path)
    return dense, seconds


def walk(
    dense: nn.Module, method: str, data: Data, recipe: Recipe, *, name: str, key: str
) -> tuple[list[Point], dict[str, Any]]:
    """Fit, prune at the end of each step, fine-tune; also CPU seconds and step times.

    :param method: a name of :data:`PRIORS`.
    :param key: what the dense network depends on, in words.
    """
    text = fit_key(method, recipe, key=key)
    model = ps.SparseModel(dense, PRIORS[method](), ps.likelihoods.Categorical(num_data=data.num_data))
    guide = guides.AutoSparse(model, log_var=recipe.log_var)
    original = model.original_parameters
    shots = shots_of(name, text, recipe)

    def say(state: Any) -> None:
        last = state.history[-1]
        if state.epoch in shots:
            torch.save((model, guide), shots[state.epoch])
        if state.epoch % cached.EVERY == 0:
            print(
                f"  epoch {state.epoch:3d}  {last['seconds']:6.0f} s  {last['step_ms']:6.1f} ms  β {last['beta']:.3g}  "
                f"alive ×{original / max(1, last['kept']):.0f}  dense ×{last['dense_rate']:.1f}",
                flush=True,
            )

    history, seconds = cached.fit(
        model,
        guide,
        data.train,
        name=name,
        key=text,
        epochs=recipe.ends[-1],
        say=say,
        lr=recipe.lr,
        lr_log_var=recipe.lr_log_var,
        lr_schedule=recipe.rate,
        kl_schedule=recipe.kl_weight,
        clip=recipe.clip,
        threshold=recipe.alive,
    )
    cpu = time.process_time()
    points = []
    for beta, shot in zip(recipe.kl_weights, shots.values(), strict=True):
        for threshold in recipe.thresholds:
            points.append(cut(shot, beta, threshold, data, recipe, dense=dense))
            print(points[-1], flush=True)
    spent = {
        "cpu_seconds": {"fit": round(seconds, 1), "fine_tune": round(time.process_time() - cpu, 1)},
        "step_ms": [round(history[i]["step_ms"], 1) for i in (0, -1)],
    }
    return points, spent


def fit_key(method: str, recipe: Recipe, *, key: str) -> str:
    """Everything that the fit of a path depends on, in words."""
    parts = {k: v for k, v in asdict(recipe).items() if k not in AFTER_THE_FIT}
    return json.dumps([key, method, parts])


def shots_of(name: str, text: str, recipe: Recipe) -> dict[int, Path]:
    """Where model and guide stand as they were at the end of each step."""
    folder = CACHE / f"{name}-{zlib.crc32(text.encode()):08x}"
    return {end: folder / f"step-{end}.pt" for end in recipe.ends}


def cut(shot: Path, beta: float, threshold: float, data: Data, recipe: Recipe, *, dense: nn.Module) -> Point:
    """Prune what stood at the end of a step, and fine-tune it.

    :param dense: the network that the path began with; the teacher, where there is one.
    """
    fitted, posterior = torch.load(shot, weights_only=False)  # our own, of this machine
    before = ps.prune(fitted, posterior, threshold=threshold, val_loader=data.val)
    before = replace(before, original_parameters=sum(p.numel() for p in dense.parameters()))
    train = data.train
    if recipe.teacher_weight:
        train = train.soften(dense, weight=recipe.teacher_weight, temperature=recipe.teacher_temperature)
    seen = data.val if recipe.tune_best else None
    after = ps.fine_tune(before, train, epochs=recipe.tune_epochs, lr=recipe.tune_lr, val_loader=seen, progress=False)
    error = after.report.error if recipe.tune_best else ps.evaluate(after.network, data.val).error
    return Point(beta, threshold, before, replace(after, report=replace(after.report, error=error)))


def choose(points: Sequence[Point], rate: float) -> Point | None:
    """The point of the lowest validation error among those of at least this rate; of equals, the smaller network."""
    enough = [p for p in points if p.rate >= rate]
    return min(enough, key=lambda p: (p.after.report.error, -p.rate), default=None)


def _folder(key: str, recipe: Recipe, names: Sequence[str]) -> Path:
    text = json.dumps([key, {k: v for k, v in asdict(recipe).items() if k in names}])
    return CACHE / f"dense-{zlib.crc32(text.encode()):08x}"
