"""From dropout to Sparse VD, one step at a time, on the digits.

1. Dropout multiplies each input of a layer by 0 or 1/(1 − p).
2. Gaussian dropout multiplies by N(1, α) with the same variance, α = p/(1 − p).
3. Variational dropout reads this noise as a posterior N(μ, αμ²) under the log-uniform prior, and learns α: one for a
   layer, for an input, or for a weight.
4. Sparse VD gives each weight its own α without bound, and draws the noise additively, so that α → ∞ can be reached:
   the weight is gone.

Prints how sparse and how good each of them is; writes path.png, the posterior of log α at each step.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

RATE = 0.2


def with_dropout(rate: float) -> nn.Sequential:
    """Put dropout before the second and third layer of the digits network."""
    network = models.digits_mlp()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in network.named_children():
        if name in {"fc2", "fc3"}:
            layers[f"dropout_{name}"] = nn.Dropout(rate)
        layers[name] = module
    return nn.Sequential(layers)


def main() -> None:
    """Walk the path; every guide starts at the same network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    digits = ps.data.load("digits", validation=300)
    val = TensorLoader(digits.x_val, digits.y_val, 300, shuffle=False)
    torch.manual_seed(0)
    train = TensorLoader(digits.x_train, digits.y_train, 64)
    binary = ps.train(with_dropout(RATE), train, epochs=20, lr=2e-3, progress=False)
    print(f"dropout, p = {RATE}: validation error {100 * ps.evaluate(binary, val).error:.1f} %")
    start = models.digits_mlp()
    start.load_state_dict(binary.state_dict())  # dropout has no parameters of its own
    steps = {
        "Gaussian dropout": lambda m: guides.GaussianDropout(m, rate=RATE, learn=False),
        "α of each layer": lambda m: guides.GaussianDropout(m, rate=RATE, share="layer", max_alpha=1.0),
        "α of each input": lambda m: guides.GaussianDropout(m, rate=RATE, share="input"),
        "α of each weight": lambda m: guides.GaussianDropout(m, rate=RATE, share="weight"),
        "Sparse VD": lambda m: guides.SparseVD(m, log_var=-8.0),
    }
    figure, axes = plt.subplots(1, len(steps), figsize=(13, 3), sharex=True, constrained_layout=True)
    for ax, (name, make) in zip(axes, steps.items(), strict=True):
        torch.manual_seed(0)
        train = TensorLoader(digits.x_train, digits.y_train, 64)
        model = ps.SparseModel(start, priors.LogUniform(), ps.likelihoods.Categorical(num_data=digits.num_train))
        guide = make(model)
        ps.fit(
            model,
            guide,
            train,
            epochs=options.epochs,
            val_loader=val,
            lr=1e-3,
            lr_log_var=3e-2,
            kl_schedule=schedules.warm_up(until=0.3, value=0.1),
            shrink_every=0,
            device="cpu",
            progress=False,
        )
        small = ps.prune(model, guide, val_loader=val)
        log_alpha = torch.cat([-f.relevance().flatten() for f in guide.families.values()]).clamp(-8, 12)
        print(
            f"{name}: {small.report.ratio:.1f} times fewer weights, validation error {100 * small.report.error:.1f} %"
        )
        ax.hist(log_alpha.numpy(), bins=60, range=(-8, 12), color="#f4a259")
        ax.axvline(3.0, color="#d1495b", lw=1)
        ax.set(title=name, xlabel="log α", yticks=[])
    figure.savefig(options.out / "path.png", dpi=120)


if __name__ == "__main__":
    main()
