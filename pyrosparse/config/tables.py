"""The settings of a run: a TOML file, checked key by key before any work.

Every table of the file is a class here, every key an attribute with its default and its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pyrosparse.arguments import parse_size
from pyrosparse.config.base import Options, Share, Table
from pyrosparse.config.files import Export, File, Quantise, RandomCode
from pyrosparse.config.reconstruct import Reconstruct

__all__ = [
    "Baselines",
    "Config",
    "Data",
    "Export",
    "File",
    "FineTune",
    "Fit",
    "Model",
    "Posterior",
    "Pretrain",
    "PriorChoice",
    "PriorTable",
    "Prune",
    "Quantise",
    "RandomCode",
    "Reconstruct",
    "Scheduled",
    "Teacher",
]


class Data(Table):
    """``[data]``: where the examples come from and how they are fed."""

    source: str = "digits"
    path: str | None = None
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] | PositiveInt | None = None
    batch_size: PositiveInt = 128
    shift: NonNegativeInt = 0


class Model(Table):
    """``[model]``: a network of the zoo, or ``"module:factory"`` of the user, and the factory's arguments."""

    name: str = "digits_mlp"
    args: Options = Field(default_factory=dict)


class PriorChoice(Table):
    """A prior by its name in :mod:`pyrosparse.priors`, and its arguments."""

    name: str = "LogUniform"
    args: Options = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class PriorTable(PriorChoice):
    """``[prior]``: the prior of every layer, exceptions by layer or pattern, and which layers take part."""

    layers: dict[str, PriorChoice] = Field(default_factory=dict)
    include: list[str] | None = None
    exclude: list[str] = Field(default_factory=list)


class Pretrain(Table):
    """``[pretrain]``: the dense network that the posterior starts from; ``weights`` is a safetensors file."""

    epochs: NonNegativeInt = 10
    lr: PositiveFloat = 1e-3
    weights: str | None = None


class Scheduled(Table):
    """A schedule by its name in :mod:`pyrosparse.infer.schedules`, and its arguments."""

    name: str = "warm_up"
    args: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"name": "constant", "args": {"value": float(value)}}
        if isinstance(value, dict) and isinstance(value.get("args"), dict):
            args = {k: float(v) if type(v) is int else v for k, v in value["args"].items()}
            return {**value, "args": args}
        return value


class Teacher(Table):
    """``[fit.teacher]``: a dense network whose opinions soften the labels (distillation)."""

    name: str = "lenet_5_caffe"
    args: Options = Field(default_factory=dict)
    weights: str | None = None
    epochs: PositiveInt = 4
    lr: PositiveFloat = 1e-3
    shift: NonNegativeInt | None = None
    weight: Share = 0.7
    temperature: PositiveFloat = 2.0


class Fit(Table):
    """``[fit]``: the posterior. ``kl`` weighs the KL terms; ``kl_layers`` has exceptions by layer.

    ``max_std`` caps posterior standard deviations by layer; ``criterion`` says what decides whether a group is kept;
    ``relation`` gives posteriors of complex weights a relation; ``autocast`` computes products in half precision;
    ``replay`` plays steps from a tape, and is chosen by itself where it is left out.
    """

    epochs: PositiveInt = 60
    lr: PositiveFloat = 2e-3
    lr_log_var: PositiveFloat = 5e-2
    lr_scale: PositiveFloat = 3e-2
    max_std: dict[str, PositiveFloat] = Field(default_factory=dict)
    criterion: Literal["scale", "information"] = "scale"
    relation: bool = False
    lr_schedule: Scheduled = Scheduled(name="cosine", args={"hold": 0.4})
    log_var: float = -6.0
    kl: Scheduled = Scheduled(name="warm_up", args={"until": 0.3})
    kl_layers: dict[str, Scheduled] = Field(default_factory=dict)
    shrink_every: NonNegativeInt = 2
    freeze_at: Share = 0.85
    threshold: float = 3.0
    clip: PositiveFloat | None = None
    autocast: Literal["bfloat16"] | None = None
    replay: bool | None = None
    teacher: Teacher | None = None


class Prune(Table):
    """``[prune]``: what is cut. ``"auto"`` may lose ``tolerance`` of the accuracy (0.002 is 0.2 points)."""

    threshold: float | Literal["auto"] = "auto"
    budget: str | PositiveInt | None = None
    tolerance: Share = 0.002
    curve: list[float] = Field(default_factory=lambda: [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0])

    @model_validator(mode="after")
    def _one_goal(self) -> Prune:
        if self.budget is not None:
            if "threshold" in self.model_fields_set and self.threshold != "auto":
                raise ValueError("give a threshold or a budget, not both")
            parse_size(self.budget)
        return self

    @property
    def budget_bytes(self) -> int | None:
        """The budget as a number of bytes."""
        return None if self.budget is None else parse_size(self.budget)


