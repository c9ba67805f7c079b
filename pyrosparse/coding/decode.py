"""From the bytes of a file to its tensors, with every claim of the header checked first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pyrosparse.coding import architecture
from pyrosparse.coding.codecs import CODECS, fetch, index_of
from pyrosparse.coding.container import Frame
from pyrosparse.coding.content import DTYPES, Content, real_shape, size_of
from pyrosparse.coding.sharing import SHARED, Spec, read_shared
from pyrosparse.coding.stream import DamagedStreamError, Reader, admitted
from pyrosparse.errors import CorruptFileError

__all__ = [
    "LARGEST_NETWORK",
    "Spec",
    "decode",
    "open_stream",
    "read_specs",
    "sequence",
]

LARGEST_NETWORK = 1 << 28  # numbers in a file: 1 GiB of float32
MOST_TENSORS = 16384
LONGEST_NAME = 1024


def _build(tree: Any, path: str | os.PathLike[str]) -> nn.Module:
    """Build the network of a header's tree on the ``meta`` device."""
    try:
        return architecture.build(tree)
    except architecture.UnknownLayerError as error:
        raise CorruptFileError(f"{path}: the architecture cannot be read ({error})") from error


def read_specs(frame: Frame, path: str | os.PathLike[str]) -> tuple[nn.Module | None, list[Spec], dict[str, str]]:
    """Read what a header says: network, tensors, and which of these share the numbers of another one.

    :return: the network on the ``meta`` device (None if its class is not known), name, shape and dtype of each tensor,
        and what :func:`pyrosparse.coding.sharing.read_shared` has found.
    """
    header = frame.header
    tree, codecs = header.get("a"), header.get("k")
    network = None if tree is None else _build(tree, path)
    if network is not None:
        shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    else:
        shapes = _named_shapes(header.get("t"), path)
    if not isinstance(codecs, str) or not set(codecs) <= {*CODECS, SHARED} or len(codecs) != len(shapes):
        raise CorruptFileError(f"{path}: the header does not name a known codec for each tensor")
    letters = header.get("d", "".join("i" if k == "i" else "f" for k in codecs))
    if not isinstance(letters, str) or not set(letters) <= set(DTYPES) or len(letters) != len(shapes):
        raise CorruptFileError(f"{path}: the header does not name a known type for each tensor")
    total = 0
    for (name, shape), letter, codec in zip(shapes, letters, codecs, strict=True):
        whole = not (DTYPES[letter].is_floating_point or DTYPES[letter].is_complex)
        if whole != (codec == "i"):
            raise CorruptFileError(f"{path}: codec {codec!r} does not carry the type of {name}")
        total += 0 if codec == SHARED else size_of(real_shape(shape, DTYPES[letter]))
    most = min(LARGEST_NETWORK, admitted(len(frame.payload) + frame.padding))
    if total > most:
        raise CorruptFileError(f"{path}: claims {total:,} numbers; at most {most:,} are read from a file of its size")
    specs = [(name, shape, DTYPES[letter]) for (name, shape), letter in zip(shapes, letters, strict=True)]
    shared = read_shared(frame.header, specs, path)
    if network is not None and not shared.keys() | shared.values() <= {n for n, _ in network.named_parameters()}:
        raise CorruptFileError(f"{path}: claims that layers share what is no parameter")
    return network, specs, shared


def _named_shapes(table: Any, path: str | os.PathLike[str]) -> list[tuple[str, tuple[int, ...]]]:
    shapes: dict[str, tuple[int, ...]] = {}
    if isinstance(table, list) and len(table) <= MOST_TENSORS:
        for entry in table:
            match entry:
                case [str(name), list(shape)] if len(name) <= LONGEST_NAME and len(shape) <= 8:
                    if all(type(n) is int and 0 <= n <= LARGEST_NETWORK for n in shape):
                        shapes[name] = tuple(shape)
        if len(shapes) == len(table):
            return list(shapes.items())
    raise CorruptFileError(f"{path}: the table of tensors cannot be read")


def sequence(codecs: str) -> list[int]:
    """Order in which tensors are sent: integers first, since index maps tell where a weight's inputs were.

    Those that share the numbers of others are not among them.
    """
    sent = [i for i in range(len(codecs)) if codecs[i] != SHARED]
    return sorted(sent, key=lambda i: codecs[i] != "i")


def open_stream(frame: Frame, path: str | os.PathLike[str]) -> Reader:
    """Start to read the weights of a file."""
    try:
        return Reader(frame.payload, frame.padding, frame.version)
    except DamagedStreamError as error:
        raise CorruptFileError(f"{path}: {error}") from error


def decode(
    reader: Reader, specs: list[Spec], codecs: str, path: str | os.PathLike[str]
) -> Iterator[tuple[str, Content]]:
    """Decode tensor by tensor in the order of :func:`sequence`; the last step checks that nothing is left."""
    maps: dict[str, NDArray[np.int64]] = {}
    try:
        for i in sequence(codecs):
            name, shape, dtype = specs[i]
            content = fetch(reader, name, codecs[i], shape, dtype, places=maps.get(index_of(name)))
            if codecs[i] == "i":
                maps[name] = content.levels.reshape(-1)
            yield name, content
            del content  # the next one is decoded without it
        reader.finish()
    except DamagedStreamError as error:
        raise CorruptFileError(f"{path}: {error}") from error
