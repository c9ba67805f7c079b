"""From settings to objects: data, network, priors, model, each checked before any work."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from pyrosparse import models
from pyrosparse.coding.codes import RANDOM_CODE
from pyrosparse.config.reader import known_priors
from pyrosparse.config.tables import Config, Model, PriorChoice, Teacher
from pyrosparse.data import Dataset, TensorLoader, load
from pyrosparse.errors import ConfigError, DataError, NetworkError
from pyrosparse.guides import AutoSparse
from pyrosparse.infer.schedules import Schedule, named
from pyrosparse.infer.settings import FitSettings, pick_device
from pyrosparse.likelihoods import Categorical, Likelihood, MultiLabel
from pyrosparse.model import SparseModel
from pyrosparse.priors import Prior
from pyrosparse.reconstruction.goals import Aim, goals_of
from pyrosparse.reconstruction.stage import movable_units
from pyrosparse.text import nearest

__all__ = [
    "check_fits",
    "check_model",
    "check_onnx",
    "check_reconstruct",
    "cold_sites",
    "dataset",
    "device",
    "likelihood",
    "loader",
    "network",
    "site_schedules",
    "sparse_pair",
    "teacher",
    "weights",
]

EVALUATION_BATCH = 1000


def dataset(config: Config) -> Dataset:
    """Load the data of ``[data]``."""
    return load(config.data.source, config.data.path, validation=config.data.validation, seed=config.seed)


def loader(x: Tensor, y: Tensor, config: Config, *, train: bool = False, where: torch.device) -> TensorLoader:
    """Batches: shuffled, shifted and of the configured size for training, plain and large otherwise."""
    if train:
        return TensorLoader(x, y, config.data.batch_size, shuffle=True, shift=config.data.shift, device=where)
    return TensorLoader(x, y, EVALUATION_BATCH, shuffle=False, device=where)


def device(config: Config) -> torch.device:
    """Find the device of ``device``; ``"auto"`` is CUDA where there is one.

    :raises ConfigError: when torch does not know it or does not have it.
    """
    return pick_device(config.device)


def network(key: str, table: Model | Teacher) -> nn.Module:
    """Build a network of the zoo, or call the user's ``"module:factory"``, found from the current folder too.

    :param key: the table in the configuration, for messages.
    :param table: has the name and the arguments.
    :raises ConfigError: when there is no such module or factory.
    :raises NetworkError: when the factory fails or gives no :class:`torch.nn.Module`.
    """
    name = table.name
    if ":" not in name:
        try:
            return models.build(name, **table.args)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{key}.args = {table.args} do not make a {name}: {error}") from error
    module_name, _, factory_name = name.partition(":")
    with _current_folder():
        try:
            if find_spec(module_name) is None:
                raise ModuleNotFoundError(module_name)
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{key}.name = {name!r}: module {module_name!r} cannot be imported ({error}); "
                f"it is looked for in {os.getcwd()} and in the installed packages"
            ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ConfigError(f"{key}.name = {name!r}: {module_name} has no function {factory_name!r}")
    try:
        built = factory(**table.args)
    except Exception as error:
        raise NetworkError(f"{key}.name = {name!r}: the factory failed with {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise NetworkError(f"{key}.name = {name!r} gives a {type(built).__name__}: it must give a torch.nn.Module")
    return built


def check_fits(built: nn.Module, name: str, data: Dataset) -> None:
    """Run the network on two examples and see that there is one output for each class.

    :raises DataError: when the examples or the classes do not fit.
    """
    was_training = built.training
    built.eval()
    try:
        with torch.no_grad():
            output = built(data.x_train[:2])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"examples of shape {data.input_shape} from {data.name} do not fit the network {name}: {reason}"
        ) from error
    finally:
        built.train(was_training)
    rows = min(2, data.num_train)
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != rows:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DataError(
            f"the network {name} gives {shape} for {rows} examples: it must give logits of shape (B, classes)"
        )
    if output.is_complex():
        raise DataError(f"the network {name} gives complex outputs: end it with a layer that gives real logits")
    if data.several and output.shape[1] != data.num_classes:
        raise DataError(
            f"the network {name} has {output.shape[1]} outputs and {data.name} has {data.num_classes} labels that may "
            "hold together: give it one output a label"
        )
    if output.shape[1] < data.num_classes:
        raise DataError(
            f"the network {name} has {output.shape[1]} outputs and {data.name} has {data.num_classes} "
            "classes: give it one output a class"
        )


def weights(built: nn.Module, path: str) -> None:
    """Load a safetensors file into a network.

    :raises NetworkError: when the file is missing or damaged, its names and shapes are not the network's, or a number
        in it is NaN or infinite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise NetworkError(f"there is no file {path}: weights must be a safetensors file")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise NetworkError(f"{path} is not a whole safetensors file: {error}") from error
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NetworkError(f"{path}: {name} holds NaN or infinity; weights must be finite")
    try:
        built.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise NetworkError(f"{path} does not fit the network: {' '.join(lines[:2])}") from error


