"""Milliseconds a step of complex Sparse VD on 784-300-100-10, against the public package cplxmodule.

Both draw pre-activations and have the log-uniform prior; cplxmodule with its approximate and its exact KL and torch's
Adam (it knows no fused one for its parameters), this library with the exact KL and the published approximation, and
fused Adam. All variants run in turn in one process, so that what else the machine does hits all of them. Needs the
extra `bench`.

    python benchmarks/complex_step_time.py [--rounds 10] [--steps 10] [--batch 128] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
import torch.nn.functional as F
from common import environment, write
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.func import functional_call

import pyrosparse.nn as psnn
from pyrosparse.distributions import ComplexLogUniform, ComplexNormal
from pyrosparse.poutine.undrawn_complex import UndrawnPairs

SIZES = (784, 300, 100, 10)
NUM_DATA = 60_000
Step = Callable[[Tensor, Tensor], None]


def by_cplxmodule(*, exact: bool) -> Step:
    """One step with the layers of cplxmodule."""
    from cplxmodule.cplx import Cplx
    from cplxmodule.nn.relevance import CplxLinearVD, penalties
    from cplxmodule.nn.relevance.extensions.complex import CplxLinearVDApprox

    kind = CplxLinearVD if exact else CplxLinearVDApprox
    layers = nn.ModuleList(kind(i, o) for i, o in zip(SIZES[:-1], SIZES[1:], strict=True))
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)

    def step(x: Tensor, y: Tensor) -> None:
        z = layers[0](Cplx(x))
        for layer in layers[1:]:
            z = layer(z.apply(torch.relu))
        loss = F.cross_entropy(z.real, y) + sum(penalties(layers)) / NUM_DATA
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def by_pyrosparse(*, exact: bool) -> Step:
    """One step with undrawn weights and registered KLs, without Pyro's messages."""
    modules: list[nn.Module] = [psnn.ToComplex()]
    for i, o in zip(SIZES[:-1], SIZES[1:], strict=True):
        modules += [psnn.ComplexLinear(i, o), psnn.CReLU()]
    network = nn.Sequential(*modules[:-1], psnn.RealPart())
    weights = {n: p for n, p in network.named_parameters() if n.endswith("weight")}
    loc = {n: nn.Parameter(p.detach().clone()) for n, p in weights.items()}
    log_var = {n: nn.Parameter(torch.full(p.shape[:-1], -6.0)) for n, p in weights.items()}
    biases = [p for n, p in network.named_parameters() if n not in weights]
    optimizer = torch.optim.Adam([*loc.values(), *log_var.values(), *biases], lr=1e-3, fused=True)
    prior = ComplexLogUniform(kl="exact" if exact else "sigmoid")

    def step(x: Tensor, y: Tensor) -> None:
        posteriors = {n: ComplexNormal(loc[n], log_var[n], validate_args=False) for n in weights}
        draws = {n: UndrawnPairs(q.mean, q.total_variance, sampler=q.rsample, site=n) for n, q in posteriors.items()}
        kl = sum(kl_divergence(q, prior).sum() for q in posteriors.values())
        loss = F.cross_entropy(functional_call(network, draws, (x,)), y) + kl / NUM_DATA
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", default="complex_step_time.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.rand(options.batch, SIZES[0]), torch.randint(SIZES[-1], (options.batch,))
    steps = {
        "cplxmodule, approximate KL": by_cplxmodule(exact=False),
        "cplxmodule, exact KL": by_cplxmodule(exact=True),
        "pyrosparse, approximate KL": by_pyrosparse(exact=False),
        "pyrosparse, exact KL": by_pyrosparse(exact=True),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _round in range(options.rounds + 1):
        for name, step in steps.items():
            for _step in range(options.steps):
                start = time.perf_counter()
                step(x, y)
                times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values[options.steps :]) for name, values in times.items()}
    base = medians["cplxmodule, approximate KL"]
    rows = {
        name: {
            "ms": round(ms, 3),
            "best_ms": round(min(times[name]), 3),
            "to_cplxmodule_approximate": round(ms / base, 3),
        }
        for name, ms in medians.items()
    }
    for name, row in rows.items():
        print(f"{name:28} {row['ms']:7.2f} ms  {row['to_cplxmodule_approximate']:.2f} of cplxmodule, approximate KL")
    settings = {"batch": options.batch, "rounds": options.rounds, "steps": options.steps}
    write(
        options.out,
        {
            "claim": "step time, complex 784-300-100-10",
            **settings,
            "cplxmodule": version("cplxmodule"),
            "rows": rows,
            **environment(),
        },
    )


if __name__ == "__main__":
    main()
