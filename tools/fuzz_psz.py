"""Damage ``.psz`` files in every way that comes to mind, and see that a reader only ever refuses or decodes them.

Each file that is tried is a seed file with something done to it: bytes changed or cut off, with and without a checksum
that fits again; another payload; a header with other sizes, codecs, types and layers under the same payload; random
bytes. For each it counts what happened, the time, and for some the greatest memory over that of an honest file with as
many numbers, by two measures in turn: Python's account and the operating system's, see psz_memory.py. Cases depend on
their number alone, so that the run goes on where it was stopped, and one case can be looked at by itself::

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
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from psz_damage import WAYS
from psz_memory import MEASURES, Honest, honest, most
from psz_seeds import seeds

from pyrosparse import coding
from pyrosparse.coding import container
from pyrosparse.coding.container import unpack
from pyrosparse.coding.decode import read_specs
from pyrosparse.errors import CorruptFileError, NetworkError, NewerFileError

WRITE_EVERY = 2000
MOST = 2  # times the memory of an honest file
MEMORY_EVERY = 10  # by each measure: tracing makes a case several times slower
SECOND = 1.0
GOOD = {"decoded", "decoded, class not known", "CorruptFileError", "NewerFileError"}


def extra_seeds(folder: Path | None) -> list[bytes]:
    """Files of a folder, in the order of their names."""
    return [] if folder is None else [path.read_bytes() for path in sorted(folder.glob("*.psz"))]


@dataclass(frozen=True)
class Memory:
    """What reading a file took.

    :param measure: by which it was measured.
    :param peak: bytes.
    :param ratio: to what an honest file of as many numbers takes.
    """

    measure: str
    peak: int
    ratio: float


@dataclass
class Tally:
    """What has happened so far."""

    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ways: dict[str, Counter[str]] = field(default_factory=dict)
    slowest_ms: float = 0.0
    slowest_case: int = -1
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, case: int, way: str, outcome: str, seconds: float, memory: Memory | None) -> None:
        """Count one case."""
        self.done = case + 1
        self.cpu_seconds = round(self.cpu_seconds + seconds, 4)
        self.outcomes[outcome] += 1
        self.ways.setdefault(way, Counter())[outcome] += 1
        if 1000 * seconds > self.slowest_ms and memory is None:
            self.slowest_ms, self.slowest_case = round(1000 * seconds, 1), case
        if memory is not None:
            known = self.memory.setdefault(memory.measure, {"measured": 0, "ratio": 0.0, "case": -1, "most_mib": 0.0})
            known["measured"] += 1
            known["most_mib"] = max(known["most_mib"], round(memory.peak / 2**20, 2))
            if memory.ratio > known["ratio"]:
                known |= {"ratio": round(memory.ratio, 3), "case": case}
        if outcome not in GOOD:
            self.faults.append(f"case {case} ({way}): {outcome}")
        if seconds > SECOND and memory is None:
            self.faults.append(f"case {case} ({way}): {seconds:.2f} s")
        if memory is not None and memory.ratio > MOST:
            self.faults.append(f"case {case} ({way}): {memory.ratio:.1f} times the memory, {memory.measure}")

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


def claimed(data: bytes) -> int:
    """How many numbers an honest file with this header would hold; 0 where it cannot be read."""
    try:
        _, specs, shared = read_specs(unpack(data, "file"), "file")
    except (CorruptFileError, NewerFileError):
        return 0
    return sum(int(np.prod(shape, dtype=np.int64)) * (2 if dtype.is_complex else 1) for name, shape, dtype in specs
               if name not in shared)  # fmt: skip


def attempt(
    case: int, files: list[bytes], folder: Path, usual: dict[str, Honest]
) -> tuple[str, str, float, Memory | None]:
    """Try one case: way, outcome, seconds of the processor, and memory, where it was measured."""
    way, data = make(case, files)
    path = folder / "net.psz"
    path.write_bytes(data)
    outcomes = []
    measure = dict(enumerate(usual)).get(case % MEMORY_EVERY)
    start = time.process_time()
    if measure is None:
        outcomes.append(read(path, case))
    else:
        peak = MEASURES[measure][0](lambda: outcomes.append(read(path, case)))
    seconds = time.process_time() - start
    if measure is None:
        return way, outcomes[0], seconds, None
    known, numbers = usual[measure], claimed(data)
    if known.ratio(peak, numbers) > MOST:
        # a heap in which much has been freed here and there has more pages for the same numbers: for honest files too
        now = most(MEASURES[measure][0], files, path, read)
        known = replace(known, base=max(known.base, now))
    return way, outcomes[0], seconds, Memory(measure, peak, known.ratio(peak, numbers))


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
        usual = honest(files, folder / "net.psz", read)
        if options.case is not None:
            print(attempt(options.case, files, folder, usual))
            return 0
        tally = _resumed(options.out)
        gc.freeze()  # what is there now is not looked through again before each measurement
        for case in range(tally.done, options.cases):
            tally.add(case, *attempt(case, files, folder, usual))
            if options.out is not None and (tally.done % WRITE_EVERY == 0 or tally.done == options.cases):
                result = tally.to_dict() | {"honest": {name: vars(figures) for name, figures in usual.items()}}
                options.out.write_text(json.dumps(result, indent=1) + "\n")
                gc.collect()
    print(json.dumps(tally.to_dict(), indent=1))
    return 1 if tally.faults else 0


def _resumed(path: Path | None) -> Tally:
    if path is None or not path.exists():
        return Tally()
    found = json.loads(path.read_text())
    del found["versions"], found["honest"]
    found["outcomes"] = Counter(found["outcomes"])
    found["ways"] = {way: Counter(outcomes) for way, outcomes in found["ways"].items()}
    return Tally(**found)


if __name__ == "__main__":
    raise SystemExit(main())
