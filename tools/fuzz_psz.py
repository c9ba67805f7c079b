"""Damage ``.psz`` files in every way that comes to mind, and see that a reader only ever refuses or decodes them.

Each file that is tried is a seed file with something done to it: bytes changed or cut off, with and without a checksum
that fits again; another payload; a header with other sizes, codecs, types and layers under the same payload; parts of
two files put together; random bytes. For each it counts what happened, the time, and the greatest memory over that of
an honest file with as many numbers. Cases depend on their number alone, so that the run goes on where it was stopped,
and one case can be looked at by itself::

    python tools/fuzz_psz.py --cases 100000 --out benchmarks/results/fuzz.json
    python tools/fuzz_psz.py --case 4711
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import random
import tempfile
import time
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pyrosparse import coding
from pyrosparse.coding import container, psz
from pyrosparse.coding.container import MAGIC, pack, unpack
from pyrosparse.coding.content import DTYPES
from pyrosparse.coding.decode import read_specs
from pyrosparse.coding.precision import make_plan
from pyrosparse.errors import CorruptFileError, NetworkError, NewerFileError
from pyrosparse.nn import ComplexLinear, SelectLinear

WRITE_EVERY = 2000
MEMORY_EVERY = 10  # tracing memory makes a case several times slower
HONEST = 50_000  # numbers of the files that memory is compared with
SECOND = 1.0
START = 0


class Own(nn.Module):
    """A network of a class that no file knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 8)


def seeds() -> list[bytes]:
    """One small file for each way of sending something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(START)
        return _seeds()


def _seeds() -> list[bytes]:
    generator = torch.Generator().manual_seed(0)

    def thin(network: nn.Module, density: float = 0.3) -> dict[str, torch.Tensor]:
        sigma = {}
        for name, value in network.named_parameters():
            value.data = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                keep = torch.rand(value.shape[:2], generator=generator) < density
                keep = keep.view(*value.shape[:2], *[1] * (value.dim() - 2))
                value.data *= keep
                spread = torch.exp(torch.randn(value.shape[0], *[1] * (value.dim() - 1), generator=generator))
                sigma[name] = (0.4 * keep * spread).expand_as(value)
        return sigma

    def encoded(network: nn.Module, sigma: dict[str, torch.Tensor] | None, **options: Any) -> bytes:
        count = sum(p.numel() for p in network.parameters())
        return psz.encode(network, make_plan(network, sigma, None if sigma is None else 1.0, **options), count)

    index = torch.arange(64)[torch.rand(64, generator=generator) < 0.5]
    select = nn.Sequential(SelectLinear(index, 64, 20), nn.ReLU(), nn.Linear(20, 3))
    grouped = nn.Sequential(nn.Linear(60, 50))
    convolution = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5))
    complex_ = nn.Sequential()
    complex_.add_module("plane", ComplexLinear(30, 20))
    own, doubles = Own(), nn.Sequential(nn.Linear(5, 4)).double()
    files = [encoded(network, thin(network)) for network in (select, grouped, convolution, complex_, own)]
    files += [encoded(network, thin(network), codebook=4) for network in (select, complex_)]
    files += [encoded(network, None) for network in (convolution, own, doubles)]
    return files


def extra_seeds(folder: Path | None) -> list[bytes]:
    """Files of a folder, in the order of their names."""
    return [] if folder is None else [path.read_bytes() for path in sorted(folder.glob("*.psz"))]


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


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes that differ anywhere; the checksum tells."""
    return with_bytes(data, rng)


def cut(data: bytes, rng: random.Random) -> bytes:
    """A file that ends too early."""
    return data[: rng.randrange(len(data))]


def noise(data: bytes, rng: random.Random) -> bytes:
    """Random bytes, some of them sealed as a file."""
    body = rng.randbytes(rng.randrange(200))
    return rng.choice([body, MAGIC + body, seal(MAGIC + bytes([rng.choice([1, 2])]) + body)])


