"""Damage ``.psz`` files in every way that comes to mind, and see that a reader only ever refuses or decodes them.

Each file that is tried is a seed file with something done to it: bytes changed or cut off, with and without a checksum
that fits again; another payload; a header with other sizes, codecs, types and layers under the same payload; random
bytes. For each it counts what happened, the time, and the greatest memory over that of
an honest file with as many numbers. Cases depend on their number alone, so that the run goes on where it was stopped,
and one case can be looked at by itself::

    python tools/fuzz_psz.py --cases 100000 --out benchmarks/results/fuzz.json
    python tools/fuzz_psz.py --case 4711
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from psz_damage import WAYS
from psz_seeds import random_code, seeds
from torch import nn

from pyrosparse import coding
from pyrosparse.coding import container, psz
from pyrosparse.coding.container import unpack
from pyrosparse.coding.decode import read_specs
from pyrosparse.coding.precision import make_plan
from pyrosparse.errors import CorruptFileError, NetworkError, NewerFileError

WRITE_EVERY = 2000
MEMORY_EVERY = 10  # tracing memory makes a case several times slower
HONEST = 50_000  # numbers of the files that memory is compared with
SECOND = 1.0
GOOD = {"decoded", "decoded, class not known", "CorruptFileError", "NewerFileError"}


def extra_seeds(folder: Path | None) -> list[bytes]:
    """Files of a folder, in the order of their names."""
    return [] if folder is None else [path.read_bytes() for path in sorted(folder.glob("*.psz"))]


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
    cpu_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, case: int, way: str, outcome: str, seconds: float, ratio: float | None) -> None:
        """Count one case."""
        self.done = case + 1
        self.cpu_seconds = round(self.cpu_seconds + seconds, 4)
        self.outcomes[outcome] += 1
        self.ways.setdefault(way, Counter())[outcome] += 1
        if 1000 * seconds > self.slowest_ms and ratio is None:
            self.slowest_ms, self.slowest_case = round(1000 * seconds, 1), case
        if ratio is not None:
            self.measured += 1
            if ratio > self.memory_ratio:
                self.memory_ratio, self.memory_case = round(ratio, 3), case
        if outcome not in GOOD:
            self.faults.append(f"case {case} ({way}): {outcome}")
        if seconds > SECOND and ratio is None:
            self.faults.append(f"case {case} ({way}): {seconds:.2f} s")
        if ratio is not None and ratio > 2:
            self.faults.append(f"case {case} ({way}): {ratio:.1f} times the memory")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain types."""
        versions = {name: version(name) for name in ("torch", "numpy", "constriction")}
        return {
            **vars(self),
            "versions": versions,
            "outcomes": dict(self.outcomes),
            "ways": {k: dict(v) for k, v in self.ways.items()},
        }


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
        return _of_another_class(path, str(error))
    except MemoryError:
        return "MemoryError"
    except Exception as error:  # the fault that is looked for
        return f"{type(error).__name__}: {error}"
    return "decoded"


def _of_another_class(path: Path, message: str) -> str:
    """Where the message says that the file is whole and only its class is missing, it must decode."""
    if "is whole" not in message or "network=" not in message:
        return f"NetworkError: {message}"
    try:
        coding.read_tensors(path)
    except Exception as fault:
        return f"NetworkError for a file that does not decode: {fault}"
    return "decoded, class not known"


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
    large.append(random_code((250, HONEST // 250)))
    per = max(peak(data, reader) for data in large for reader in range(3)) / HONEST
    return Honest(base, per)


def claimed(data: bytes) -> int:
    """How many numbers an honest file with this header would hold; 0 where it cannot be read."""
    try:
        _, specs, shared = read_specs(unpack(data, "file"), "file")
    except (CorruptFileError, NewerFileError):
        return 0
    return sum(int(np.prod(shape, dtype=np.int64)) * (2 if dtype.is_complex else 1) for name, shape, dtype in specs
               if name not in shared)  # fmt: skip


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
                assert outcome.startswith("decoded"), outcome
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
    del found["versions"]
    found["outcomes"] = Counter(found["outcomes"])
    found["ways"] = {way: Counter(outcomes) for way, outcomes in found["ways"].items()}
    return Tally(**found)


if __name__ == "__main__":
    raise SystemExit(main())
