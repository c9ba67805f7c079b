"""Where the time of a step goes, beside the floor: the matrix products that it cannot do without.

For each network and method, one step of `fit` (deterministic: of ordinary training with fused Adam), nothing shrunk:

* *ms* is the time of a step as `fit` takes it, from its tape, measured without a profiler, the median of rounds that
  interleave all rows; *ordinary* is the same without the tape;
* *floor* is the time of the step's matrix products and convolutions by themselves: the same operations on tensors of
  the same shapes, forward and backward, and nothing else. Local reparameterisation needs each of them twice, for mean
  and variance;
* the parts come from torch's profiler over further steps, which adds a microsecond or two to each operation: *products*
  (the same operations where they stand), *KL* (value and gradient), *noise* (drawing it, and its gradient),
  *optimiser*, *data* (the batch), *rest* (every other operation on tensors), and *Python*, what is left of an ordinary
  step: Pyro's traces, autograd's nodes, the interpreter. A tape has the same operations, and little of Python.

On a CUDA device the parts are times of kernels, and Python is the time in which the device waits.

    python benchmarks/step_profile.py [--rounds 5] [--steps 100] [--batch 128] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyro
import torch
import torch.nn.functional as F
from by_hand import deterministic
from common import RESULTS, environment, write
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.infer.layout import layout_of
from pyrosparse.infer.run import Run
from pyrosparse.infer.settings import FitSettings
from pyrosparse.poutine.parameters import unexposed

Step = Callable[[Tensor, Tensor], Any]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LeNet-300-100": models.lenet_300_100,
    "LeNet-5-Caffe": models.lenet_5_caffe,
}
METHODS: dict[str, Callable[[], priors.Prior] | None] = {
    "deterministic": None,
    "Sparse VD": priors.LogUniform,
    "ARD": priors.ARD,
    "group Normal-Jeffreys": priors.GroupLogUniform,
    "group horseshoe": priors.GroupHorseshoe,
    "L0, gates once a batch": lambda: priors.L0(per_example=False),
}
# operations by the part of the step that they belong to; an operation counts with what it calls
PARTS: dict[str, tuple[str, ...]] = {
    "products": ("aten::mm", "aten::addmm", "aten::linear", "aten::convolution", "aten::convolution_backward"),
    "KL": ("WeightKL", "GaussianKL"),
    "noise": ("_Noise", "aten::randn", "aten::rand", "aten::normal_", "aten::uniform_"),
    "optimiser": ("Optimizer.step", "Optimizer.zero_grad"),
    "data": ("aten::index", "aten::randperm"),
}


def step_of(
    network: nn.Module,
    make: Callable[[], priors.Prior] | None,
    loader: ps.data.TensorLoader,
    *,
    replay: bool | None = None,
) -> Step:
    """One step of a method, as `fit` takes it, or without a tape."""
    if make is None:
        return deterministic(network.to(loader.x.device), fused=True)
    model = ps.SparseModel(network, make(), ps.likelihoods.Categorical(num_data=loader.num_data))
    settings = FitSettings(epochs=10**6, device=loader.x.device, shrink_every=0, progress=False, replay=replay)
    run = Run(model, guides.AutoSparse(model, log_var=-4.0), loader, None, settings)
    run.model.train()

    def step(x: Tensor, y: Tensor) -> None:
        with pyro.validation_enabled(False):  # as in every step of a fit but the first
            run.step.gradient(x, y, 0.5)
            run.step.update()

    return step


def floor_of(network: nn.Module, batch: int, device: torch.device, *, twice: bool) -> Callable[[], None]:
    """The products of one step by themselves: of the outputs, of the weights' gradients, of the inputs' but the first.

    :param twice: whether mean and variance need one each.
    """
    products: list[Callable[[], object]] = []
    x = torch.rand(batch, 1, 28, 28, device=device)
    x = layout_of(network.to(device), x[:2])(x)  # as a fit lays out its batches
    for index, layer in enumerate(network.to(device).children()):
        y = layer(x).detach()
        if isinstance(layer, nn.Linear):
            w, g = layer.weight.detach(), torch.rand_like(y)
            products += [lambda x=x, w=w: F.linear(x, w), lambda x=x, g=g: g.t() @ x]
            products += [lambda w=w, g=g: g @ w] if index > 1 else []
        elif isinstance(layer, nn.Conv2d):
            w, g, needs = layer.weight.detach(), torch.rand_like(y), [index > 0, True, False]
            shape = (layer.stride, layer.padding, layer.dilation)
            products += [lambda x=x, w=w, s=shape: F.conv2d(x, w, None, *s)]
            products += [
                lambda x=x, w=w, g=g, s=shape, needs=needs: torch.ops.aten.convolution_backward(
                    g, x, w, None, *map(list, s), False, [0, 0], 1, needs
                )
            ]
        x = y
    times = 2 if twice else 1

    def once() -> None:
        for product in products:
            for _ in range(times):
                product()

    return once


def batches(loader: ps.data.TensorLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without an end."""
    while True:
        yield from loader


def milliseconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Milliseconds of one call."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return 1000 * (time.perf_counter() - start) / times


def parts_of(step: Step, data: Iterator[tuple[Tensor, Tensor]], steps: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of a step in each part, by the profiler."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as record, torch.no_grad():
        for _ in range(steps):
            x, y = next(data)
            with torch.enable_grad():
                step(x, y)
    found = dict.fromkeys([*PARTS, "rest"], 0.0)

    def time_of(event: Any) -> float:
        return event.device_time_total if device.type == "cuda" else event.cpu_time_total

    def walk(event: Any) -> None:
        part = next((p for p, names in PARTS.items() if event.name.startswith(names)), None)
        if part is not None:
            found[part] += time_of(event)
            return
        if event.name.startswith("aten::"):
            found["rest"] += event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        for child in event.cpu_children:
            walk(child)

    for event in record.events():
        if event.cpu_parent is None and event.device_type == DeviceType.CPU:
            walk(event)
    return {part: micro / 1000 / steps for part, micro in found.items()}


def table_of(rows: list[Mapping[str, Any]]) -> str:
    """A table for each network, in Markdown."""
    names = [*PARTS, "rest", "Python"]
    lines = []
    for network in dict.fromkeys(row["network"] for row in rows):
        lines += [
            f"| {network} | ms | ratio | ordinary | floor | " + " | ".join(names) + " |",
            "|---|" + "---:|" * (4 + len(names)),
        ]
        for row in rows:
            if row["network"] == network:
                whole = (row["ms"], row["of_deterministic"], row["ordinary_ms"], row["floor_ms"])
                numbers = (*whole, *(row["parts"][n] for n in names))
                lines.append(f"| {row['method']} | " + " | ".join(f"{n:.2f}" for n in numbers) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    device = torch.device(options.device)
    count = options.batch * options.steps
    loader = ps.data.TensorLoader(
        torch.rand(count, 1, 28, 28), torch.randint(10, (count,)), options.batch, device=device
    )
    data = batches(loader)
    rows: list[dict[str, Any]] = []
    for network, build in NETWORKS.items():
        steps = {method: step_of(build(), make, loader) for method, make in METHODS.items()}
        ordinary = {method: step_of(build(), make, loader, replay=False) for method, make in METHODS.items()}
        single = ("deterministic", "L0, gates once a batch")
        floors = {m: floor_of(build(), options.batch, device, twice=m not in single) for m in METHODS}
        times: dict[str, list[float]] = {method: [] for method in METHODS}
        ordinary_times: dict[str, list[float]] = {method: [] for method in METHODS}
        floor_times: dict[str, list[float]] = {method: [] for method in METHODS}
        with unexposed():
            for _ in range(options.rounds + 1):
                for method, step in steps.items():
                    times[method].append(milliseconds(lambda s=step: s(*next(data)), options.steps, device))
                    plain = ordinary[method]
                    ordinary_times[method].append(milliseconds(lambda s=plain: s(*next(data)), options.steps, device))
                    floor_times[method].append(milliseconds(floors[method], options.steps, device))
            profiles = {method: parts_of(step, data, options.steps, device) for method, step in ordinary.items()}
        for method in METHODS:
            ms = statistics.median(times[method][1:])
            ratio = statistics.median(t / d for t, d in zip(times[method][1:], times["deterministic"][1:], strict=True))
            plain_ms = statistics.median(ordinary_times[method][1:])
            parts = profiles[method] | {"Python": max(0.0, plain_ms - sum(profiles[method].values()))}
            floor = statistics.median(floor_times[method][1:])
            rows.append(
                {
                    "network": network,
                    "method": method,
                    "ms": ms,
                    "of_deterministic": ratio,
                    "ordinary_ms": plain_ms,
                    "floor_ms": floor,
                    "parts": parts,
                }
            )
    table = table_of(rows)
    print(table)
    write(
        "step_profile.json",
        {
            "claim": "where the time of a step goes",
            "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
            "batch": options.batch,
            "rounds": options.rounds,
            "denormals": "flushed to zero",
            "rows": rows,
            **environment(),
        },
    )
    (RESULTS / "step_profile.md").write_text(table)


if __name__ == "__main__":
    main()
