"""Peak memory of fitting, of that of deterministic training.

Each variant runs in a process of its own: imports, data and a first product of matrices come first, then the high-water
mark of the resident memory is set back, and what the network, its optimiser and some steps add to it is counted. On a
CUDA device it is what torch has allocated at most.

    python benchmarks/memory.py [--device cpu] [--rounds 3]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import re
import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from common import environment, write
from step_profile import METHODS, NETWORKS, step_of
from torch import nn

import pyrosparse as ps

BATCH, STEPS = 128, 30
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(what: str) -> int:
    """``VmRSS``, what is resident now, or ``VmHWM``, the most that was; in bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{STATUS} says nothing of {what}: resident memory is measured on Linux alone")
    return 1024 * int(found[1])


def measure(network: str, method: str, device: torch.device) -> int:
    """Bytes that a network, its optimiser and some steps need at most."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    count = BATCH * STEPS
    x, y = torch.rand(count, 1, 28, 28), torch.randint(10, (count,))
    loader = ps.data.TensorLoader(x, y, BATCH, device=device)
    # what is loaded and set aside by the first steps of any network is not this one's
    warm = step_of(
        nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)),
        METHODS[method],
        loader,
    )
    for batch in islice(loader, 6):  # some in the ordinary way, and some from the tape
        warm(*batch)
    del warm, batch
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what has been freed is not to be had for nothing
        CLEAR.write_text("5")
        before = resident("VmRSS")
    step = step_of(NETWORKS[network](), METHODS[method], loader)
    for batch in loader:
        step(*batch)
    return (torch.cuda.max_memory_allocated() if device.type == "cuda" else resident("VmHWM")) - before


def main() -> None:
    """Measure each variant in a process of its own, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "METHOD"), help="measure this one, and print bytes")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, torch.device(options.device))))
        return
    rows: list[dict[str, Any]] = []
    for network in NETWORKS:
        found: dict[str, list[int]] = {method: [] for method in METHODS}
        for _ in range(options.rounds):
            for method in METHODS:
                command = [sys.executable, __file__, "--device", options.device, "--one", network, method]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[method].append(json.loads(said))
        dense = statistics.median(found["deterministic"])
        for method, values in found.items():
            peak = statistics.median(values)
            rows.append({"network": network, "method": method, "bytes": peak, "of_deterministic": peak / dense})
            print(f"{network:14} {method:24} {peak / 2**20:7.1f} MiB {peak / dense:5.2f} of deterministic", flush=True)
    result = {"claim": "peak memory of training", "device": options.device, "batch": BATCH, "rounds": options.rounds}
    write("memory.json", result | {"rows": rows, **environment()})


if __name__ == "__main__":
    main()
