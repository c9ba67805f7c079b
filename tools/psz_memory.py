"""Two measures of the memory that reading a file takes, for tools/fuzz_psz.py, and what honest files take by each.

``traced`` is Python's and NumPy's own account, to the byte; what torch allocates is not in it. ``resident`` is the
operating system's: how far the high-water mark of the process's resident memory rises. It sees everything, in pages;
what allocators keep of what was freed before is given back first. Linux alone lets the mark be reset.
"""

from __future__ import annotations

import ctypes
import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from psz_seeds import random_code
from torch import nn

from pyrosparse.coding import psz
from pyrosparse.coding.precision import make_plan

__all__ = ["MEASURES", "Honest", "honest", "most", "resident", "traced"]

RESET = Path("/proc/self/clear_refs")
PEAK = "5"  # what is written there to set the mark to what is resident now
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE
TRIALS = 3
SMALL, LARGE = 50_000, 500_000  # numbers of the honest files that are measured by each


def traced(call: Callable[[], object]) -> int:
    """Greatest number of bytes that Python and NumPy held at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident(call: Callable[[], object]) -> int:
    """Bytes by which the resident memory of the process rose, at the most: the least of three calls.

    What a call takes, it takes in each; pages of the program itself, which a system short of memory puts aside, come
    back in one of them. Pages are small ones: a huge page would count 2 MiB for its first byte.

    :raises OSError: where the operating system does not tell.
    """
    system = ctypes.CDLL(None)
    system.prctl(NO_HUGE_PAGES, 1, 0, 0, 0)
    rises = []
    for _ in range(TRIALS):
        gc.collect()
        system.malloc_trim(0)  # what was freed before is not to serve this call
        RESET.write_text(PEAK)
        before = _status("VmRSS")
        call()
        rises.append(_status("VmHWM") - before)
    return max(0, min(rises))


def _status(key: str) -> int:
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


Measure = Callable[[Callable[[], object]], int]
MEASURES: dict[str, tuple[Measure, int]] = {"traced": (traced, SMALL)}
if RESET.exists():
    MEASURES["resident"] = (resident, LARGE)


@dataclass(frozen=True)
class Honest:
    """What honest files take: ``base`` bytes of memory for a small one, and so much for each further number."""

    base: float
    number: float

    def ratio(self, peak: int, numbers: int) -> float:
        """Memory over that of an honest file of so many numbers."""
        return peak / (self.base + self.number * numbers)


def honest(files: list[bytes], path: Path, read: Callable[[Path, int], object]) -> dict[str, Honest]:
    """Measure files that nothing was done to: the seeds, and larger ones of every codec.

    :param path: a file to write to.
    :param read: reads it, in one of three ways.
    """
    found = {}
    for name, (measure, numbers) in MEASURES.items():
        base = most(measure, files, path, read)
        found[name] = Honest(base, most(measure, _large(numbers), path, read) / numbers)
    return found


def most(measure: Measure, files: list[bytes], path: Path, read: Callable[[Path, int], object]) -> int:
    """Bytes that the greediest of some files takes by a measure.

    :param path: a file to write to.
    :param read: reads it, in one of three ways.
    """

    def peak(data: bytes, reader: int) -> int:
        path.write_bytes(data)
        read(path, reader)  # tables that are made once
        return measure(lambda: read(path, reader))

    return max(peak(data, reader) for data in files for reader in range(3))


def _large(numbers: int) -> list[bytes]:
    files = []
    for rows in (numbers // 2, 250):
        network = nn.Sequential(nn.Linear(numbers // rows, rows, bias=False))
        sigma = torch.full_like(network[0].weight, 0.2)
        sigma[rows // 2 :] *= 5
        for options in ({"sigma": None}, {"sigma": sigma}, {"sigma": sigma, "codebook": 8}):
            plan = make_plan(
                network,
                None if options["sigma"] is None else {"0.weight": sigma},
                1.0,
                codebook=options.get("codebook"),
            )
            files.append(psz.encode(network, plan, numbers))
    files.append(random_code((250, numbers // 250)))
    return files