class FineTune(Table):
    """``[fine_tune]``: training of the pruned network, its mask fixed; 0 epochs leave it out.

    ``teacher_weight`` is the share of the run's own dense network in the labels, whose logits ``temperature`` divides.
    """

    epochs: NonNegativeInt = 0
    lr: PositiveFloat = 1e-4
    teacher_weight: Share = 0.0
    temperature: PositiveFloat = 4.0


class Baselines(Table):
    """``[baselines]``: what the result is compared with, made of the same dense network, each with its own file.

    ``magnitude`` keeps the largest weights, as many as the posterior has kept unless ``density`` says another share,
    and trains them for ``epochs``; ``kmeans`` gives these at most ``clusters`` values a layer; ``l1`` trains with a
    ``penalty`` on the size of each weight for ``l1_epochs``, keeps what it leaves, or as many of it, and trains that
    without it for ``epochs``. The size of a complex weight is its modulus.
    """

    methods: Annotated[list[Literal["magnitude", "l1", "kmeans"]], Field(min_length=1)] = ["magnitude", "l1", "kmeans"]
    density: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    epochs: NonNegativeInt = 10
    lr: PositiveFloat = 1e-3
    penalty: PositiveFloat = 1e-3
    l1_epochs: PositiveInt = 20
    l1_lr: PositiveFloat = 1e-2
    clusters: PositiveInt = 16


class Posterior(Table):
    """``[posterior]``: how many draws, of how many weights a site, go into posterior.nc."""

    draws: PositiveInt = 200
    max_weights: PositiveInt = 64


_OF_A_POSTERIOR = ("prior", "fit", "prune", "posterior")


class Config(Table):
    """A whole configuration; ``seed`` and ``device`` stand at the top of the file."""

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0  # what numpy's generators take
    device: str = "auto"
    data: Data = Field(default_factory=Data)
    model: Model = Field(default_factory=Model)
    prior: PriorTable = Field(default_factory=PriorTable)
    pretrain: Pretrain = Field(default_factory=Pretrain)
    reconstruct: Reconstruct | None = None
    fit: Fit = Field(default_factory=Fit)
    prune: Prune = Field(default_factory=Prune)
    fine_tune: FineTune = Field(default_factory=FineTune)
    quantise: Quantise = Field(default_factory=Quantise)
    baselines: Baselines | None = None
    file: File = Field(default_factory=File)
    random_code: RandomCode = Field(default_factory=RandomCode)
    export: Export = Field(default_factory=Export)
    posterior: Posterior = Field(default_factory=Posterior)

    @property
    def has_posterior(self) -> bool:
        """Whether there is a fit; not where reconstruction stands in its place."""
        return self.reconstruct is None or self.reconstruct.position != "instead"

    @model_validator(mode="after")
    def _no_posterior_no_tables(self) -> Config:
        given = [name for name in _OF_A_POSTERIOR if name in self.model_fields_set]
        if given and not self.has_posterior:
            tables = ", ".join(f"[{name}]" for name in given)
            raise ValueError(f"reconstruct.position = 'instead' leaves no posterior: take {tables} out")
        return self

    @model_validator(mode="after")
    def _centres_or_steps(self) -> Config:
        if self.file.codebook is not None and (self.quantise.epochs or not self.has_posterior):
            raise ValueError(
                "file.codebook needs a posterior, and no [quantise], which trains for steps: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _codes_or_integers(self) -> Config:
        if self.file.codec == "integers":
            if self.random_code != RandomCode():
                raise ValueError("[random_code] is for file.codec = 'random-code': set it, or take the table out")
            return self
        wrong = {
            "[quantise], which trains for steps": self.quantise.epochs,
            "file.codebook": self.file.codebook,
            "file.rate_weight": self.file.rate_weight,
            "prune.budget": self.prune.budget,
        }
        found = [name for name, given in wrong.items() if given]
        if found or not self.has_posterior:
            without = f", without {' and '.join(found)}" if found else ""
            raise ValueError(f"file.codec = 'random-code' needs a posterior{without}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, every default filled in, without the Nones and tables that have no part in the run."""
        absent = set() if self.has_posterior else set(_OF_A_POSTERIOR)
        if self.file.codec == "integers":
            absent.add("random_code")
        return self.model_dump(mode="json", exclude_none=True, exclude=absent)

    def changes(self, other: Config) -> list[str]:
        """Dotted keys whose values differ between two configurations."""
        return _differences(self.to_dict(), other.to_dict())


def _differences(a: dict[str, Any], b: dict[str, Any], path: Sequence[str] = ()) -> list[str]:
    found: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        here = (*path, key)
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += _differences(left, right, here)
        elif left != right:
            found.append(".".join(here))
    return found
