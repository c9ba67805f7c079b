"""The stages that make the network smaller: prune, fine-tune, and the curve of error against bytes."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrosparse import coding
from pyrosparse.coding.codes import RANDOM_CODE
from pyrosparse.data import TensorLoader
from pyrosparse.errors import PyrosparseWarning
from pyrosparse.pipeline import build
from pyrosparse.pipeline.context import Clock, Context
from pyrosparse.pipeline.fitting import Fitting
from pyrosparse.pipeline.measure import in_file, sizes
from pyrosparse.pipeline.reconstructing import reconstructed
from pyrosparse.posterior import read
from pyrosparse.pruning import Pruned, as_pruned, fine_tune, prune

__all__ = ["Cutting"]

_NO_POSTERIOR = (
    "there is no posterior: each layer is rounded in steps of c/8 of the root mean square of its weights in the file"
)


class Cutting:
    """Makes each network once, or again from what an earlier run has left."""

    def __init__(self, run: Context, fitting: Fitting) -> None:
        self.run, self.fitting = run, fitting

    @cached_property
    def plan(self) -> Pruned:
        """What the settings ask for; nothing is written."""
        table = self.run.config.prune
        if table.budget_bytes is not None:
            c = self.run.config.file.c
            return self._cut(budget=table.budget_bytes, val_loader=self.run.val, **({} if c is None else {"c": c}))
        return self._cut(threshold=table.threshold, val_loader=self.run.val, tolerance=table.tolerance)

    @cached_property
    def pruned(self) -> Pruned:
        """The pruned network, written down."""
        run = self.run
        if run.folder.finished("prune"):
            known = float(run.folder.metrics["threshold"])
            return self._cut(threshold=known, val_loader=run.val)
        clock = Clock()
        pruned = self.plan
        report = pruned.report.to_dict()
        run.write_state("pruned.safetensors", pruned.network)
        self._write_posterior(pruned)
        run.finish(
            "prune",
            pruned.network,
            clock(),
            threshold=report["threshold"],
            layers=report["layers"],
            prune=report,
            units={
                "original": [layer["original_units"] for layer in report["layers"]],
                "kept": [layer["units"] for layer in report["layers"]],
            },
            notes=[*run.folder.stage("fit").get("notes", []), *report["notes"]],
        )
        return pruned

    @cached_property
    def cut(self) -> Pruned:
        """The network when all units are gone that will go: pruned, reconstructed, or one after the other."""
        run, table = self.run, self.run.config.reconstruct
        dense = sizes(self.fitting.dense)["parameters"]
        if table is None or table.position == "before":
            return self.pruned
        if table.position == "instead":
            run.folder.metrics["notes"] = [*run.aids, _NO_POSTERIOR]
            return as_pruned(self.fitting.start, original_parameters=dense, likelihood=run.likelihood)
        before = self.pruned
        network = reconstructed(run, before.network, "reconstruct_pruned")
        weights = sizes(before.network)["nonzero"], sizes(network)["nonzero"]
        note = f"reconstruction after pruning fills what was 0 in the layers: {weights[0]:,} → {weights[1]:,} numbers"
        run.folder.metrics["notes"] = [n for n in run.folder.metrics["notes"] if n != note] + [note]
        return as_pruned(network, original_parameters=before.original_parameters, before=before)

    @cached_property
    def fine_tuned(self) -> Pruned:
        """The network that is left, fine-tuned if there are epochs for it."""
        run, table = self.run, self.run.config.fine_tune
        if not table.epochs:
            return self.cut
        tuned = self.cut
        if run.folder.finished("fine_tune"):
            tuned = fine_tune(self.cut, run.train, epochs=0, lr=table.lr)  # a copy
            build.weights(tuned.network, str(run.folder / "fine_tuned.safetensors"))
            return tuned
        run.seed("fine_tune")
        clock = Clock()
        train = run.train
        if table.teacher_weight:
            train = train.soften(self.fitting.dense, weight=table.teacher_weight, temperature=table.temperature)
        tuned = fine_tune(self.cut, train, epochs=table.epochs, lr=table.lr, val_loader=run.val)
        run.write_state("fine_tuned.safetensors", tuned.network)
        run.finish("fine_tune", tuned.network, clock())
        return tuned

    @cached_property
    def small(self) -> Pruned:
        """The network that goes into the file: trained through its rounding, if there are epochs for it."""
        run, table = self.run, self.run.config.quantise
        if not table.epochs:
            return self.fine_tuned
        if run.folder.finished("quantise"):
            ended = fine_tune(self.fine_tuned, run.train, epochs=0)  # a copy
            build.weights(ended.network, str(run.folder / "quantised.safetensors"))
            return ended
        train = self.taught()
        run.seed("quantise")
        clock = Clock()
        fixed = run.config.file.c
        ended, c = coding.coarsest_ending(
            self.fine_tuned,
            train,
            grid=table.c if fixed is None else (fixed,),
            epochs=table.epochs,
            lr=table.lr,
            val_loader=run.val,
            tolerance=run.config.file.tolerance,
        )
        run.write_state("quantised.safetensors", ended.network)
        run.finish("quantise", ended.network, clock(), record={"c": c})
        return ended

    def taught(self) -> TensorLoader:
        """The training data; with soft labels where the fit had them: hard ones over-fit a small network."""
        run, teacher = self.run, self.run.config.fit.teacher
        if teacher is None or self.fitting.teacher is None:
            return run.train
        return run.train.soften(self.fitting.teacher, weight=teacher.weight, temperature=teacher.temperature)

    def coded(self, pruned: Pruned) -> Pruned:
        """Random codes of a network's posterior as it is."""
        table = self.run.config.random_code
        return coding.code_posterior(pruned, bits=table.bits, rate=table.rate)

    def fitted_codes(self) -> Pruned:
        """Random codes of the network that goes into the file, fitted if there are epochs for it."""
        run, table = self.run, self.run.config.random_code
        if not table.epochs:
            return self.coded(self.small)
        train = self.taught()
        run.seed("random_code")
        return coding.random_code(
            self.small,
            train,
            bits=table.bits,
            rate=table.rate,
            settle=table.settle,
            rounds=table.rounds,
            epochs=table.epochs,
            lr=table.lr,
            seed=run.number("random_code"),
        )

    def curve(self) -> None:
        """Measure validation error and bytes at a row of thresholds, without what comes after pruning."""
        run = self.run
        if not run.config.has_posterior or run.folder.finished("curve"):
            return
        written = run.folder.stage("file")
        c, table = written.get("c"), run.config.file
        options: dict[str, Any] = {
            "codec": table.codec, "codebook": table.codebook, "rate_weight": written.get("rate_weight") or 0.0,
        }  # fmt: skip
        chosen = float(run.folder.metrics["threshold"])
        points = []
        for threshold in sorted({*run.config.prune.curve, chosen}):
            with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory() as place:
                warnings.simplefilter("always", PyrosparseWarning)
                pruned = self._cut(threshold=threshold)
                if options["codec"] == RANDOM_CODE:
                    pruned = self.coded(pruned)
                info = coding.save(Path(place) / "point.psz", pruned, c=c, **options)
                network = in_file(pruned, c, **options)
            points.append(
                {
                    "threshold": threshold,
                    "kept": pruned.report.kept,
                    "nonzero": sizes(network)["nonzero"],
                    "bytes": info.bytes,
                    "val_error": run.error(network),
                    "notes": [str(w.message) for w in caught if issubclass(w.category, PyrosparseWarning)],
                }
            )
        run.folder.finish("curve", curve=points)
        run.say(f"curve       {len(points)} thresholds")

    def _cut(self, **options: Any) -> Pruned:
        """Prune; the file is compared with the dense network, whatever was reconstructed before the fit."""
        pruned = prune(*self.fitting.posterior, **options)
        table = self.run.config.reconstruct
        if table is None or table.position != "before":
            return pruned
        return replace(pruned, original_parameters=sizes(self.fitting.dense)["parameters"])

    def _write_posterior(self, pruned: Pruned) -> None:
        tensors: dict[str, Tensor] = {}
        for site, posterior in read(*self.fitting.posterior).items():
            tensors[f"{site}/mean"] = posterior.mean()
            tensors[f"{site}/std"] = posterior.std()
            if (covariance := posterior.covariance()) is not None:
                tensors[f"{site}/covariance"] = covariance
            tensors[f"{site}/relevance"] = posterior.relevance()
            tensors[f"{site}/keep"] = pruned.masks[site].to(torch.uint8)
        self.run.write_tensors("posterior.safetensors", tensors)
