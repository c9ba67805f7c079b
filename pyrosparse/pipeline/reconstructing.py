"""The stage between the dense network and the posterior: linear reconstruction, and its curve of error against size."""

from __future__ import annotations

from typing import Any

from torch import nn

from pyrosparse.data import TensorLoader
from pyrosparse.infer import evaluate
from pyrosparse.pipeline.context import Clock, Context
from pyrosparse.reconstruction.chain import Chaining
from pyrosparse.reconstruction.stage import reconstruct

__all__ = ["reconstructed"]


def reconstructed(run: Context, dense: nn.Module) -> nn.Module:
    """The network that the posterior starts from: the dense one, or what ``[reconstruct]`` makes of it.

    It is made anew when a run is resumed, which gives the same: its shapes are not those of the settings' network.
    """
    table = run.config.reconstruct
    if table is None:
        return dense
    images = slice(table.examples)
    x, y = run.data.x_train[images], run.data.y_train[images]
    loader = TensorLoader(x, y, run.config.data.batch_size, shuffle=False, device=run.device)
    clock = Clock()
    small, report = reconstruct(
        dense,
        loader,
        chaining=table.chaining,
        debias=table.debias,
        refit=table.refit,
        low_rank=table.low_rank,
        input_features=table.input_features,
        **table.goal,
    )
    if not run.folder.finished("reconstruct"):
        seconds = clock()
        found = report.to_dict() | {"curve": _curve(run, dense, loader)}
        run.write_state("reconstructed.safetensors", small)
        run.finish("reconstruct", small, seconds, reconstruction=found)
    return small


def _curve(run: Context, dense: nn.Module, loader: TensorLoader) -> list[dict[str, Any]]:
    """Validation error and KiB over λ/λ_max for every chaining, with and without debiasing."""
    table = run.config.reconstruct
    assert table is not None
    points = []
    for chaining in Chaining:
        for debias in (True, False):
            for ratio in table.curve:
                small, report = reconstruct(
                    dense,
                    loader,
                    lam_ratio=ratio,
                    chaining=chaining,
                    debias=debias,
                    input_features=table.input_features,
                )
                error = evaluate(small, run.val).error
                points.append(
                    {
                        "chaining": chaining.value,
                        "debias": debias,
                        "lam_ratio": ratio,
                        "kib": report.kib,
                        "val_error": error,
                    }
                )
    return points
