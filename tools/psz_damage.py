"""Ways to damage a ``.psz`` file, for tools/fuzz_psz.py: each takes a whole file and a generator of chance."""

from __future__ import annotations

import copy
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

from pyrosparse.coding.container import MAGIC, pack, unpack
from pyrosparse.coding.content import DTYPES

__all__ = ["WAYS"]

LETTERS = "saphxugikrw"  # codecs


def seal(body: bytes) -> bytes:
    """Put a checksum under bytes."""
    return body + zlib.crc32(body).to_bytes(4, "little")


ODD = [0, -1, 1, 2, 3, 7, 64, 1000, 10**6, 10**12, 1 << 62, 1.5, None, "x", "S", "L", "Q", True, [], [2], {}, {"p": 3}]


def alter(node: Any, rng: random.Random) -> Any:
    """Replace a random leaf of a JSON tree; sizes are often only nudged."""
    if isinstance(node, list | dict) and node and rng.random() < 0.9:
        key = rng.choice(range(len(node)) if isinstance(node, list) else sorted(node))
        node[key] = alter(node[key], rng)
        return node
    if type(node) is int and rng.random() < 0.6:
        return rng.choice([node + 1, node - 1, 2 * node, node * 1000, node // 2])
    return copy.deepcopy(rng.choice(ODD))


def with_bytes(data: bytes, rng: random.Random, first: int = 0) -> bytes:
    """Change, insert or remove a few bytes from a place on."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(first, len(out))
        way = rng.randrange(4)
        if way == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            out[place] = rng.randrange(256)
        elif way == 2:
            out[place:place] = rng.randbytes(rng.randint(1, 8))
        elif len(out) > first + 8:
            del out[place : place + rng.randint(1, 4)]
    return bytes(out)


def shared(codecs: str, rng: random.Random) -> dict[str, list[int]]:
    """What tensors of the letter w refer to: mostly what there is."""
    return {"w": [rng.randint(0, len(codecs)) for _ in range(codecs.count("w"))]} if "w" in codecs else {}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes that differ anywhere; the checksum tells."""
    return with_bytes(data, rng)


def cut(data: bytes, rng: random.Random) -> bytes:
    """A file that ends too early."""
    return data[: rng.randrange(len(data))]


def noise(data: bytes, rng: random.Random) -> bytes:
    """Random bytes, some of them sealed as a file."""
    body = rng.randbytes(rng.randrange(200))
    return rng.choice([body, MAGIC + body, seal(MAGIC + bytes([rng.choice([1, 2, 3])]) + body)])


def sealed(data: bytes, rng: random.Random) -> bytes:
    """Bytes that differ behind the magic, under a checksum that fits."""
    return seal(with_bytes(data[:-4], rng, 4))


def payload(data: bytes, rng: random.Random) -> bytes:
    """The header of a file over a payload that was changed."""
    frame = unpack(data, "seed")
    other = (
        with_bytes(frame.payload, rng) if frame.payload and rng.random() < 0.7 else rng.randbytes(rng.randrange(400))
    )
    return pack(frame.header, other, frame.padding)


def header(data: bytes, rng: random.Random) -> bytes:
    """A payload under a header that was changed."""
    frame = unpack(data, "seed")
    made = json.loads(json.dumps(frame.header))
    for _ in range(rng.randint(1, 3)):
        made = alter(made, rng)
    return pack(made, frame.payload, frame.padding) if isinstance(made, dict) else data


def sizes(data: bytes, rng: random.Random) -> bytes:
    """A header that claims tensors of any shape, codec and type over the payload."""
    frame = unpack(data, "seed")
    count = rng.randint(1, 4)
    codecs = "".join(rng.choice(LETTERS) for _ in range(count))
    shapes = [
        [rng.choice([0, 1, 2, 3, 20, 64, 300, 1 << 10, 1 << 15, 1 << 20]) for _ in range(rng.choice([1, 2, 2, 2, 4]))]
        for _ in range(count)
    ]
    names = rng.sample(["weight", "fc.weight", "fc.index", "fc.bias", "x", "y"], count)
    made: dict[str, Any] = {"t": [[n, s] for n, s in zip(names, shapes, strict=True)], "k": codecs, "o": 10}
    made["d"] = "".join("i" if k == "i" else rng.choice([d for d in DTYPES if d not in "ijut"]) for k in codecs)
    made |= shared(codecs, rng)
    return pack(made, rng.choice([frame.payload, rng.randbytes(4 * rng.randrange(200))]), rng.choice([0, 0, 100]))


def codecs(data: bytes, rng: random.Random) -> bytes:
    """Tensors read by codecs that did not write them."""
    frame = unpack(data, "seed")
    letters = list(frame.header["k"])
    for _ in range(rng.randint(1, 2)):
        letters[rng.randrange(len(letters))] = rng.choice(LETTERS)
    return pack({**frame.header, "k": "".join(letters), **shared("".join(letters), rng)}, frame.payload, frame.padding)


def older(data: bytes, rng: random.Random) -> bytes:
    """Bytes that claim to be of an earlier version, some of them changed behind the magic."""
    body = bytearray(data[:-4])
    body[len(MAGIC)] = rng.choice([1, 2])
    return seal(
        bytes(body) if rng.random() < 0.3 else with_bytes(bytes(body), rng, 4) if len(body) > 4 else bytes(body)
    )


WAYS: list[Callable[[bytes, random.Random], bytes]] = [
    damaged, cut, noise, sealed, sealed, payload, payload, payload, header, header, sizes, codecs, older,
]  # fmt: skip
