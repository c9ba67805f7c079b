"""Where data come from: scikit-learn's digits, a folder of idx files, or an npz file."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrosparse.data.dataset import Dataset
from pyrosparse.data.idx import read_folder
from pyrosparse.errors import DataError, PyrosparseWarning
from pyrosparse.text import nearest

__all__ = ["SOURCES", "load"]

NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
DIGITS_TEST = 0.2
IDX_VALIDATION = 5_000


def load(
    source: str = "digits",
    path: str | Path | None = None,
    *,
    validation: float | int | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a data set and cut a validation split from its training part.

    ============ ============================ =========================== ==========================
    source       path                         inputs                      validation split
    ============ ============================ =========================== ==========================
    ``digits``   none                         (N, 1, 8, 8) in [0, 1]      stratified, drawn with seed
    ``idx``      folder, four MNIST ``.gz``   (N, 1, H, W) in [0, 1]      the last training images
    ``npz``      file with x_train, y_train,  as stored: float32, or      drawn with seed
                 x_test, y_test               complex64 when complex
    ============ ============================ =========================== ==========================

    Labels are whole numbers, one an example; in an npz file also (N, labels), 1 for each of several that hold together.

    :param source: one of the names above.
    :param path: folder or file; digits ship with scikit-learn and need none.
    :param validation: a share of the training part (0 < v < 1) or a number of examples (an int ≥ 1);
        None is 5,000 for idx and 0.1 elsewhere.
    :param seed: of the splits that are drawn: digits (test and validation) and npz (validation).
    :raises DataError: for an unknown source, a missing, truncated or unreadable file, NaN or Inf, labels
        that are out of range or not whole numbers, and shapes that do not fit each other.
    """
    if source not in SOURCES:
        raise DataError(f"there is no data source {source!r}{nearest(source, SOURCES)}")
    return SOURCES[source](None if path is None else Path(path), validation, seed)


def _digits(path: Path | None, validation: float | int | None, seed: int) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if path is not None:
        raise DataError(f"source 'digits' ships with scikit-learn and takes no path: leave out path = {str(path)!r}")
    images, labels = load_digits(return_X_y=True)
    labels = labels.astype(np.int64)
    order = np.arange(len(labels))
    rest, test = train_test_split(order, test_size=DIGITS_TEST, random_state=seed, stratify=labels)
    count = _count(0.1 if validation is None else validation, len(rest))
    num_classes = 10
    if count < num_classes or len(rest) - count < num_classes:
        raise DataError(f"validation = {validation} leaves too few digits for a stratified split: give 10 to 1400")
    train, val = train_test_split(rest, test_size=count, random_state=seed, stratify=labels[rest])
    x = torch.from_numpy((images / 16.0).astype(np.float32)).view(-1, 1, 8, 8)
    y = torch.from_numpy(labels)
    return Dataset("digits", x[train], y[train], x[val], y[val], x[test], y[test], num_classes)


def _idx(path: Path | None, validation: float | int | None, _seed: int) -> Dataset:
    if path is None:
        raise DataError("source 'idx' needs a path: the folder with the four MNIST-named .gz files")
    parts = read_folder(path)
    count = _count(IDX_VALIDATION if validation is None else validation, len(parts["y_train"]))
    x, x_test = (
        torch.from_numpy(parts[key].astype(np.float32) / np.float32(255.0)).unsqueeze(1)
        for key in ("x_train", "x_test")
    )
    y, y_test = (torch.from_numpy(parts[key].astype(np.int64)) for key in ("y_train", "y_test"))
    # labels of the test files are unknown to training: the range comes from the training part
    num_classes = int(y.max()) + 1 if len(y) else 0
    return Dataset(str(path), x[:-count], y[:-count], x[-count:], y[-count:], x_test, y_test, num_classes)


