"""Sparse Bayesian neural networks with Pyro.

Put a sparsity prior on a network, fit the posterior, read what it says is not needed, and take a smaller
network and a smaller file home::

    import pyrosparse as ps
    from pyrosparse import models, guides

    model = ps.SparseModel(net, prior=ps.priors.LogUniform(), likelihood=ps.likelihoods.Categorical(num_data=60_000))
    guide = guides.AutoSparse(model)
    ps.fit(model, guide, train_loader, epochs=100)
    small = ps.prune(model, guide, threshold="auto", val_loader=val_loader)
    ps.save("net.psz", small)

Names are imported at their first use, so that ``import pyrosparse`` and the command line answer at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Chaining": "pyrosparse.reconstruction",
    "Fit": "pyrosparse.infer",
    "Metrics": "pyrosparse.infer",
    "Pruned": "pyrosparse.pruning",
    "ReconstructionReport": "pyrosparse.reconstruction",
    "SparseELBO": "pyrosparse.infer",
    "SparseModel": "pyrosparse.model",
    "evaluate": "pyrosparse.infer",
    "export_onnx": "pyrosparse.export",
    "export_safetensors": "pyrosparse.export",
    "export_torch": "pyrosparse.export",
    "fine_tune": "pyrosparse.pruning",
    "fit": "pyrosparse.infer",
    "load": "pyrosparse.coding",
    "predict": "pyrosparse.infer",
    "prune": "pyrosparse.pruning",
    "reconstruct": "pyrosparse.reconstruction",
    "save": "pyrosparse.coding",
    "summarize": "pyrosparse.posterior",
    "to_arviz": "pyrosparse.posterior",
    "train": "pyrosparse.infer",
}
_MODULES = (
    "coding",
    "data",
    "distributions",
    "errors",
    "export",
    "guides",
    "infer",
    "likelihoods",
    "models",
    "nn",
    "posterior",
    "poutine",
    "priors",
    "reconstruction",
    "report",
)

__all__ = ["__version__", *_HOMES, *_MODULES]  # noqa: PLE0604

if TYPE_CHECKING:
    from pyrosparse import (
        coding,
        data,
        distributions,
        errors,
        export,
        guides,
        infer,
        likelihoods,
        models,
        nn,
        posterior,
        poutine,
        priors,
        reconstruction,
        report,
    )
    from pyrosparse.coding import load, save
    from pyrosparse.export import export_onnx, export_safetensors, export_torch
    from pyrosparse.infer.elbo import SparseELBO
    from pyrosparse.infer.evaluate import Metrics, evaluate
    from pyrosparse.infer.fit import fit
    from pyrosparse.infer.predict import predict
    from pyrosparse.infer.state import Fit
    from pyrosparse.infer.train import train
    from pyrosparse.model import SparseModel
    from pyrosparse.posterior import summarize, to_arviz
    from pyrosparse.pruning.fine_tune import fine_tune
    from pyrosparse.pruning.prune import prune
    from pyrosparse.pruning.pruned import Pruned
    from pyrosparse.reconstruction import Chaining, ReconstructionReport, reconstruct


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # `fit`, `prune` and others are modules as well as functions: the function wins
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"pyrosparse.{name}")
    raise AttributeError(f"module 'pyrosparse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
