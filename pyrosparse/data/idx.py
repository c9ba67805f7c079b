"""The idx format of MNIST: four gzip files, each a magic number, the sizes and unsigned bytes.

Layout, big-endian: two zero bytes, ``0x08`` (unsigned byte), the number of dimensions, one 32-bit size for
each dimension, then the data (LeCun, Cortes, Burges: http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyrosparse.errors import DataError

__all__ = ["FILES", "read_folder", "read_idx"]

UNSIGNED_BYTE = 0x08
HEADER_BYTES = 4

FILES = {
    "x_train": ("train-images-idx3-ubyte.gz", 3),
    "y_train": ("train-labels-idx1-ubyte.gz", 1),
    "x_test": ("t10k-images-idx3-ubyte.gz", 3),
    "y_test": ("t10k-labels-idx1-ubyte.gz", 1),
}
"""File name and number of dimensions of each of the four parts."""


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read one gzip-compressed idx file of unsigned bytes.

    :param path: the ``.gz`` file.
    :param dimensions: how many dimensions it must have: 3 for images, 1 for labels.
    :returns: an array of the shape that the header states.
    :raises DataError: when the file is missing, truncated, not gzip, or its header and length disagree.
    """
    raw = _unzip(path)
    if len(raw) < HEADER_BYTES or raw[:2] != b"\x00\x00":
        raise DataError(f"{path} is not an idx file (it starts with {raw[:4]!r}): fetch it again")
    kind, ndim = raw[2], raw[3]
    if kind != UNSIGNED_BYTE:
        raise DataError(f"{path} holds idx values of type 0x{kind:02x}: only unsigned bytes (0x08) can be read")
    if ndim != dimensions:
        raise DataError(f"{path} has {ndim} dimensions where {dimensions} are needed: are the files swapped?")
    start = HEADER_BYTES + 4 * ndim
    if len(raw) < start:
        raise DataError(f"{path} is truncated inside its header: fetch it again")
    shape = struct.unpack(f">{ndim}I", raw[HEADER_BYTES:start])
    needed = int(np.prod(shape, dtype=np.int64))
    held = len(raw) - start
    if held != needed:
        trouble = "is truncated" if held < needed else "has bytes left over"
        raise DataError(f"{path} {trouble}: its header promises {needed} values, it holds {held}: fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def read_folder(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the four MNIST-named files of a folder.

    :returns: ``x_train (N, H, W)``, ``y_train (N,)``, ``x_test (M, H, W)``, ``y_test (M,)``, all bytes.
    :raises DataError: also when images and labels differ in number, or train and test in picture size.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: [data] path must hold the four MNIST-named .gz files")
    missing = [name for name, _ in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}: put the MNIST-named .gz files there")
    parts = {key: read_idx(folder / name, dimensions=ndim) for key, (name, ndim) in FILES.items()}
    for split in ("train", "test"):
        images, labels = len(parts[f"x_{split}"]), len(parts[f"y_{split}"])
        if images != labels:
            raise DataError(
                f"{folder}: {images} {split} images and {labels} {split} labels: are files of two sets mixed?"
            )
    if parts["x_train"].shape[1:] != parts["x_test"].shape[1:]:
        raise DataError(
            f"{folder}: train images are {parts['x_train'].shape[1:]} and test images {parts['x_test'].shape[1:]}"
        )
    return parts


def _unzip(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: put the MNIST-named .gz files in its folder") from error
    except EOFError as error:
        raise DataError(f"{path} is truncated (its gzip stream ends early): fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
