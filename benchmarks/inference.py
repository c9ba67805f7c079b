"""Milliseconds of inference, pruned against dense, in torch and in ONNX Runtime, with one thread and with two.

The pruned networks are the files of the tables of this folder, read back; all cells are measured in turn, in one run.

    python benchmarks/inference.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import RESULTS, environment, write
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import models

FILES = {
    "lenet_300_100": ("lenet_300_100-plain", "lenet_300_100-aided", "lenet_groups-gnj-300", "lenet_groups-l0-300"),
    "lenet_5_caffe": ("lenet_5_caffe-first", "lenet_5_caffe-second", "lenet_groups-ghs-5", "lenet_groups-l0-5"),
}
BATCHES = (1, 8192)
THREADS = (1, 2)


def in_torch(network: nn.Module, threads: int) -> Callable[[Tensor], object]:
    """A pass in torch."""

    @torch.no_grad()
    def run(x: Tensor) -> object:
        torch.set_num_threads(threads)
        return network(x)

    return run


def in_onnx(network: nn.Module, threads: int, folder: Path) -> Callable[[Tensor], object]:
    """A pass in ONNX Runtime, the copy of the inputs into numpy left out."""
    import onnxruntime

    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    ps.export_onnx(network, path, torch.zeros(1, 1, 28, 28))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})


def measure(run: Callable[[Tensor], object], x: Tensor) -> float:
    """Milliseconds of a pass: as many as fit into a twentieth of a second."""
    start = time.perf_counter()
    count = 0
    while count == 0 or time.perf_counter() - start < 0.05:
        run(x)
        count += 1
    return 1000 * (time.perf_counter() - start) / count


def main() -> None:
    """Measure every cell of the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    cells: dict[tuple[str, str, str, int, int], list[float]] = {}
    runs: dict[tuple[str, str, str, int], Callable[[Tensor], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, names in FILES.items():
            found = {n: sorted(RESULTS.glob(f"{n}-seed*.psz")) for n in names}
            networks = {"dense": models.build(kind).eval()}
            networks |= {n: ps.load(paths[len(paths) // 2]) for n, paths in found.items() if paths}
            for name, network in networks.items():
                for threads in THREADS:
                    runs[kind, name, "torch", threads] = in_torch(network, threads)
                    runs[kind, name, "ONNX Runtime", threads] = in_onnx(network, threads, Path(folder))
        inputs = {batch: torch.rand(batch, 1, 28, 28) for batch in BATCHES}
        for _round in range(options.rounds + 1):
            for (kind, name, engine, threads), run in runs.items():
                for batch, x in inputs.items():
                    cells.setdefault((kind, name, engine, threads, batch), []).append(measure(run, x))
    rows = []
    for (kind, name, engine, threads, batch), times in cells.items():
        dense = cells[kind, "dense", engine, threads, batch]
        rows.append(
            {
                "network": kind,
                "row": name,
                "engine": engine,
                "threads": threads,
                "batch": batch,
                "ms": statistics.median(times[1:]),
                "faster": statistics.median(d / t for d, t in zip(dense[1:], times[1:], strict=True)),
            }
        )
        print(
            f"{kind:14s} {name:24s} {engine:13s} {threads} threads  batch {batch:5d}  {rows[-1]['ms']:8.3f} ms  "
            f"{rows[-1]['faster']:6.1f} times faster"
        )
    write("inference.json", {"claim": "inference, pruned against dense", "rows": rows, **environment()})


if __name__ == "__main__":
    main()
