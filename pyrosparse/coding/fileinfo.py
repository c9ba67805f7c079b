"""What a ``.psz`` file holds, and what each of its bytes is for."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pyrosparse.coding import container
from pyrosparse.coding.content import Content
from pyrosparse.coding.decode import decode, open_stream, read_specs
from pyrosparse.coding.rank import axes_of
from pyrosparse.coding.sharing import SHARED
from pyrosparse.errors import CorruptFileError
from pyrosparse.text import size, table

__all__ = ["FileInfo", "LayerInfo", "describe", "entropy_bits", "share_bytes"]


@dataclass(frozen=True)
class LayerInfo:
    """One tensor of a file.

    :param name: its name in the network.
    :param shape: its shape in the file.
    :param codec: ``s`` sparse, ``a`` adaptive, ``p`` pairs, ``u`` uniform, ``h`` float16, ``x`` exact, ``i`` integers,
        ``g`` steps by row or column, ``k`` codebook, ``r`` random code, ``w`` that of another
        layer, with which it is shared.
    :param step: quantisation step; 0 if there is none.
    :param nonzero: numbers that are not zero; a complex weight that is not counts as two.
    :param bytes: bytes of the file that it takes.
    :param mask_bits: ideal length of its mask.
    :param value_bits: ideal length of its values.
    :param entropy_bits: order-0 entropy: of the mask, with one rate, plus that of the values; what no
        coder that treats positions and values as independent draws can go below. 0 if not quantised, and for ``r``.
    """

    name: str
    shape: tuple[int, ...]
    codec: str
    step: float
    nonzero: int
    bytes: int
    mask_bits: float
    value_bits: float
    entropy_bits: float


@dataclass(frozen=True)
class FileInfo:
    """A ``.psz`` file in numbers.

    :param path: the file.
    :param bytes: its size on disk.
    :param original_bytes: float32 bytes of all parameters of the original network.
    :param ratio: ``original_bytes / bytes``: everything that is in the file counts.
    :param bits_per_weight: bits of masks and values of all weight tensors over their non-zero weights.
    :param c: quantisation step in posterior standard deviations; None if nothing was rounded.
    :param nonzero: non-zero parameters (buffers do not count).
    :param sections: bytes by purpose; they add up to ``bytes``.
    :param layers: one entry a tensor.
    :param architecture: True if the file can be loaded without the network's class.
    :param rate_weight: how :func:`pyrosparse.save` weighed length against error; files do not tell, so that
        :func:`pyrosparse.coding.info` has None.
    """

    path: Path
    bytes: int
    original_bytes: int
    ratio: float
    bits_per_weight: float
    c: float | None
    nonzero: int
    sections: dict[str, int]
    layers: list[LayerInfo]
    architecture: bool
    rate_weight: float | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON types."""
        out = asdict(self)
        out["path"] = str(self.path)
        for layer in out["layers"]:
            layer["shape"] = list(layer["shape"])
        return out

    def __str__(self) -> str:
        rows = []
        for layer in self.layers:
            total = math.prod(layer.shape)
            rows.append(
                [
                    layer.name,
                    "×".join(map(str, layer.shape)) or "1",
                    f"{layer.nonzero:,} of {total:,}",
                    f"{layer.step:.3g}" if layer.step else "–",
                    f"{layer.mask_bits / 8:,.0f}",
                    f"{layer.value_bits / 8:,.0f}",
                    f"{layer.entropy_bits / 8:,.0f}" if layer.entropy_bits else "–",
                    f"{layer.bytes:,}",
                ]
            )
        rest = {name: count for name, count in self.sections.items() if name in FRAME}
        rows += [[name, "", "", "", "", "", "", f"{count:,}"] for name, count in rest.items()]
        rows.append(["total", "", f"{self.nonzero:,}", "", "", "", "", f"{self.bytes:,}"])
        body = table(["bytes of", "shape", "not zero", "step", "mask", "values", "order 0", "all"], rows)
        quantised = "exact" if self.c is None else f"steps of {self.c:g} posterior standard deviations"
        return (
            f"{self.path}: {size(self.bytes)}, {self.ratio:.1f} times smaller than "
            f"{size(self.original_bytes)} of float32; {self.bits_per_weight:.2f} bits a non-zero weight, "
            f"{quantised}\n{body}"
        )


VALUES = ("values", "steps", "codebook")  # what of a tensor's bits says how large its weights are
FRAME = ("magic and version", "header", "padding", "checksum")