def _npz(path: Path | None, validation: float | int | None, seed: int) -> Dataset:
    if path is None:
        raise DataError(f"source 'npz' needs a path: an .npz file with {', '.join(NPZ_ARRAYS)}")
    arrays = _read_npz(path)
    x, x_test = (_inputs(path, key, arrays[key]) for key in ("x_train", "x_test"))
    y, y_test = (_labels(path, key, arrays[key]) for key in ("y_train", "y_test"))
    if y.dim() > 1 and y.shape[1] > 1 and bool((y.sum(1) == 1).all()):
        warnings.warn(
            f"{path}: every example of y_train has exactly one of its {y.shape[1]} labels, and they are taken for "
            "labels that may hold together: where they are classes, give their numbers, shape (N,)",
            PyrosparseWarning,
            stacklevel=3,
        )
    if len(x) != len(y):
        raise DataError(f"{path}: x_train has {len(x)} examples and y_train {len(y)}: give one label an example")
    count = _count(0.1 if validation is None else validation, len(y))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(y)))
    train, val = order[:-count].sort().values, order[-count:].sort().values
    num_classes = y.shape[1] if y.dim() > 1 else int(y.max()) + 1
    if y.dim() == 1 and int(y.min()) < 0:
        i = int((y < 0).nonzero()[0, 0])
        raise DataError(f"{path}: y_train[{i}] is {int(y[i])}, and labels must not be negative")
    if y.dim() > 1 or not bool(torch.isfinite(torch.view_as_real(x) if x.is_complex() else x).all()):
        # checked before the split, so that the index in the message is the file's own
        Dataset(str(path), x, y, x, y, x_test, y_test, num_classes)
    return Dataset(str(path), x[train], y[train], x[val], y[val], x_test, y_test, num_classes)


SOURCES: dict[str, Callable[[Path | None, float | int | None, int], Dataset]] = {
    "digits": _digits,
    "idx": _idx,
    "npz": _npz,
}
"""Reader of each source by its name."""


def _read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise DataError(f"there is no file {path}: [data] path must be an .npz file")
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("no zip archive")
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [key for key in NPZ_ARRAYS if key not in file]
            if missing:
                raise DataError(f"{path} lacks {', '.join(missing)} (it has {', '.join(file) or 'nothing'})")
            return {key: file[key] for key in NPZ_ARRAYS}
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole .npz file of plain arrays: {error}") from error


def _inputs(path: Path, key: str, array: NDArray[np.generic]) -> Tensor:
    if array.dtype.kind not in "fiubc" or array.ndim < 2:
        raise DataError(f"{path}: {key} has shape {array.shape} and type {array.dtype}: give numbers of shape (N, ...)")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf and is reported as such
        return torch.from_numpy(array.astype(np.complex64 if array.dtype.kind == "c" else np.float32))


def _labels(path: Path, key: str, array: NDArray[np.generic]) -> Tensor:
    if array.ndim not in {1, 2} or array.size == 0 or array.shape[1:] == (1,):
        raise DataError(
            f"{path}: {key} has shape {array.shape}: give one whole number an example, shape (N,), or 1 or 0 for each "
            "of several labels, shape (N, labels)"
        )
    if array.dtype.kind not in "iub":
        whole = array.dtype.kind == "f" and np.isfinite(array) & (array == np.round(array))  # type: ignore[arg-type]
        if not np.all(whole):
            i = int(np.argmin(whole)) if isinstance(whole, np.ndarray) else 0
            place = ", ".join(str(int(n)) for n in np.unravel_index(i, array.shape))
            raise DataError(
                f"{path}: {key}[{place}] is {array.flat[i]!s} ({array.dtype}), and labels must be whole numbers"
            )
    return torch.from_numpy(array.astype(np.int64 if array.ndim == 1 else np.float32))


def _count(validation: float | int, total: int) -> int:
    if isinstance(validation, bool):
        raise DataError(f"validation = {validation}: give a share (0.1) or a number of examples (5000)")
    count = validation if isinstance(validation, int) else round(validation * total)
    if not 0 < count < total or (isinstance(validation, float) and not 0.0 < validation < 1.0):
        raise DataError(
            f"validation = {validation} of {total} training examples: give a share between 0 and 1 or a "
            f"number of examples from 1 to {total - 1}"
        )
    return int(count)
