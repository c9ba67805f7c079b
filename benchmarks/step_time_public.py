"""Milliseconds a step against public packages on the same networks: tyxe, bayesian-torch and cplxmodule.

Ours is `fit` with Sparse VD, exact KL, nothing shrunk. The others are used as their documentation shows, with the Adam
that it shows: tyxe (Pyro) with a Normal prior, AutoNormal and local reparameterisation; bayesian-torch with its layers
by reparameterisation (one draw a batch) and by flipout; cplxmodule with its real Sparse VD layers. All variants of a
network in one process and in turn over the same batches; a ratio a round, and the median of these. Denormal numbers are
flushed to zero in all of them. A package that is not installed is left out and named.

    python benchmarks/step_time_public.py [--rounds 5] [--steps 100 40] [--batch 128]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter

import pyro
import torch
import torch.nn.functional as F
from by_hand import deterministic
from common import environment, write
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.data import TensorLoader
from pyrosparse.infer.progress import Bar
from pyrosparse.infer.run import Run
from pyrosparse.infer.settings import FitSettings
from pyrosparse.poutine.parameters import unexposed

Step = Callable[[Tensor, Tensor], object]
Epoch = Callable[[], None]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LeNet-300-100": models.lenet_300_100,
    "LeNet-5-Caffe": models.lenet_5_caffe,
}
ASKED = 1.7


def ours(network: nn.Module, loader: TensorLoader, autocast: str | None = None) -> Epoch:
    """One epoch of `fit`."""
    model = ps.SparseModel(network, priors.LogUniform(), ps.likelihoods.Categorical(num_data=loader.num_data))
    settings = FitSettings(epochs=10**6, device="cpu", shrink_every=0, progress=False, autocast=autocast)
    run = Run(model, guides.AutoSparse(model), loader, None, settings)
    bar = Bar("fit", 1, show=False)

    def epoch() -> None:
        with unexposed():
            run.epoch(bar)

    return epoch


def over(loader: TensorLoader, step: Step) -> Epoch:
    """One pass over the data."""

    def epoch() -> None:
        for x, y in loader:
            step(x, y)

    return epoch


def penalised(network: nn.Module, penalty: Callable[[], Tensor], loader: TensorLoader) -> Epoch:
    """One epoch of Adam on the cross-entropy and the KL divergence."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step(x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(network(x), y) + penalty() / loader.num_data
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return over(loader, step)


def bayesian_torch(network: nn.Module, loader: TensorLoader, kind: str) -> Epoch:
    """Its conversion of a whole network."""
    from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss

    start = {"prior_mu": 0.0, "prior_sigma": 1.0, "posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
    dnn_to_bnn(network, start | {"type": kind, "moped_enable": False, "moped_delta": 0.5})
    return penalised(network, lambda: get_kl_loss(network), loader)


def cplxmodule(network: nn.Module, loader: TensorLoader) -> Epoch:
    """Its layers of real Sparse VD, with the approximate KL."""
    from cplxmodule.nn.relevance import Conv2dVD, LinearVD, penalties

    def turned(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Linear):
            return LinearVD(module.in_features, module.out_features)
        if isinstance(module, nn.Conv2d):
            return Conv2dVD(module.in_channels, module.out_channels, module.kernel_size[0])
        return module

    made = nn.Sequential(*map(turned, network.children()))
    return penalised(made, lambda: sum(penalties(made), torch.zeros(())), loader)


def tyxe(network: nn.Module, loader: TensorLoader) -> Epoch:
    """Its Bayesian network under local reparameterisation; SVI of Pyro."""
    import tyxe as package
    from pyro.distributions import Normal

    if not hasattr(pyro.util, "deep_getattr"):  # Pyro 1.9 has dropped this helper, which tyxe 0.0.2 calls
        pyro.util.deep_getattr = lambda owner, name: attrgetter(name)(owner)
    bnn = package.VariationalBNN(
        network,
        package.priors.IIDPrior(Normal(0.0, 1.0)),
        package.likelihoods.Categorical(loader.num_data),
        package.guides.AutoNormal,
    )
    pyro.clear_param_store()
    svi = pyro.infer.SVI(bnn.model, bnn.guide, pyro.optim.Adam({"lr": 1e-3}), loss=pyro.infer.TraceMeanField_ELBO())

    def step(x: Tensor, y: Tensor) -> None:
        with package.poutine.local_reparameterization(), pyro.validation_enabled(False):
            svi.step((x,), y)

    return over(loader, step)


OTHERS: dict[str, tuple[str, Callable[[nn.Module, TensorLoader], Epoch]]] = {
    "tyxe, local reparameterisation": ("tyxe", tyxe),
    "bayesian-torch, reparameterisation": (
        "bayesian-torch",
        lambda network, loader: bayesian_torch(network, loader, "Reparameterization"),
    ),
    "bayesian-torch, flipout": ("bayesian-torch", lambda network, loader: bayesian_torch(network, loader, "Flipout")),
    "cplxmodule, Sparse VD": ("cplxmodule", cplxmodule),
}
OURS = "pyrosparse, Sparse VD"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs=2, default=[100, 40], help="steps an epoch of each network")
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="(tyxe|bayesian_torch|cplxmodule|torch)")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    rows, verdicts, absent = [], [], set()
    for (name, build), steps in zip(NETWORKS.items(), options.steps, strict=True):
        count = options.batch * steps
        loader = TensorLoader(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)), options.batch)
        epochs = {OURS: ours(build(), loader), f"{OURS}, bfloat16": ours(build(), loader, "bfloat16")}
        epochs["deterministic, fused Adam"] = over(loader, deterministic(build(), fused=True))
        for title, (package, make) in OTHERS.items():
            try:
                version(package)
            except PackageNotFoundError:
                absent.add(package)
                continue
            epochs[title] = make(build(), loader)
        times: dict[str, list[float]] = {title: [] for title in epochs}
        for _ in range(options.rounds + 1):
            for title, epoch in epochs.items():
                start = time.perf_counter()
                epoch()
                times[title].append(1000 * (time.perf_counter() - start) / steps)
        for title, values in times.items():
            ratio = statistics.median(t / o for t, o in zip(values[1:], times[OURS][1:], strict=True))
            row = {"network": name, "variant": title, "ms": statistics.median(values[1:]), "of_ours": ratio}
            rows.append(row)
            print(f"{name:14s} {title:36s} {row['ms']:7.2f} ms  {ratio:5.2f} of ours", flush=True)
            if title in OTHERS:
                claim = f"{name}: step of {title}, of ours"
                verdicts.append({"claim": claim, "asked": ASKED, "measured": ratio, "met": ratio >= ASKED})
    write(
        "step_time_public.json",
        {
            "claim": "step time against public packages, one thread",
            "batch": options.batch,
            "rounds": options.rounds,
            "denormals": "flushed to zero",
            "rows": rows,
            "verdict": verdicts,
            "not_installed": sorted(absent),
            **environment(*sorted({package for package, _ in OTHERS.values()} - absent)),
        },
    )


if __name__ == "__main__":
    main()
