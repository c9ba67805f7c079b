"""From a TOML file and ``--set`` overrides to a checked :class:`~pyrosparse.config.Config`."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pyrosparse.config.tables import Config, Scheduled
from pyrosparse.errors import ConfigError
from pyrosparse.text import nearest

__all__ = ["parse", "read"]

_PATHS = (("data", "path"), ("pretrain", "weights"), ("fit", "teacher", "weights"))


def read(path: str | Path, *, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration; relative paths in it are relative to the file.

    :param path: the TOML file.
    :param overrides: ``"dotted.key=value"`` with the value in TOML; what is not TOML is taken as text.
    :raises ConfigError: naming the key (dotted, with the nearest right one when it is unknown) and the file.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}: give the TOML file of a run") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    return parse(table, overrides=overrides, file=str(path), folder=path.resolve().parent)


def parse(
    table: Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    file: str = "the configuration",
    folder: Path | None = None,
) -> Config:
    """Check nested settings.

    :param table: as :func:`tomllib.loads` gives it.
    :param overrides: see :func:`read`.
    :param file: what to call the source in messages.
    :param folder: where relative paths start; None leaves them as they are.
    :raises ConfigError: see :func:`read`.
    """
    settings = _copy(table)
    for override in overrides:
        _merge(settings, _override(override), override)
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explain(error, file)) from error
    _check_names(config, file)
    return config if folder is None else _with_absolute_paths(config, folder)


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in table.items()}


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: write key=value, for example --set fit.epochs=20")
    for candidate in (value, _quoted(value)):
        try:
            return tomllib.loads(f"{key} = {candidate}")
        except tomllib.TOMLDecodeError:
            continue
    raise ConfigError(f"--set {text}: {key!r} is not a dotted key")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _merge(settings: dict[str, Any], extra: Mapping[str, Any], text: str) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(settings.get(key, {}), dict):
            _merge(settings.setdefault(key, {}), value, text)
        else:
            settings[key] = value


def _explain(error: ValidationError, file: str) -> str:
    """One sentence for the first thing that is wrong."""
    first = error.errors()[0]
    # a union adds the names of its branches to the path: they are no keys
    keys = [str(part) for part in first["loc"] if not _is_branch(part)]
    key = ".".join(keys)
    if first["type"] == "extra_forbidden":
        return f"{file}: unknown key {key}{_instead_of(keys)}"
    if first["type"] in {"model_type", "dict_type"}:
        return f"{file}: {key} = {first['input']!r}: a table belongs here, [{key}]"
    message = str(first.get("ctx", {}).get("error") or first["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(first["input"], Mapping):
        return f"{file}: [{key}]: {message}" if key else f"{file}: {message}"
    return f"{file}: {key} = {first['input']!r}: {message}"


def _instead_of(keys: list[str]) -> str:
    """What a key that is not known may have meant: the same name elsewhere, or a near one in its table."""
    known = _fields_at(keys[:-1])
    elsewhere = [path for path in _all_keys(Config) if path.rpartition(".")[2] == keys[-1]]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    close = get_close_matches(keys[-1], known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join([*keys[:-1], close[0]])}?"
    place = f"[{'.'.join(keys[:-1])}]" if keys[:-1] else "the top level"
    return f"; {place} knows {', '.join(sorted(known))}"


def _is_branch(part: object) -> bool:
    return isinstance(part, str) and (
        part in {"int", "float", "str"} or any(part.startswith(p) for p in ("constrained-", "literal[", "function-"))
    )


def _table_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_table_of(arg) for arg in getattr(annotation, "__args__", ()))
    return next((table for table in found if table is not None), None)


def _fields_at(keys: list[str]) -> list[str]:
    table: type[BaseModel] | None = Config
    for key in keys:
        if table is not None and key in table.model_fields:
            table = _table_of(table.model_fields[key].annotation)
    return list(table.model_fields) if table is not None else []


def _all_keys(table: type[BaseModel], path: str = "") -> list[str]:
    keys = []
    for name, field in table.model_fields.items():
        keys.append(f"{path}{name}")
        inner = _table_of(field.annotation)
        if inner is not None:
            keys += _all_keys(inner, f"{path}{name}.")
    return keys


def _check_names(config: Config, file: str) -> None:
    """Names of sources, networks, priors and schedules, and the arguments that they take."""
    from pyrosparse.data.sources import SOURCES
    from pyrosparse.infer.schedules import SCHEDULES
    from pyrosparse.models import ZOO

    if config.data.source not in SOURCES:
        raise ConfigError(f"{file}: data.source = {config.data.source!r}{nearest(config.data.source, SOURCES)}")
    if config.data.source != "digits" and config.data.path is None:
        raise ConfigError(f"{file}: data.source = {config.data.source!r} needs data.path")
    networks = [("model", config.model)] + ([("fit.teacher", config.fit.teacher)] if config.fit.teacher else [])
    for key, network in networks:
        if ":" in network.name:
            continue
        if network.name not in ZOO:
            hint = nearest(network.name, ZOO)
            raise ConfigError(f"{file}: {key}.name = {network.name!r}{hint}; your own is 'module:factory'")
        _check_args(file, f"{key}.args", ZOO[network.name], network.args)
    priors = known_priors()
    chosen = [("prior", config.prior), *((f"prior.layers.{k}", v) for k, v in config.prior.layers.items())]
    for key, prior in chosen:
        if prior.name not in priors:
            raise ConfigError(f"{file}: {key}.name = {prior.name!r}{nearest(prior.name, priors)}")
        _check_args(file, f"{key}.args", priors[prior.name], prior.args)
    schedules: list[tuple[str, Scheduled]] = [
        ("fit.kl", config.fit.kl),
        ("fit.lr_schedule", config.fit.lr_schedule),
        *((f"fit.kl_layers.{k}", v) for k, v in config.fit.kl_layers.items()),
    ]
    for key, schedule in schedules:
        if schedule.name not in SCHEDULES:
            raise ConfigError(f"{file}: {key}.name = {schedule.name!r}{nearest(schedule.name, SCHEDULES)}")
        _check_args(file, f"{key}.args", SCHEDULES[schedule.name], schedule.args)
        try:
            SCHEDULES[schedule.name](**schedule.args)
        except ConfigError as error:
            raise ConfigError(f"{file}: {key}: {error}") from error


def known_priors() -> dict[str, Callable[..., Any]]:
    """Every prior of :mod:`pyrosparse.priors` that can be named in a configuration."""
    from pyrosparse import priors

    public = {name: getattr(priors, name) for name in priors.__all__}
    return {
        k: v
        for k, v in public.items()
        if inspect.isclass(v) and issubclass(v, priors.Prior) and not inspect.isabstract(v)
    }


def _check_args(file: str, key: str, factory: Callable[..., Any], args: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in args:
        if name not in parameters:
            hint = nearest(name, parameters) if parameters else " (it takes none)"
            raise ConfigError(f"{file}: unknown key {key}.{name}{hint}")


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    settings = config.to_dict()
    for *tables, key in _PATHS:
        table = settings
        for name in tables:
            table = table.get(name, {})
        if key in table:
            try:
                table[key] = str((folder / Path(table[key]).expanduser()).resolve())
            except (ValueError, RuntimeError, OSError) as error:  # a NUL, a home that is not known, a loop of links
                raise ConfigError(f"{'.'.join([*tables, key])} = {table[key]!r} is no path: {error}") from error
    return Config.model_validate(settings)
