"""Milliseconds a step of complex Sparse VD against the public package cplxmodule: 784-300-100-10 and complex LeNet-5.

Both draw pre-activations and have the log-uniform prior; cplxmodule with its approximate and its exact KL and torch's
Adam as its authors use it, this library by whole epochs of `fit`, as users run it, with the exact KL and the published
approximation, nothing shrunk. All variants run in turn in one process, so that what else the machine does hits all of
them; each round gives a ratio, and the median of these is compared. Needs the extra `bench`.

    python benchmarks/complex_step_time.py [--rounds 5] [--steps 40] [--networks dense conv] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from common import environment, write
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import guides, models
from pyrosparse.data import TensorLoader
from pyrosparse.infer.progress import Bar
from pyrosparse.infer.run import Run
from pyrosparse.infer.settings import FitSettings
from pyrosparse.poutine.parameters import unexposed

SIZES = (784, 300, 100, 10)
# what was asked: the step with the exact KL, of cplxmodule's with the approximate one
BARS = {"dense": 0.45, "conv": 0.75}
TITLES = {"dense": "complex 784-300-100-10", "conv": "complex LeNet-5, 20-50-(800)-500-10"}
BASE, OURS = "cplxmodule, approximate KL", "pyrosparse, exact KL"
Epoch = Callable[[], None]


def mlp() -> nn.Sequential:
    """784-300-100-10 with CReLU."""
    layers: list[nn.Module] = [nn.Flatten(), psnn.ToComplex()]
    for i, o in pairwise(SIZES):
        layers += [psnn.ComplexLinear(i, o), psnn.CReLU()]
    return nn.Sequential(*layers[:-1], psnn.RealPart())


def by_cplxmodule(network: str, loader: TensorLoader, *, exact: bool) -> Epoch:
    """One epoch with the layers of cplxmodule."""
    from cplxmodule.cplx import Cplx
    from cplxmodule.nn.relevance import CplxConv2dVD, CplxLinearVD, penalties
    from cplxmodule.nn.relevance.extensions.complex import CplxConv2dVDApprox, CplxLinearVDApprox

    linear = CplxLinearVD if exact else CplxLinearVDApprox
    conv = CplxConv2dVD if exact else CplxConv2dVDApprox
    convs = nn.ModuleList([conv(1, 20, 5), conv(20, 50, 5)] if network == "conv" else [])
    linears = nn.ModuleList(linear(i, o) for i, o in pairwise((800, 500, 10) if network == "conv" else SIZES))
    layers = nn.ModuleList([*convs, *linears])
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)

    def forward(x: Tensor) -> Tensor:
        z: Any = Cplx(x)
        for layer in convs:
            z = layer(z).apply(torch.relu).apply(F.avg_pool2d, 2)
        z = z.apply(torch.flatten, 1)
        for layer in linears[:-1]:
            z = layer(z).apply(torch.relu)
        logits: Tensor = linears[-1](z).real
        return logits

    def epoch() -> None:
        for x, y in loader:
            loss = F.cross_entropy(forward(x), y) + sum(penalties(layers)) / loader.num_data
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def by_pyrosparse(network: str, loader: TensorLoader, *, exact: bool) -> Epoch:
    """One epoch of `fit`, exactly as it runs; nothing is shrunk."""
    net = mlp() if network == "dense" else models.complex_conv()
    prior = ps.priors.ComplexLogUniform(kl="exact" if exact else "sigmoid")
    model = ps.SparseModel(net, prior, ps.likelihoods.Categorical(num_data=loader.num_data))
    settings = FitSettings(epochs=10**6, device="cpu", shrink_every=0, progress=False)
    run = Run(model, guides.AutoSparse(model, log_var=-10.0), loader, None, settings)
    bar = Bar("fit", 1, show=False)

    def epoch() -> None:
        with unexposed():
            run.epoch(bar)

    return epoch


def compare(network: str, *, rounds: int, steps: int, batch: int) -> dict[str, Any]:
    """Milliseconds of each variant, and the median of the rounds' ratios."""
    count = batch * steps
    loader = TensorLoader(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)), batch)
    epochs = {
        BASE: by_cplxmodule(network, loader, exact=False),
        "cplxmodule, exact KL": by_cplxmodule(network, loader, exact=True),
        "pyrosparse, approximate KL": by_pyrosparse(network, loader, exact=False),
        OURS: by_pyrosparse(network, loader, exact=True),
    }
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _round in range(rounds + 1):  # the first warms up
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            times[name].append(1000 * (time.perf_counter() - start) / steps)
    rows = {}
    for name, ms in times.items():
        ratio = statistics.median(a / b for a, b in zip(ms[1:], times[BASE][1:], strict=True))
        rows[name] = {
            "ms": round(statistics.median(ms[1:]), 3),
            "spread_ms": [round(min(ms[1:]), 3), round(max(ms[1:]), 3)],
            "to_cplxmodule_approximate": round(ratio, 3),
        }
        print(f"{TITLES[network]}: {name:28} {rows[name]['ms']:8.2f} ms  {ratio:.2f} of {BASE}", flush=True)
    measured = rows[OURS]["to_cplxmodule_approximate"]
    verdict = {"claim": TITLES[network], "asked": BARS[network], "measured": measured}
    return {"rows": rows, "verdict": verdict | {"met": measured <= BARS[network]}}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--networks", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--out", default="complex_step_time.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = {"batch": options.batch, "rounds": options.rounds, "steps": options.steps}
    networks = {name: compare(name, **settings) for name in options.networks}
    result = {"claim": "step time of complex networks", "threads": 1, **settings}
    write(options.out, result | {"cplxmodule": version("cplxmodule"), "networks": networks, **environment()})


if __name__ == "__main__":
    main()