def share_bytes(lengths: Mapping[str, float], total: int) -> dict[str, int]:
    """Share ``total`` whole bytes in proportion to lengths in bits, by largest remainder."""
    whole = sum(lengths.values())
    if not lengths:
        return {}
    if whole <= 0:
        return {name: total if i == 0 else 0 for i, name in enumerate(lengths)}
    exact = {name: bits / whole * total for name, bits in lengths.items()}
    shares = {name: int(value) for name, value in exact.items()}
    order = sorted(lengths, key=lambda name: (shares[name] - exact[name], name))
    for name in order[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def describe(path: str | os.PathLike[str], data: bytes) -> FileInfo:
    """Decode the bytes of a file and say what each is for."""
    frame = container.unpack(data, path)
    network, specs, shared = read_specs(frame, path)
    stream = open_stream(frame, path)
    shapes = {name: shape for name, shape, _ in specs}
    found = {}
    for name, content in decode(stream, specs, frame.header["k"], path):
        found[name] = LayerInfo(
            name=name,
            shape=shapes[name],
            codec=content.codec,
            step=content.step,
            nonzero=_nonzero(content),
            bytes=0,
            mask_bits=stream.lengths.get(f"{name} mask", 0.0),
            value_bits=sum(stream.lengths.get(part, 0.0) for part in (name, *(f"{name} {p}" for p in VALUES))),
            entropy_bits=entropy_bits(content) if content.rounded else 0.0,
        )
        del content  # the next one is decoded without it
    for name, first in shared.items():
        found[name] = replace(found[first], name=name, codec=SHARED, mask_bits=0.0, value_bits=0.0, entropy_bits=0.0)
    layers = [found[name] for name in shapes]
    shares = share_bytes(stream.lengths, len(frame.payload))
    parts = [(layer.name, f"{layer.name} mask", *(f"{layer.name} {p}" for p in VALUES)) for layer in layers]
    layers = [
        replace(layer, bytes=sum(shares.get(part, 0) for part in names))
        for layer, names in zip(layers, parts, strict=True)
    ]
    sizes = {name: count for name, count in frame.sizes.items() if name in FRAME}
    others = _complex_vectors(network)
    trained = None if network is None else {n for n, _ in network.named_parameters()}
    numbers = [layer for layer in layers if layer.codec not in {"i", SHARED}]
    matrices = [layer for layer in numbers if len(layer.shape) > 1 and layer.name not in others]
    weights = sum(layer.nonzero for layer in matrices)
    bits = sum(layer.mask_bits + layer.value_bits for layer in matrices)
    original = frame.header.get("o")
    if type(original) is not int or not 0 <= original <= 1 << 60:
        raise CorruptFileError(f"{path}: the header does not say how large the original network was")
    c = frame.header.get("c")
    if c is not None and not (type(c) in {int, float} and 0 < c < math.inf):
        raise CorruptFileError(f"{path}: the header has a quantisation step that is not a positive number")
    return FileInfo(
        path=Path(path),
        bytes=len(data),
        original_bytes=4 * original,
        ratio=4 * original / len(data),
        bits_per_weight=bits / weights if weights else 0.0,
        c=c,
        nonzero=sum(layer.nonzero for layer in numbers if trained is None or layer.name in trained),
        sections={name: sizes.get(name, 0) + shares.get(name, 0) for name in [*sizes, *shares]},
        layers=layers,
        architecture=network is not None,
    )


def entropy_bits(content: Content) -> float:
    """Order-0 entropy of mask and values in bits: what independent draws cost."""
    if content.body == "p":
        pairs = content.levels.reshape(-1, 2)
        alive = pairs.any(axis=1)
        levels = pairs[alive].reshape(-1)
        mask = np.array([alive.sum(), (~alive).sum()])
        return _order0(mask) + _order0(np.unique(levels, return_counts=True)[1])
    levels = content.levels.reshape(-1)
    total = _order0(np.array([np.count_nonzero(levels), np.count_nonzero(levels == 0)]))
    return total + _order0(np.unique(levels[levels != 0], return_counts=True)[1])


def _nonzero(content: Content) -> int:
    if content.plane:
        return 2 * int(np.count_nonzero(content.levels))
    if content.body == "p":
        return 2 * int(content.levels.any(axis=-1).sum())
    return int(np.count_nonzero(content.levels))


def _complex_vectors(network: nn.Module | None) -> set[str]:
    """Tensors of complex modules that are no weight matrices, although they have two axes and more."""
    if network is None:
        return set()
    axes = axes_of(network)
    return {name for name, value in network.state_dict().items() if axes[name] <= 1 < value.dim()}


def _order0(counts: np.ndarray) -> float:
    counts = counts[counts > 0].astype(np.float64)
    return float(counts @ np.log2(counts.sum() / counts)) if len(counts) else 0.0
