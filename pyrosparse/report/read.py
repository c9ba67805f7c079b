"""A run folder, read into plain arrays and dictionaries: all that a report knows."""

from __future__ import annotations

import json
import re
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrosparse.errors import CorruptFileError, DataError, NewerFileError, PyrosparseWarning

__all__ = ["LOG_ALPHA", "Run", "SiteArrays", "read_run"]

SCHEMA = 1
FILES = ("config.toml", "metrics.json", "history.jsonl", "posterior.safetensors")
_OF_A_POSTERIOR = ("history.jsonl", "posterior.safetensors")
LOG_ALPHA = "log α"


@dataclass(frozen=True)
class SiteArrays:
    """The posterior of one site, weight by weight, in the original coordinates of its parameter.

    Weights that were cut while fitting have mean 0, standard deviation 0 and relevance -inf. Of complex weights
    ``mean`` is the modulus, ``std`` the root of the total variance, ``complex_mean`` the mean itself, and ``along`` the
    standard deviation in its direction.
    """

    site: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    relevance: NDArray[np.float64]
    keep: NDArray[np.bool_]
    complex_mean: NDArray[np.complex128] | None = None
    along: NDArray[np.float64] | None = None

    @property
    def log_alpha(self) -> NDArray[np.float64]:
        """The site's log α = -relevance; +inf where the weight was cut while fitting."""
        return -self.relevance

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which weights still had a posterior when the fit ended."""
        return np.isfinite(self.relevance)


@dataclass(frozen=True)
class Run:
    """What a run folder holds; a part that is absent is empty, never guessed."""

    folder: Path
    config_text: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    sites: Mapping[str, SiteArrays] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def rows(self, key: str) -> list[Mapping[str, Any]]:
        """The list of tables under ``key`` in the metrics; empty if there is none."""
        value = self.metrics.get(key)
        return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []

    def stage(self, name: str) -> Mapping[str, Any]:
        """The numbers measured at one stage; empty if it was not run."""
        return next((row for row in self.rows("stages") if row.get("name") == name), {})

    @property
    def has_posterior(self) -> bool:
        """Whether the run was to have one: not where reconstruction stands in its place."""
        return _has_posterior(self.config)

    @property
    def example_shape(self) -> tuple[int, ...] | None:
        """Shape of one input, as the metrics' description of the data has it; None if it is not said."""
        found = re.search(r"examples of shape \(([\d, ]+)\)", str(self.metrics.get("data", "")))
        return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else None

    @property
    def statistic(self) -> str:
        """What was compared with the threshold: log α, or what stands for it where weights share scales."""
        summary = self.metrics.get("summary")
        sites = summary.get("sites") if isinstance(summary, Mapping) else None
        listed = [row for row in sites if isinstance(row, Mapping)] if isinstance(sites, list) else []
        return ", ".join(dict.fromkeys(str(row.get("statistic", LOG_ALPHA)) for row in listed)) or LOG_ALPHA

    @property
    def threshold(self) -> float | None:
        """Largest log α that was kept: as the metrics say, else as the keep-masks show, else None."""
        given = self.metrics.get("threshold")
        if isinstance(given, int | float):
            return float(given)
        kept = [s.log_alpha[s.keep & s.present] for s in self.sites.values()]
        cut = [s.log_alpha[~s.keep & s.present] for s in self.sites.values()]
        highest = max((float(k.max()) for k in kept if k.size), default=None)
        lowest = min((float(c.min()) for c in cut if c.size), default=None)
        if highest is None or lowest is None or lowest < highest:
            return None
        return (highest + lowest) / 2


