"""Milliseconds a step on LeNet-300-100: deterministic, Sparse VD by hand, `fit`, and stock Pyro SVI.

All variants run in one process and in turn over the same loader, so that what else the machine does hits all of
them; medians over rounds. `fit` is its own epoch (600 steps, as MNIST has), with all that it does there. The
hand-written Sparse VD is plain torch with local reparameterisation, the published sigmoid approximation of the KL and
fused Adam; `fit` uses the exact KL. Nothing is shrunk: this is the first epoch's step. Denormal numbers are flushed to
zero in every variant: on random labels units die, Adam's moments of their weights decay into that range after some 500
steps, and the deterministic step would take more than twice its time.

    python benchmarks/step_time.py [--rounds 7] [--steps 600] [--batch 100] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import pyro
import torch
from by_hand import SparseVD, deterministic, step_of
from common import environment, write
from pyro.infer import SVI
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides, models
from pyrosparse.infer.progress import Bar
from pyrosparse.infer.run import Run
from pyrosparse.infer.settings import FitSettings
from pyrosparse.poutine import local_reparam
from pyrosparse.poutine.parameters import unexposed


def pair(network: nn.Module, num_data: int) -> tuple[ps.SparseModel, guides.AutoSparse]:
    """A fresh model and guide."""
    model = ps.SparseModel(network, ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=num_data))
    return model, guides.AutoSparse(model)


def by_fit(network: nn.Module, loader: ps.data.TensorLoader) -> Callable[[], None]:
    """One epoch of `fit`, exactly as it runs; nothing is shrunk."""
    settings = FitSettings(epochs=10**6, device="cpu", shrink_every=0, progress=False)
    run = Run(*pair(network, loader.num_data), loader, None, settings)
    bar = Bar("fit", 1, show=False)

    def epoch() -> None:
        with unexposed():
            run.epoch(bar)

    return epoch


def by_svi(network: nn.Module, num_data: int) -> Callable[[Tensor, Tensor], None]:
    """One step of stock `pyro.infer.SVI` with `SparseELBO` and `pyro.optim`."""
    model, guide = pair(network, num_data)
    svi = SVI(model, local_reparam(guide), pyro.optim.Adam({"lr": 1e-3, "fused": True}), ps.SparseELBO())

    def step(x: Tensor, y: Tensor) -> None:
        with pyro.validation_enabled(False):
            svi.step(x, y)

    return step


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--out", default="step_time.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    count = options.batch * options.steps
    loader = ps.data.TensorLoader(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)), options.batch)
    network = models.lenet_300_100()

    def over(step: Callable[[Tensor, Tensor], None]) -> Callable[[], None]:
        def epoch() -> None:
            for x, y in loader:
                step(x, y)

        return epoch

    epochs = {
        "deterministic": over(deterministic(models.lenet_300_100(), fused=False)),
        "deterministic, fused Adam": over(deterministic(models.lenet_300_100(), fused=True)),
        "by hand, Adam": over(step_of(network, SparseVD, count)),
        "by hand, fused Adam": over(step_of(network, SparseVD, count, fused=True)),
        "fit": by_fit(network, loader),
        "stock SVI": over(by_svi(network, count)),
    }
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _round in range(options.rounds + 2):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            times[name].append(1000 * (time.perf_counter() - start) / options.steps)
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    base = medians["by hand, fused Adam"]
    rows = {
        name: {
            "ms": round(ms, 3),
            "spread_ms": [round(min(times[name][2:]), 3), round(max(times[name][2:]), 3)],
            "to_by_hand_fused": round(ms / base, 3),
            "to_deterministic": round(ms / medians["deterministic"], 3),
        }
        for name, ms in medians.items()
    }
    for name, row in rows.items():
        print(
            f"{name:26} {row['ms']:7.2f} ms  {row['to_by_hand_fused']:.2f} of by hand, "
            f"{row['to_deterministic']:.2f} of deterministic"
        )
    write(
        options.out,
        {
            "claim": "step time, LeNet-300-100",
            "batch": options.batch,
            "threads": 1,
            "denormals": "flushed to zero",
            "rounds": options.rounds,
            "steps": options.steps,
            "rows": rows,
            **environment(),
        },
    )


if __name__ == "__main__":
    main()
