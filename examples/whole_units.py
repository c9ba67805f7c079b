"""Which units of a network live: a group horseshoe on the digits, read in ArviZ.

A horseshoe on the scales of each layer's inputs decides which inputs and hidden units are needed. The forest plot shows
the posterior of every scale, the second picture what was learned of the layers' own scales, prior against posterior.
Writes forest.png, global_scale.png and network.psz into the folder ``--out``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import NullFormatter

import pyrosparse as ps
from pyrosparse import guides, models, priors
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az

LAYERS = ("fc1", "fc2", "fc3")


def fitted(epochs: int) -> tuple[ps.SparseModel, guides.AutoSparse, TensorLoader]:
    """Pre-train a small network, then fit the horseshoe, with pressure until it is eight times smaller."""
    torch.manual_seed(0)
    digits = ps.data.load("digits", validation=300)
    train = TensorLoader(digits.x_train, digits.y_train, 64)
    val = TensorLoader(digits.x_val, digits.y_val, 300, shuffle=False)
    dense = ps.train(models.digits_mlp(), train, epochs=20, lr=2e-3, progress=False)
    model = ps.SparseModel(dense, priors.GroupHorseshoe(1e-5), ps.likelihoods.Categorical(num_data=digits.num_train))
    guide = guides.AutoSparse(model, log_var=-4.0, criterion="information")
    ps.fit(
        model,
        guide,
        train,
        epochs=epochs,
        val_loader=val,
        lr=3e-3,
        lr_log_var=5e-2,
        lr_scale=3e-2,
        lr_schedule=schedules.linear_decay(hold=0.45),
        kl_schedule=schedules.ClosedLoop(peak=0.5, value=0.1, rate=8.0),
        device="cpu",
        progress=False,
    )
    return model, guide, val


def draw_forest(idata: object, path: Path) -> None:
    """Scales of the groups that live fitting has left, layer by layer, on one logarithmic axis."""
    figure, axes = plt.subplots(1, len(LAYERS), figsize=(11, 6), constrained_layout=True)
    for ax, layer in zip(axes, LAYERS, strict=True):
        scale = idata.posterior[f"{layer}.scale"].isel(chain=0)  # type: ignore[attr-defined]
        low, middle, high = (scale.quantile(q, "draw").values for q in (0.03, 0.5, 0.97))
        order = np.argsort(middle)
        ax.hlines(np.arange(len(order)), low[order], high[order], color="#f4a259", lw=2)
        ax.plot(middle[order], np.arange(len(order)), "o", color="#7a3b00", ms=3)
        ax.set(xscale="log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set(title=f"{layer}: {len(order)} inputs left", xlabel="scale z, median and 94 %", yticks=[])
    axes[0].set_ylabel("inputs, by their median")
    figure.savefig(path, dpi=120)


def draw_global(idata: object, path: Path) -> None:
    """The scale of each layer: what the prior expected and what the posterior knows."""
    figure, axes = plt.subplots(1, len(LAYERS), figsize=(11, 3), constrained_layout=True)
    for ax, layer in zip(axes, LAYERS, strict=True):
        name = f"{layer}.scale.layer"
        for group, colour in (("prior", "#9aa0a6"), ("posterior", "#d1495b")):
            factors = getattr(idata, group)[name].isel(chain=0)
            log_scale = 0.5 * np.log10(factors.prod(f"{name}_factor").values)
            heights, edges = np.histogram(log_scale, bins=30)
            # each to its own height: the posterior is a hundred times narrower than the prior
            ax.stairs(heights / heights.max(), edges, fill=True, alpha=0.8, color=colour, label=group)
        ax.set(title=name, xlabel="log₁₀ of the layer's scale", yticks=[])
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Fit, look, prune, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    folder: Path = options.out
    model, guide, val = fitted(options.epochs)
    print(ps.summarize(model, guide))
    idata = ps.to_arviz(model, guide, draws=500, prior=True)
    table = az.summary(idata, var_names=["fc2.scale"], kind="stats")
    print(table.sort_values("mean", ascending=False).head(5))
    draw_forest(idata, folder / "forest.png")
    draw_global(idata, folder / "global_scale.png")
    small = ps.prune(model, guide, threshold="auto", val_loader=val, tolerance=0.01)
    print(small)
    info = ps.save(folder / "network.psz", small, val_loader=val)
    print(f"{info.bytes:,} bytes, {info.ratio:.0f} times smaller")


if __name__ == "__main__":
    main()