def read_run(run_dir: Path | str) -> Run:
    """Read a run folder.

    :raises DataError: if the folder does not exist, or holds none of the files that a run writes.
    :raises CorruptFileError: if one of the files cannot be understood; the message names it.
    :raises NewerFileError: if the metrics were written with a newer schema.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise DataError(f"no run folder at {folder}: give the folder that `pyrosparse run` wrote")
    missing = tuple(name for name in FILES if not (folder / name).is_file())
    if len(missing) == len(FILES):
        raise DataError(f"{folder} is not a run folder: it holds none of {', '.join(FILES)}")
    text = _text(folder / "config.toml")
    metrics = _metrics(folder / "metrics.json")
    config = _config(folder / "config.toml", text)
    if not _has_posterior(config):
        missing = tuple(name for name in missing if name not in _OF_A_POSTERIOR)
    return Run(
        folder=folder,
        config_text=text,
        config=config,
        metrics=metrics,
        history=_history(folder / "history.jsonl"),
        sites=_sites(folder / "posterior.safetensors", order=_layer_order(metrics)),
        missing=missing,
    )


def _has_posterior(config: Mapping[str, Any]) -> bool:
    table = config.get("reconstruct")
    return not (isinstance(table, Mapping) and table.get("position") == "instead")


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not UTF-8 text ({error.reason}): run the pipeline again") from error


def _config(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CorruptFileError(f"{path} is not TOML ({error}): restore it or run the pipeline again") from error


def _metrics(path: Path) -> dict[str, Any]:
    text = _text(path)
    if not text:
        return {}
    try:
        metrics = json.loads(text)
    except json.JSONDecodeError as error:
        raise CorruptFileError(f"{path} is not JSON ({error}): run the pipeline again") from error
    if not isinstance(metrics, dict):
        raise CorruptFileError(f"{path} holds a {type(metrics).__name__} where a table of metrics belongs")
    schema = metrics.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerFileError(f"{path} has schema {schema}; this version reads up to {SCHEMA}: upgrade pyrosparse")
    return metrics


def _history(path: Path) -> tuple[dict[str, Any], ...]:
    """One row per epoch in order; of an epoch that was repeated after a resume, the last row."""
    lines = _text(path).splitlines()
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise CorruptFileError(f"{path}, line {number} is not JSON ({error})") from error
            warnings.warn(f"{path}: the last line is cut short and was left out", PyrosparseWarning, stacklevel=2)
            continue
        if not isinstance(row, dict):
            raise CorruptFileError(f"{path}, line {number} holds a {type(row).__name__}, not a table")
        rows[row.get("epoch", number)] = row
    return tuple(sorted(rows.values(), key=lambda r: r.get("epoch", 0)))


def _layer_order(metrics: Mapping[str, Any]) -> list[str]:
    layers = metrics.get("layers")
    return [str(row.get("site")) for row in layers if isinstance(row, Mapping)] if isinstance(layers, list) else []


def _sites(path: Path, *, order: list[str]) -> dict[str, SiteArrays]:
    """Sites in the order of the layers, then any others by name."""
    if not path.is_file():
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} cannot be read as safetensors ({error}): run the pipeline again") from error
    parts: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in tensors.items():
        site, _, part = key.rpartition("/")
        parts.setdefault(site, {})[part] = value
    names = [s for s in order if s in parts] + sorted(s for s in parts if s not in order)
    sites = {}
    for name in names:
        arrays = parts[name]
        absent = [p for p in ("mean", "std", "relevance", "keep") if p not in arrays]
        if absent:
            raise CorruptFileError(f"{path}: site {name!r} lacks {', '.join(absent)}; run the pipeline again")
        mean, std = (np.asarray(arrays[part], dtype=np.float64) for part in ("mean", "std"))
        complex_mean = along = None
        if mean.shape == std.shape == (*arrays["relevance"].shape, 2):
            complex_mean = mean[..., 0] + 1j * mean[..., 1]
            along = _along(complex_mean, std, arrays.get("covariance"))
            mean, std = np.abs(complex_mean), np.sqrt((std**2).sum(-1))
        if len({a.shape for a in (mean, std, arrays["relevance"], arrays["keep"])}) > 1:
            raise CorruptFileError(f"{path}: the arrays of site {name!r} differ in shape; run the pipeline again")
        sites[name] = SiteArrays(
            site=name,
            mean=mean,
            std=std,
            complex_mean=complex_mean,
            along=along,
            relevance=np.asarray(arrays["relevance"], dtype=np.float64),
            keep=np.asarray(arrays["keep"], dtype=bool),
        )
    return sites


def _along(
    mean: NDArray[np.complex128], std: NDArray[np.float64], covariance: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Standard deviation in the direction of the mean, of the parts' deviations (..., 2) and their covariance."""
    size = np.abs(mean)
    c, s = np.where(size > 0, mean.real / np.where(size > 0, size, 1), 1.0), mean.imag / np.where(size > 0, size, 1)
    both = 0.0 if covariance is None else np.asarray(covariance, dtype=np.float64)
    return np.asarray(np.sqrt(np.maximum((c * std[..., 0]) ** 2 + (s * std[..., 1]) ** 2 + 2 * c * s * both, 0.0)))
