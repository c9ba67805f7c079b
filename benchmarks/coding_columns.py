"""Ways to store matrices of integers: bytes of each, of the same integers."""

from __future__ import annotations

import heapq
import json
import lzma
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import FOLDER
from numpy.typing import NDArray

from pyrosparse.coding.codecs import fetch, send, shortest
from pyrosparse.coding.content import Content
from pyrosparse.coding.stream import Reader, Writer

Ints = NDArray[np.int64]
GAP_BITS = 5
XZ_LEVEL = 9 | lzma.PRESET_EXTREME
SYMBOL_BITS = 13  # of an entry of a Huffman table: the symbol, and the length of its code


@dataclass(frozen=True)
class Layer:
    """The integers of one weight.

    :param name: of the weight.
    :param levels: integers; of complex weights with a last axis of two.
    :param step: what they are multiples of.
    :param places: positions of the inputs in the original network, where a file's index map tells them.
    """

    name: str
    levels: NDArray[np.int32]
    step: float = 1.0
    places: Ints | None = None
    pairs: bool = False

    @property
    def matrix(self) -> Ints:
        """Rows and columns; the parts of complex weights are neighbours."""
        return self.levels.reshape(len(self.levels), -1).astype(np.int64)

    @property
    def content(self) -> Content:
        """What our coder gets."""
        return Content("p" if self.pairs else "s", torch.float32, self.levels, self.step)


def small(values: Ints, *, signed: bool) -> NDArray[Any]:
    """The narrowest type that holds the integers."""
    kinds = (np.int8, np.int16, np.int32) if signed else (np.uint8, np.uint16, np.uint32)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))


def dense_bytes(layers: Iterable[Layer]) -> bytes:
    """All integers, zeros included, row by row."""
    return b"".join(small(layer.matrix, signed=True).tobytes() for layer in layers)


def csr_bytes(layers: Iterable[Layer]) -> bytes:
    """Non-zeros of each row, steps from one column to the next, values: three streams."""
    parts: tuple[list[bytes], ...] = ([], [], [])
    for layer in layers:
        rows, columns = np.nonzero(layer.matrix)
        first = np.diff(rows, prepend=-1) != 0
        gaps = np.where(first, columns, np.diff(columns, prepend=0))
        each = np.bincount(rows, minlength=len(layer.matrix))
        for part, values, signed in zip(
            parts, (each, gaps, layer.matrix[rows, columns]), (False, False, True), strict=True
        ):
            part.append(small(values, signed=signed).tobytes())
    return b"".join(b"".join(part) for part in parts)


def huffman_bits(counts: Ints) -> int:
    """Bits of a Huffman code of symbols that come so often, with its table."""
    counts = counts[counts > 0]
    ties = count()
    heap = [(int(n), next(ties)) for n in counts]
    heapq.heapify(heap)
    bits = 0 if len(heap) > 1 else int(counts.sum())
    while len(heap) > 1:
        total = heapq.heappop(heap)[0] + heapq.heappop(heap)[0]
        bits += total  # every symbol below gets one bit longer
        heapq.heappush(heap, (total, next(ties)))
    return bits + SYMBOL_BITS * len(counts)


def deep_compression(layers: Iterable[Layer]) -> int:
    """Gaps of five bits between non-zeros, with zeros put in where one is longer, and Huffman codes (Han, 2016)."""
    longest = (1 << GAP_BITS) - 1
    bits = 0
    for layer in layers:
        flat = layer.matrix.reshape(-1)
        places = np.flatnonzero(flat)
        zeros = np.diff(places, prepend=-1) - 1
        padding = zeros // (longest + 1)
        gaps = np.bincount(zeros % (longest + 1), minlength=longest + 1)
        gaps[longest] += padding.sum()
        values = np.concatenate([flat[places], np.zeros(padding.sum(), np.int64)])
        bits += huffman_bits(gaps) + huffman_bits(np.unique(values, return_counts=True)[1])
    return -(-bits // 8)


def order0(layers: Iterable[Layer]) -> float:
    """Bytes of the empirical entropy of all integers, zeros included, layer by layer; no table."""
    bits = 0.0
    for layer in layers:
        counts = np.unique(layer.levels, return_counts=True)[1]
        bits += float(counts @ np.log2(counts.sum() / counts))
    return bits / 8


def ours(layers: list[Layer]) -> dict[str, Any]:
    """Bytes of our coder, read back and compared; seconds to encode (the choice of codecs included) and to decode."""
    start = time.process_time()
    writer = Writer()
    chosen = [shortest(layer.name, layer.content, places=layer.places) for layer in layers]
    for layer, content in zip(layers, chosen, strict=True):
        send(writer, layer.name, content, places=layer.places)
    payload, padding = writer.finish()
    encoded = time.process_time()
    reader = Reader(payload, padding)
    for layer, content in zip(layers, chosen, strict=True):
        dtype = torch.complex64 if layer.pairs else torch.float32
        shape = layer.levels.shape[:-1] if layer.pairs else layer.levels.shape
        got = fetch(reader, layer.name, content.codec, shape, dtype, places=layer.places)
        assert np.array_equal(got.levels, layer.levels), layer.name
    decoded = time.process_time()
    return {
        "bytes": len(payload) + padding,
        "codecs": "".join(c.codec for c in chosen),
        "encode_s": round(encoded - start, 3),
        "decode_s": round(decoded - encoded, 3),
    }


def others(sources: dict[str, list[Layer]], python: Path | None) -> dict[str, Any]:
    """What the coders of another environment make of the same integers, or why they did not."""
    if python is None:
        return {"missing": "no interpreter was given: pass --others, see benchmarks/coding_others.py"}
    with tempfile.TemporaryDirectory() as folder:
        arrays = {f"{s}|{i}": layer.matrix.astype(np.int32) for s, ls in sources.items() for i, layer in enumerate(ls)}
        np.savez(Path(folder) / "integers.npz", **arrays)
        for name, layers in sources.items():
            (Path(folder) / f"{name}.csr").write_bytes(csr_bytes(layers))
            (Path(folder) / f"{name}.dense").write_bytes(dense_bytes(layers))
        done = subprocess.run(
            [python, FOLDER / "coding_others.py", folder], capture_output=True, text=True, check=False
        )
    if done.returncode:
        return {"missing": f"coding_others.py failed: {done.stderr.strip().splitlines()[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


COLUMNS: dict[str, Callable[[list[Layer]], float]] = {
    "CSR, zlib": lambda layers: len(zlib.compress(csr_bytes(layers), 9)),
    "5-bit gaps, Huffman": deep_compression,
    "xz": lambda layers: len(lzma.compress(dense_bytes(layers), lzma.FORMAT_XZ, lzma.CHECK_NONE, XZ_LEVEL)),
    "order-0 bound": order0,
}  # fmt: skip
