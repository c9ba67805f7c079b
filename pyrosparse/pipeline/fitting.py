"""The stages that make a posterior: teacher, dense network, fit."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from torch import nn

from pyrosparse.data import TensorLoader
from pyrosparse.guides import AutoSparse
from pyrosparse.infer import fit, train
from pyrosparse.infer.schedules import named
from pyrosparse.model import SparseModel
from pyrosparse.pipeline import build
from pyrosparse.pipeline.context import Clock, Context
from pyrosparse.pipeline.measure import mean_network
from pyrosparse.pipeline.reconstructing import reconstructed
from pyrosparse.posterior import read, summarize
from pyrosparse.posterior.arviz import to_arviz
from pyrosparse.posterior.scales import summarize_scales

__all__ = ["Fitting"]


class Fitting:
    """Makes each network once, or reads what an earlier run has left of it."""

    def __init__(self, run: Context) -> None:
        self.run = run

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The network whose opinion softens the labels; None without ``[fit.teacher]``."""
        run, table = self.run, self.run.config.fit.teacher
        if table is None or run.teacher is None:
            return None
        network = run.teacher.to(run.device)
        if table.weights is not None:
            return network.eval()
        if run.folder.finished("teacher"):
            build.weights(network, str(run.folder / "teacher.safetensors"))
            return network.eval()
        run.seed("teacher")
        clock = Clock()
        shift = run.config.data.shift if table.shift is None else table.shift
        x, y = run.data.x_train, run.data.y_train
        loader = TensorLoader(x, y, run.config.data.batch_size, shift=shift, device=run.device)
        network = train(network, loader, epochs=table.epochs, lr=table.lr, val_loader=run.val)
        run.write_state("teacher.safetensors", network)
        run.finish("teacher", network, clock())
        return network

    @cached_property
    def dense(self) -> nn.Module:
        """The pre-trained network."""
        run, table = self.run, self.run.config.pretrain
        network = run.network.to(run.device)
        if run.folder.finished("dense"):
            build.weights(network, str(run.folder / "dense.safetensors"))
            return network.eval()
        run.seed("dense")
        clock = Clock()
        network = train(
            network, run.train, epochs=table.epochs, lr=table.lr, likelihood=run.likelihood, val_loader=run.val
        )
        run.write_state("dense.safetensors", network)
        run.finish("dense", network, clock())
        return network

    @cached_property
    def start(self) -> nn.Module:
        """The network that the posterior starts from, or that stands in its place: dense, or what is made of that."""
        table = self.run.config.reconstruct
        if table is None or table.position == "after":
            return self.dense
        return reconstructed(self.run, self.dense, "reconstruct")

    @cached_property
    def posterior(self) -> tuple[SparseModel, AutoSparse]:
        """Model and guide, fitted; the fit goes on from its checkpoint if there is one."""
        run, table = self.run, self.run.config.fit
        start, options = run.after_first(self._beginning)
        finished = run.folder.finished("fit")
        model, guide = build.sparse_pair(run.config, start, build.likelihood(run.data))
        fitted = fit(
            model,
            guide,
            run.train,
            epochs=table.epochs,
            val_loader=run.val,
            kl_schedule=named(table.kl.name, **table.kl.args),
            site_schedules=build.site_schedules(run.config),
            lr=table.lr,
            lr_log_var=table.lr_log_var,
            lr_scale=table.lr_scale,
            lr_schedule=named(table.lr_schedule.name, **table.lr_schedule.args),
            clip=table.clip,
            autocast=table.autocast,
            replay=table.replay,
            threshold=table.threshold,
            shrink_every=table.shrink_every,
            freeze_at=table.freeze_at,
            checkpoint=run.folder / "checkpoint",
            resume=True,
            device=run.device,
            seed=run.number("fit"),
            callbacks=(lambda state: self._write_history(state.history),) if run.ranks.first else (),
            **options,
        )
        if run.ranks.first and not finished:
            self._write_history(fitted.history)
            self._write_draws(model, guide)
            summary = summarize(model, guide, threshold=table.threshold).to_dict()
            seconds = float(fitted.history[-1]["seconds"])
            notes = self._notes(model)
            run.finish(
                "fit",
                mean_network(model, guide),
                seconds,
                record={"notes": notes},
                summary=summary,
                scales=summarize_scales(read(model, guide)),
                notes=notes,
            )
        return model, guide

    def _beginning(self) -> tuple[nn.Module, dict[str, Any]]:
        """The network that the fit starts from, and what its teacher needs."""
        start, table = self.start, self.run.config.fit.teacher
        if table is None or self.run.folder.finished("fit"):  # the checkpoint of a finished fit needs no teacher
            return start, {}
        return start, {"teacher": self.teacher, "teacher_weight": table.weight, "temperature": table.temperature}

    def _notes(self, model: SparseModel) -> list[str]:
        """What a reader of the results must know of the fit: aids, and whether the posterior is a true one."""
        config, notes = self.run.config, self.run.aids
        if config.fit.teacher is not None:
            notes.append(f"trained on labels softened by a teacher, {config.fit.teacher.name}")
        if config.reconstruct is not None and config.reconstruct.position == "before":
            notes.append(
                "the posterior starts from the reconstructed network: weights and units before pruning are those of "
                "it, sizes are compared with the dense network"
            )
        cold = build.cold_sites(config, model)
        if cold:
            weights = ", ".join(f"{weight:g}" for weight in sorted(set(cold.values())))
            places = "all layers" if len(cold) == len(model.sites) else ", ".join(cold)
            notes.append(f"cold posterior: the KL terms of {places} end the fit with weight {weights}, not 1")
        return notes

    def _write_history(self, history: list[dict[str, Any]]) -> None:
        self.run.folder.write("history.jsonl", "".join(json.dumps(record) + "\n" for record in history))

    def _write_draws(self, model: SparseModel, guide: AutoSparse) -> None:
        table = self.run.config.posterior
        draws = to_arviz(
            model,
            guide,
            draws=table.draws,
            max_weights=table.max_weights,
            threshold=self.run.config.fit.threshold,
            seed=self.run.config.seed,
        )
        self.run.folder.place("posterior.nc", lambda path: draws.to_netcdf(str(path)))