def sealed(data: bytes, rng: random.Random) -> bytes:
    """Bytes that differ behind the magic, under a checksum that fits."""
    return seal(with_bytes(data[:-4], rng, 4))


def payload(data: bytes, rng: random.Random) -> bytes:
    """The header of a file over a payload that was changed."""
    frame = unpack(data, "seed")
    other = (
        with_bytes(frame.payload, rng) if frame.payload and rng.random() < 0.7 else rng.randbytes(rng.randrange(400))
    )
    return pack(frame.header, other[: len(other) // 4 * 4], frame.padding)


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
    letters = "saphxugik"
    codecs = "".join(rng.choice(letters) for _ in range(count))
    shapes = [
        [rng.choice([0, 1, 2, 3, 20, 64, 300, 1 << 10, 1 << 15, 1 << 20]) for _ in range(rng.choice([1, 2, 2, 2, 4]))]
        for _ in range(count)
    ]
    names = rng.sample(["weight", "fc.weight", "fc.index", "fc.bias", "x", "y"], count)
    made: dict[str, Any] = {"t": [[n, s] for n, s in zip(names, shapes, strict=True)], "k": codecs, "o": 10}
    made["d"] = "".join("i" if k == "i" else rng.choice([d for d in DTYPES if d not in "ijut"]) for k in codecs)
    return pack(made, rng.choice([frame.payload, rng.randbytes(4 * rng.randrange(200))]), rng.choice([0, 0, 100]))


def codecs(data: bytes, rng: random.Random) -> bytes:
    """Tensors read by codecs that did not write them."""
    frame = unpack(data, "seed")
    letters = list(frame.header["k"])
    for _ in range(rng.randint(1, 2)):
        letters[rng.randrange(len(letters))] = rng.choice("saphxugik")
    return pack({**frame.header, "k": "".join(letters)}, frame.payload, frame.padding)


WAYS: list[Callable[[bytes, random.Random], bytes]] = [
    damaged, cut, noise, sealed, sealed, payload, payload, payload, header, header, sizes, codecs,
]  # fmt: skip


@dataclass
class Tally:
    """What has happened so far."""

    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ways: dict[str, Counter[str]] = field(default_factory=dict)
    slowest_ms: float = 0.0
    slowest_case: int = -1
    memory_ratio: float = 0.0
    memory_case: int = -1
    measured: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, case: int, way: str, outcome: str, seconds: float, ratio: float | None) -> None:
        """Count one case."""
        self.done = case + 1
        self.outcomes[outcome] += 1
        self.ways.setdefault(way, Counter())[outcome] += 1
        if 1000 * seconds > self.slowest_ms and ratio is None:
            self.slowest_ms, self.slowest_case = round(1000 * seconds, 1), case
        if ratio is not None:
            self.measured += 1
            if ratio > self.memory_ratio:
                self.memory_ratio, self.memory_case = round(ratio, 3), case
        if outcome not in {"decoded", "CorruptFileError", "NewerFileError", "NetworkError"}:
            self.faults.append(f"case {case} ({way}): {outcome}")
        if seconds > SECOND and ratio is None:
            self.faults.append(f"case {case} ({way}): {seconds:.2f} s")
        if ratio is not None and ratio > 2:
            self.faults.append(f"case {case} ({way}): {ratio:.1f} times the memory")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain types."""
        return {**vars(self), "outcomes": dict(self.outcomes), "ways": {k: dict(v) for k, v in self.ways.items()}}


def make(case: int, files: list[bytes]) -> tuple[str, bytes]:
    """The file of a case, and what was done to it."""
    rng = random.Random(case)
    way = rng.choice(WAYS)
    return way.__name__, way(rng.choice(files), rng)


def read(path: Path, case: int) -> str:
    """Read a file in one of the ways there are; returns what came of it."""
    reader = (coding.load, coding.read_tensors, coding.info)[case % 3]
    try:
        reader(path)
    except (CorruptFileError, NewerFileError) as error:
        return type(error).__name__
    except NetworkError as error:
        if "network=" in str(error):  # whole, and of a class that the file does not know
            return "NetworkError"
        return f"NetworkError: {error}"
    except MemoryError:
        return "MemoryError"
    except Exception as error:  # the fault that is looked for
        return f"{type(error).__name__}: {error}"
    return "decoded"


@dataclass(frozen=True)
class Honest:
    """What honest files take: ``base`` bytes of memory for a small one, and so much for each further number."""

    base: float
    number: float


def honest(files: list[bytes], folder: Path) -> Honest:
    """Measure files that nothing was done to: the seeds, and a larger one of every codec."""
    path = folder / "net.psz"

    def peak(data: bytes, reader: int) -> int:
        path.write_bytes(data)
        read(path, reader)  # tables that are made once
        tracemalloc.start()
        read(path, reader)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    base = max(peak(data, reader) for data in files for reader in range(3))
    large = []
    for rows in (HONEST // 2, 250):
        network = nn.Sequential(nn.Linear(HONEST // rows, rows, bias=False))
        sigma = torch.full_like(network[0].weight, 0.2)
        sigma[rows // 2 :] *= 5
        for options in ({"sigma": None}, {"sigma": sigma}, {"sigma": sigma, "codebook": 8}):
            plan = make_plan(
                network,
                None if options["sigma"] is None else {"0.weight": sigma},
                1.0,
                codebook=options.get("codebook"),
            )
            large.append(psz.encode(network, plan, HONEST))
    per = max(peak(data, reader) for data in large for reader in range(3)) / HONEST
    return Honest(base, per)


def claimed(data: bytes) -> int:
    """How many numbers an honest file with this header would hold; 0 where it cannot be read."""
    try:
        specs = read_specs(unpack(data, "file"), "file")[1]
    except (CorruptFileError, NewerFileError):
        return 0
    return sum(int(np.prod(shape, dtype=np.int64)) * (2 if dtype.is_complex else 1) for _, shape, dtype in specs)


def attempt(case: int, files: list[bytes], folder: Path, usual: Honest) -> tuple[str, str, float, float | None]:
    """Try one case: way, outcome, seconds of the processor, and memory over the honest, where it was measured."""
    way, data = make(case, files)
    path = folder / "net.psz"
    path.write_bytes(data)
    traced = case % MEMORY_EVERY == 0
    if traced:
        tracemalloc.start()
    start = time.process_time()
    outcome = read(path, case)
    seconds = time.process_time() - start
    if not traced:
        return way, outcome, seconds, None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return way, outcome, seconds, peak / (usual.base + usual.number * claimed(data))


def main() -> int:
    """Run the cases that are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--case", type=int, help="try this one and say what happens")
    parser.add_argument("--out", type=Path, help="JSON that is written every few thousand cases, and read to go on")
    parser.add_argument("--seeds", type=Path, help="a folder with more .psz files to damage")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    files = seeds() + extra_seeds(options.seeds)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for data in files:
            container.write(folder / "net.psz", data)
            for reader in range(3):
                outcome = read(folder / "net.psz", reader)
                assert outcome in {"decoded", "NetworkError"}, outcome
        usual = honest(files, folder)
        if options.case is not None:
            print(attempt(options.case, files, folder, usual))
            return 0
        tally = _resumed(options.out)
        for case in range(tally.done, options.cases):
            tally.add(case, *attempt(case, files, folder, usual))
            if options.out is not None and (tally.done % WRITE_EVERY == 0 or tally.done == options.cases):
                options.out.write_text(json.dumps(tally.to_dict(), indent=1) + "\n")
                gc.collect()
    print(json.dumps(tally.to_dict(), indent=1))
    return 1 if tally.faults else 0


def _resumed(path: Path | None) -> Tally:
    if path is None or not path.exists():
        return Tally()
    found = json.loads(path.read_text())
    found["outcomes"] = Counter(found["outcomes"])
    found["ways"] = {way: Counter(outcomes) for way, outcomes in found["ways"].items()}
    return Tally(**found)


if __name__ == "__main__":
    raise SystemExit(main())