def prior(choice: PriorChoice) -> Prior:
    """Make the prior that a table names; ``individual`` of a group prior is the name of another one."""
    args = dict(choice.args)
    inner = args.get("individual")
    if isinstance(inner, str):
        if inner not in known_priors():
            raise ConfigError(f"prior {choice.name!r}: individual = {inner!r}{nearest(inner, known_priors())}")
        args["individual"] = prior(PriorChoice(name=inner))
    try:
        made = known_priors()[choice.name](**args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"prior {choice.name!r} cannot be made with {choice.args}: {error}") from error
    assert isinstance(made, Prior)
    return made


def likelihood(data: Dataset) -> Likelihood:
    """How labels are explained: by classes, or by each label for itself where several may hold together."""
    return (MultiLabel if data.several else Categorical)(num_data=data.num_train)


def sparse_pair(config: Config, dense: nn.Module, observed: Likelihood) -> tuple[SparseModel, AutoSparse]:
    """Put the priors of ``[prior]`` and a likelihood on a network, and make its guide."""
    table = config.prior
    model = SparseModel(
        dense,
        prior(table),
        observed,
        include=table.include,
        exclude=table.exclude,
        priors={pattern: prior(choice) for pattern, choice in table.layers.items()},
    )
    fit = config.fit
    return model, AutoSparse(
        model, log_var=fit.log_var, max_std=fit.max_std, criterion=fit.criterion, relation=fit.relation
    )


def site_schedules(config: Config) -> dict[str, Schedule]:
    """KL schedules of ``[fit.kl_layers]`` by the site's name or pattern."""
    return {
        f"{layer}.weight" if layer else "weight": named(table.name, **table.args)
        for layer, table in config.fit.kl_layers.items()
    }


def cold_sites(config: Config, model: SparseModel) -> dict[str, float]:
    """Sites whose KL terms end the fit with a weight below 1, and the weight: their posterior is a cold one."""
    settings = FitSettings(
        epochs=config.fit.epochs,
        kl_schedule=named(config.fit.kl.name, **config.fit.kl.args),
        site_schedules=site_schedules(config),
    )
    ends = {site: schedule(1.0) for site, schedule in settings.schedules_of(model.sites).items()}
    return {site: weight for site, weight in ends.items() if weight < 1.0}


def check_model(config: Config, dense: nn.Module, data: Dataset) -> None:
    """See that priors, patterns and schedules fit the network, before any training.

    :raises NetworkError: nothing to sparsify, or a pattern that fits no layer.
    :raises PriorError: a prior on a layer that it cannot serve.
    :raises ConfigError: a schedule for a layer that has no prior, or random codes for complex weights alone.
    """
    model, _ = sparse_pair(config, dense, likelihood(data))
    if config.file.codec == RANDOM_CODE and all(site.parts > 1 for site in model.sites.values()):
        raise ConfigError(
            f"file.codec = {RANDOM_CODE!r} is for real weights, and all of {config.model.name} that have a prior are "
            "complex: leave it out"
        )
    FitSettings(epochs=config.fit.epochs, site_schedules=site_schedules(config)).schedules_of(model.sites)


def check_reconstruct(config: Config, dense: nn.Module, data: Dataset) -> None:
    """See that the network can be reconstructed and that the goal names its layers, before any training.

    :raises NetworkError: for a part that cannot be reconstructed through, by its name.
    :raises ConfigError: a goal for a layer that there is not, or whose units cannot go.
    """
    table = config.reconstruct
    if table is None or table.method != "linear":
        return
    movable = movable_units(dense, data.x_train, input_features=table.input_features)
    goals_of(movable, **{aim.value: table.goal.get(aim.value) for aim in Aim})


def teacher(config: Config, data: Dataset) -> nn.Module | None:
    """Build the network of ``[fit.teacher]`` and see that it fits the data."""
    table = config.fit.teacher
    asked = {"[fit.teacher]": table is not None, "fine_tune.teacher_weight": config.fine_tune.teacher_weight > 0}
    for name in (name for name, wanted in asked.items() if wanted and data.several):
        raise ConfigError(f"{name} softens one label an example, and {data.name} has several: leave it out")
    if table is None:
        return None
    built = network("fit.teacher", table)
    check_fits(built, table.name, data)
    if table.weights is not None:
        weights(built, table.weights)
    return built


def check_onnx() -> None:
    """See that ONNX networks can be written and run.

    :raises ConfigError: when a package is missing.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"export.onnx needs {', '.join(missing)}: pip install 'pyrosparse[onnx]', or set export.onnx = false"
        )


@contextmanager
def _current_folder() -> Iterator[None]:
    """Let modules of the current folder be imported, as ``python`` does."""
    folder = os.getcwd()
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
