"""One run of a fit: its optimiser, its schedules, and what happens in a step, in an epoch and after one."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrosparse.data.loader import TensorLoader
from pyrosparse.errors import FitError, PyrosparseWarning
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.guides.group import Criterion
from pyrosparse.infer.check import NOTHING, check_batch, check_data, check_validation
from pyrosparse.infer.checkpoint import CHECKPOINT, check_folder, load_checkpoint, save_checkpoint
from pyrosparse.infer.distil import TaughtLoader, softened
from pyrosparse.infer.evaluate import Batches, written
from pyrosparse.infer.fingerprint import fingerprint
from pyrosparse.infer.optimizer import adam
from pyrosparse.infer.pair import tied_sites
from pyrosparse.infer.progress import Bar
from pyrosparse.infer.ranks import Ranks
from pyrosparse.infer.record import Remaining, validated
from pyrosparse.infer.replay import own_code
from pyrosparse.infer.schedules import Schedule, mean_weight, rises
from pyrosparse.infer.settings import FitSettings, pick_device
from pyrosparse.infer.state import Fit, FitState, pack, unpack
from pyrosparse.infer.step import Step
from pyrosparse.infer.train import steps_per_epoch
from pyrosparse.model import SparseModel
from pyrosparse.poutine import local_reparam
from pyrosparse.poutine.parameters import unexposed
from pyrosparse.pruning.masks import keep_masks
from pyrosparse.pruning.shrink import Shrinker

__all__ = ["Run"]

ENOUGH = 16
"""Steps of an epoch from which on a tape is used where nobody has chosen."""


class Run:
    """One call of :func:`~pyrosparse.infer.fit.fit`; the errors are told there.

    :param model: network, priors and likelihood; trained in place.
    :param guide: its guide; trained in place.
    :param loader: training data.
    :param val_loader: validation data, or None.
    :param settings: every option.
    """

    def __init__(
        self,
        model: SparseModel,
        guide: AutoSparse,
        loader: Batches,
        val_loader: Batches | None,
        settings: FitSettings,
    ) -> None:
        self.settings = settings
        self.ranks = Ranks()
        self.device = pick_device(settings.device)
        self.model, self.guide = model.to(self.device), guide.to(self.device)
        self.loader: Batches = loader
        self.val_loader = val_loader
        self.per_epoch = steps_per_epoch(loader)
        # a family's scales follow the schedule of its weight
        by_weight = _own(settings.schedules_of(model.sites))
        self.schedules = {name: by_weight[site] for site, family in guide.families.items() for name in family.sites}
        self.fingerprint: dict[str, Any] = {}
        if settings.checkpoint is not None and self.ranks.first:
            check_folder(Path(settings.checkpoint), resume=settings.resume)
        if settings.checkpoint is not None or not self.ranks.alone:
            self.fingerprint = fingerprint(settings, model, guide, loader, per_epoch=self.per_epoch)
        self.ranks.check_same("settings or data", self.fingerprint)
        if settings.seed is not None:
            pyro.set_rng_seed(settings.seed)
        self.ranks.agree(self.model, self.guide)
        self.ranks.warn_of(model.network)
        example = self._check(loader)
        model.remember(example)
        if val_loader is not None:
            check_validation(model.network, model.likelihood, val_loader, device=self.device)
        named = [*((f"model.{n}", p) for n, p in model.trained_parameters()), *guide.named_parameters()]
        self.parameters = [p for _, p in named]
        self.optimizer = adam(named, lr=settings.lr, lr_log_var=settings.log_var_rate, lr_scale=settings.scale_rate)
        self.step = Step(
            self.model,
            local_reparam(guide, exclude=tied_sites(model, guide)) if settings.local_reparam else guide,
            self.parameters,
            self.optimizer,
            schedules=self.schedules,
            lr_schedule=settings.lr_schedule,
            clip=settings.clip,
            autocast=settings.autocast_type,
            example=example.to(self.device),
            ranks=self.ranks,
        )
        self._choose_tape()
        self.shrinker = Shrinker(model, guide, self.optimizer, threshold=settings.threshold)
        self.remaining = Remaining(model, guide, threshold=settings.threshold)
        self.state = FitState(model, guide, self.optimizer, epochs=settings.epochs)
        self.saved: Path | None = None
        if settings.resume:
            folder = Path(settings.checkpoint or "")
            saved = self.ranks.tell(load_checkpoint(folder) if self.ranks.first else None)
            if saved is not None:
                unpack(saved, folder, self.state, self.shrinker, loader, settings=self.fingerprint)
                self.saved = folder / CHECKPOINT
                for record in self.state.history:
                    self._observe(record)
        if settings.teacher is not None:
            teacher = deepcopy(settings.teacher).to(self.device)  # the user's own stays where it is
            self.loader = softened(loader, teacher, settings.teacher_weight, settings.temperature)
            self._check(self.loader)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.settings.epochs * self.per_epoch

    def go(self) -> Fit:
        """Take all epochs that are left."""
        done = self.state.epoch * self.per_epoch
        shown = self.settings.progress and self.ranks.first
        with Bar("fit", self.steps, done=done, show=shown) as bar, unexposed():
            while self.state.epoch < self.settings.epochs and not self.state.stop:
                self.epoch(bar)
        return Fit(self.model, self.guide, self.state.history, self.saved)

    def _choose_tape(self) -> None:
        """Where nobody has chosen, take steps from a tape on the CPU, if no code but ours and torch's is in them."""
        asked = self.settings.replay
        if asked and not self.ranks.alone:
            warnings.warn(
                "replay: processes that fit together take every step in the ordinary way",
                PyrosparseWarning,
                stacklevel=4,
            )
        # of a short epoch, whose first step is always looked at, a tape would save nothing
        chosen = self.device.type == "cpu" and self.per_epoch >= ENOUGH and not own_code(self.model, self.guide)
        if self.ranks.alone and (chosen if asked is None else asked):
            self.step.use_tape(self.guide, asked=bool(asked))

    def _check(self, loader: Batches) -> Tensor:
        network, likelihood = self.model.network, self.model.likelihood
        return check_data(network, likelihood, loader, device=self.device, batches=self.per_epoch)

    def epoch(self, bar: Bar) -> None:
        """Take one epoch: train, cut what is dead, record, call back and save."""
        started = time.perf_counter()
        self.model.train()
        self.guide.train()
        sums = torch.zeros(3, device=self.device)
        step = self.state.epoch * self.per_epoch
        count = 0
        self.step.doubt()  # units were cut, masks frozen, and callbacks may have done anything
        # a TensorLoader was checked as a whole, and a TaughtLoader checks its batches itself
        unseen = self.state.epoch == 0 and not isinstance(self.loader, TensorLoader | TaughtLoader)
        for x, y in self.loader:
            if unseen:
                check_batch(self.model.likelihood, x, y, count + 1, network=self.model.network)
            # the first step alone is validated: by then every mistake in shapes and supports has shown
            with pyro.validation_enabled(step == 0):
                x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)  # noqa: PLW2901
                values = self.step.gradient(x, y, step / self.steps)
                step += 1
                if self.device.type == "cpu":
                    self._guard(values, step)
                self.step.update()
            sums += values
            count += 1
            if bar.due:
                means = (sums / count).tolist()
                weights = list(map(mean_weight, self.step.elbo.site_scale.values()))
                bar.advance(loss=means[0], KL=means[2], β=_range(weights))
            else:
                bar.advance()
        if count == 0:
            raise FitError(NOTHING)
        self._guard(sums, step)
        # a last step that leapt to infinity has had no loss yet, and must not reach the checkpoint
        if not all(bool(p.detach().isfinite().all()) for p in self.parameters):
            raise self._diverged(step)
        trained = time.perf_counter() - started
        self.state.epoch += 1
        self.ranks.average_statistics(self.model.network)
        self.ranks.agree(self.model, self.guide)
        self._freeze()
        if self.settings.shrink_every and self.state.epoch % self.settings.shrink_every == 0:
            self._shrink()
        self.state.seconds += time.perf_counter() - started
        record = self.ranks.tell(self._record((sums / max(1, count)).tolist(), 1000 * trained / max(1, count)))
        self.state.history.append(record)
        self._observe(record)
        for callback in self.settings.callbacks:
            callback(self.state)
        self.state.stop = self.ranks.any(self.state.stop)
        self._save()
        shown = {"epoch": f"{self.state.epoch}/{self.settings.epochs}", "kept": record["kept"]}
        shown["FLOPs"] = f"{100 * record['expected_flops'] / record['total_flops']:.3g} %"
        if "val_error" in record:
            shown["val"] = written(record["val_error"], self.model.likelihood.metric)
        bar.annotate(**shown)

    def _guard(self, values: Tensor, step: int) -> None:
        """Stop at a loss that is no number: on the CPU at its step, elsewhere at the end of its epoch."""
        if not math.isfinite(float(values.sum())):
            raise self._diverged(step)

    def _diverged(self, step: int) -> FitError:
        where = f"the last checkpoint {self.saved} is good" if self.saved else "there is no checkpoint"
        return FitError(
            f"the loss is NaN or infinite at step {step} (epoch {self.state.epoch + 1}); {where}. "
            "Lower lr and lr_log_var, clip the gradient (clip=1.0), or look for bad data"
        )

    def _freeze(self) -> None:
        at = self.settings.freeze_at
        if at is None or self.state.epoch < at * self.settings.epochs:
            return
        if any("frozen" in record for record in self.state.history):
            return
        families = self.guide.families
        # a layer whose every weight is dead keeps its best one, and says so
        for site, mask in keep_masks(families, self.settings.threshold, notes=[]).items():
            families[site].freeze(mask)

    def _shrink(self) -> None:
        """Cut dead units; where the network's form forbids it altogether, say so once."""
        first = self.state.epoch == self.settings.shrink_every
        links = self.shrinker.links
        layers = [note for note in links.notes if not note.startswith("the input")]
        if first and layers and not any(units.producers for units in links.links):
            warnings.warn(
                f"live shrinking can cut no unit: {'; '.join(layers)}. The fit goes on at full size; "
                "shrink_every=0 says that this is meant",
                PyrosparseWarning,
                stacklevel=4,
            )
        self.shrinker.step(undecided=self._undecided())

    def _undecided(self) -> list[str]:
        """Sites that are judged by how sure their weights are, as long as the weight of their KL will still rise.

        Under little KL a mean that happens to cross 0 looks like one that nothing needs, and a cut is for good.
        """
        t = self.state.epoch / self.settings.epochs
        return [
            family.site
            for family in self.guide.families.values()
            if getattr(family, "criterion", None) is Criterion.INFORMATION and rises(self.schedules[family.site], t)
        ]

    def _observe(self, record: dict[str, Any]) -> None:
        """Let schedules that watch the run look at it; each of them once."""
        for schedule in {id(s): s for s in self.schedules.values()}.values():
            if hasattr(schedule, "observe"):
                schedule.observe(record)

    def _record(self, means: list[float], step_ms: float) -> dict[str, Any]:
        t = self.state.epoch / self.settings.epochs
        record: dict[str, Any] = {
            "epoch": self.state.epoch,
            "loss": means[0],
            "log_likelihood": means[1],
            "kl": means[2],
            "kl_sites": {site: float(kl) for site, kl in self.step.kl.items()},
            "beta": self.settings.kl_schedule(t),
            "beta_sites": {site: mean_weight(schedule(t)) for site, schedule in self.schedules.items()},
            "progress": t,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": self.state.seconds,
            "step_ms": step_ms,
            "replayed": self.step.played / self.per_epoch,
        } | self.remaining.record()
        if self.settings.shrink_every and self.shrinker.links.notes:
            record["notes"] = list(self.shrinker.links.notes)
        if self.settings.freeze_at is not None and self.state.epoch >= self.settings.freeze_at * self.settings.epochs:
            record["frozen"] = True
        if self.val_loader is not None:
            metrics = validated(self.model, self.guide, self.val_loader, threshold=self.settings.threshold)
            record |= {"val_error": metrics.error, "val_log_likelihood": metrics.log_likelihood}
            if metrics.metric == "error":  # of numbers, 1 − error would mean nothing
                record["val_accuracy"] = metrics.accuracy
        return record

    def _save(self) -> None:
        if self.settings.checkpoint is None:
            return
        last = self.state.epoch >= self.settings.epochs or self.state.stop
        if self.state.epoch % self.settings.checkpoint_every and not last:
            return
        path = Path(self.settings.checkpoint)
        self.saved = path / CHECKPOINT
        if not self.ranks.first:
            return
        packed = pack(self.state, self.shrinker, self.loader, self.fingerprint)
        save_checkpoint(path, packed)


def _own(schedules: dict[str, Schedule]) -> dict[str, Schedule]:
    """Copy schedules that watch the run, so that the user's own can serve another one."""
    copies = {id(s): copy(s) if hasattr(s, "observe") else s for s in schedules.values()}
    return {site: copies[id(s)] for site, s in schedules.items()}


def _range(values: Collection[float]) -> float | str:
    """One number where all agree, and else the smallest and the largest."""
    low, high = min(values), max(values)
    return low if low == high else f"{low:.3g}–{high:.3g}"
