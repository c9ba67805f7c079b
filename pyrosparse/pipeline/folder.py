"""The folder of a run: atomic writes, the metrics, which stages are finished."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyrosparse.errors import CheckpointError, ConfigError, CorruptFileError, DataError

__all__ = ["ARTEFACTS", "CODED", "SCHEMA", "RunFolder"]

SCHEMA = 1

ARTEFACTS: dict[str, tuple[str, ...]] = {
    "teacher": ("teacher.safetensors",),
    "dense": ("dense.safetensors",),
    "reconstruct": ("reconstructed.safetensors",),
    "fit": ("history.jsonl", "checkpoint", "posterior.nc"),
    "prune": ("pruned.safetensors", "posterior.safetensors"),
    "reconstruct_pruned": ("reconstructed_pruned.safetensors",),
    "fine_tune": ("fine_tuned.safetensors",),
    "quantise": ("quantised.safetensors",),
    "file": ("network.psz",),
    "onnx": ("network.onnx",),
    "magnitude": ("magnitude.psz",),
    "l1": ("l1.psz",),
    "kmeans": ("kmeans.psz",),
    "curve": (),
    "test": (),
    "report": ("report.html",),
}
"""Stages in their order, and the files that each leaves behind."""

CODED = "coded.safetensors"
_WITH_SOME_SETTINGS = {"file": (CODED,)}

_PACKAGES = ("pyrosparse", "torch", "pyro-ppl", "numpy", "constriction", "arviz", "onnx", "onnxruntime")


class RunFolder:
    """One folder, one run.

    :param path: the folder; nothing is created before :meth:`start`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics: dict[str, Any] = {}

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """Open the folder of a run that has been started.

        :raises DataError: when there is none.
        """
        folder = cls(path)
        if not (folder / "config.toml").is_file():
            raise DataError(f"{path} is not the folder of a run (it has no config.toml): see `pyrosparse run --help`")
        folder._read_metrics()
        return folder

    def start(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder and see that it can be written to, before any work.

        :raises ConfigError: when it cannot, or when it holds a run and neither option is set.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file: give a folder for the run")
        if (self / "config.toml").is_file():
            if resume:
                self._read_metrics()
            elif overwrite:
                self.clear(ARTEFACTS)
                self.metrics = {}
            else:
                raise ConfigError(
                    f"{self.path} holds a run already: --resume goes on with it, --overwrite starts it anew, "
                    "--out takes another folder"
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(b"\0" * 4096)
        except OSError as error:
            raise ConfigError(
                f"the folder {self.path} cannot be written to: {error.strerror or error}; give another with --out"
            ) from error

    def refresh(self) -> None:
        """Read again what another process has written of the run."""
        self._read_metrics()

    def clear(self, stages: Iterable[str]) -> None:
        """Forget these stages: their files and what the metrics say of them."""
        names = set(stages)
        try:
            for name in names:
                for artefact in (*ARTEFACTS[name], *_WITH_SOME_SETTINGS.get(name, ())):
                    path = self / artefact
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"{error.filename} cannot be removed: {error.strerror}") from error
        self.metrics["finished"] = [s for s in self.metrics.get("finished", []) if s not in names]
        self.metrics["stages"] = [s for s in self.metrics.get("stages", []) if s["name"] not in names]

    def finished(self, stage: str, *others: str) -> bool:
        """Whether a stage has left its record and all its files, and these others that its settings ask for."""
        done = stage in self.metrics.get("finished", [])
        return done and all((self / name).exists() for name in (*ARTEFACTS[stage], *others))

    def stage(self, name: str) -> dict[str, Any]:
        """The record of a stage in the metrics; empty when it was not run."""
        return next((row for row in self.metrics.get("stages", []) if row["name"] == name), {})

    def finish(self, stage: str, record: Mapping[str, Any] | None = None, **others: Any) -> None:
        """Write down that a stage is done, with its row and other entries of the metrics, in one step."""
        rows = [row for row in self.metrics.get("stages", []) if row["name"] != stage]
        if record is not None:
            rows.append({"name": stage, **record})
        rows.sort(key=lambda row: list(ARTEFACTS).index(row["name"]))
        self.metrics["stages"] = rows
        self.metrics["finished"] = [*(s for s in self.metrics.get("finished", []) if s != stage), stage]
        self.metrics.update(others)
        self.write_metrics()

    def write_metrics(self) -> None:
        """Write metrics.json."""
        self.write("metrics.json", json.dumps(_plain(self.metrics), indent=2, allow_nan=False) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file whole or not at all.

        :raises CheckpointError: when the disk is full or the folder is not writable.
        """
        data = content.encode() if isinstance(content, str) else content

        def fill(path: Path) -> None:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        self.place(name, fill)

    def place(self, name: str, fill: Callable[[Path], object]) -> None:
        """Let ``fill(path)`` write a temporary file, then move it to its name in one step."""
        target = self / name
        temporary = target.with_name(f".{target.stem}.part{target.suffix}")
        try:
            fill(temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise CheckpointError(
                f"{target} could not be written: {error.strerror or error}; what was finished before is "
                "kept, go on with --resume once there is room"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _read_metrics(self) -> None:
        path = self / "metrics.json"
        if not path.is_file():
            self.metrics = {}
            return
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CorruptFileError(f"{path} is not JSON ({error}): start the run anew with --overwrite") from error
        wrong = _wrong(metrics)
        if wrong is not None:
            raise CorruptFileError(f"{path} is not the metrics of a run ({wrong}): start it anew with --overwrite")
        self.metrics = metrics


def versions() -> dict[str, str]:
    """Version of each package that shapes the numbers; absent ones are left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _wrong(metrics: Any) -> str | None:
    """Say what has not the form that it was written in, if anything."""
    if not isinstance(metrics, dict):
        return f"a {type(metrics).__name__} where a table belongs"
    entries = {"finished": str, "notes": str, "stages": dict, "layers": dict}
    for key, kind in entries.items():
        rows = metrics.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, kind) for row in rows):
            return f"{key} is not a list of {'names' if kind is str else 'tables'}"
    unknown = [row.get("name") for row in metrics.get("stages", []) if row.get("name") not in ARTEFACTS]
    return f"stages has {unknown[0]!r}" if unknown else None


def _plain(value: Any) -> Any:
    """Turn tensors, arrays, paths and tuples into what JSON knows; NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
