"""What all stages share: settings, folder, data, device, seeds, and how a stage is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pyro
import torch
from safetensors.torch import save
from torch import Tensor, nn

from pyrosparse.config import Config
from pyrosparse.infer import evaluate
from pyrosparse.infer.ranks import Ranks
from pyrosparse.pipeline import build
from pyrosparse.pipeline.folder import SCHEMA, RunFolder, versions
from pyrosparse.pipeline.measure import scores, sizes
from pyrosparse.text import size

__all__ = ["Context"]

T = TypeVar("T")

_SEEDS = {
    "network": 0,
    "teacher": 1,
    "dense": 2,
    "fit": 3,
    "fine_tune": 4,
    "reconstruct": 5,
    "magnitude": 6,
    "l1": 7,
    "quantise": 8,
    "random_code": 9,
}


class Context:
    """One run. Making it loads and checks data, network, priors and device; nothing is written.

    :param config: the settings.
    :param folder: where everything goes.
    :param say: gets one line of text a stage.
    """

    def __init__(self, config: Config, folder: RunFolder, say: Callable[[str], None]) -> None:
        self.config, self.folder, self.say = config, folder, say
        self.ranks = Ranks()
        self.device = build.device(config)
        self.data = build.dataset(config)
        if config.export.onnx:
            build.check_onnx()
        self.likelihood = build.likelihood(self.data)
        self.seed("network")
        self.network = build.network("model", config.model)
        build.check_fits(self.network, config.model.name, self.data)
        if config.pretrain.weights is not None:
            build.weights(self.network, config.pretrain.weights)
        if config.has_posterior:
            build.check_model(config, self.network, self.data)
        build.check_reconstruct(config, self.network, self.data)
        self.teacher = build.teacher(config, self.data)
        self.train = build.loader(self.data.x_train, self.data.y_train, config, where=self.device, train=True)
        self.val = build.loader(self.data.x_val, self.data.y_val, config, where=self.device)

    def number(self, stage: str) -> int:
        """Seed of a stage: its own, so that it gives the same whatever was skipped before it."""
        return self.config.seed * 100 + _SEEDS[stage]

    def seed(self, stage: str) -> None:
        """Seed every generator for a stage."""
        pyro.set_rng_seed(self.number(stage))

    def after_first(self, make: Callable[[], T]) -> T:
        """Let the first process make something and write it down; the others read what it has written."""
        if self.ranks.first:
            made = make()
            self.ranks.wait()
            return made
        self.ranks.wait()
        self.folder.refresh()
        return make()

    def describe(self) -> None:
        """Write into the metrics what run this is."""
        self.folder.metrics.update(
            schema=SCHEMA,
            versions=versions(),
            seed=self.config.seed,
            config=self.config.to_dict(),
            device=str(self.device),
            threads=torch.get_num_threads(),
            data=str(self.data),
            model=self.config.model.name,
        )

    @property
    def aids(self) -> list[str]:
        """What a reader of the results must know of the data."""
        shift, tuning = self.config.data.shift, self.config.fine_tune
        notes = [f"trained with shifts of up to {shift} pixels"] if shift else []
        if tuning.epochs and tuning.teacher_weight:
            notes.append("fine-tuned on labels softened by the dense network")
        return notes

    def write_state(self, name: str, network: nn.Module) -> None:
        """Write the parameters and buffers of a network as safetensors."""
        self.write_tensors(name, network.state_dict())

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors as safetensors; each gets its own memory, also those that share it."""
        self.folder.write(name, save({k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}))

    def error(self, network: nn.Module) -> float:
        """Validation error."""
        return evaluate(network, self.val, likelihood=self.likelihood).error

    def finish(
        self,
        stage: str,
        network: nn.Module,
        seconds: float,
        *,
        record: Mapping[str, Any] | None = None,
        error: float | None = None,
        **others: Any,
    ) -> None:
        """Write down a stage: validation error and sizes of its network, time, and what else it has to say.

        :param record: entries that replace or join the row of the stage.
        :param error: validation error, where it was measured another way.
        :param others: other entries of the metrics.
        """
        if error is None:
            error = self.error(network)
        row = {**sizes(network), **scores(error), "seconds": seconds, **(record or {})}
        self.folder.finish(stage, row, **others)
        self.say(
            f"{stage:<11} {100 * row['val_accuracy']:6.2f} % right on validation data, "
            f"{row['nonzero']:,} numbers, {size(row['bytes'])}, {seconds:.1f} s"
        )


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() - self._start
