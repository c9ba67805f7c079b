"""Linear reconstruction as a stage, before, after or instead of the posterior, and its curve of error against size."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from pyrosparse.data import TensorLoader
from pyrosparse.errors import PyrosparseWarning
from pyrosparse.infer import train
from pyrosparse.infer.schedules import linear_decay
from pyrosparse.pipeline import build
from pyrosparse.pipeline.context import Clock, Context
from pyrosparse.reconstruction.baselines import low_rank, magnitude
from pyrosparse.reconstruction.chain import Chaining
from pyrosparse.reconstruction.report import ReconstructionReport
from pyrosparse.reconstruction.stage import reconstruct

__all__ = ["reconstructed"]


def reconstructed(run: Context, network: nn.Module, stage: str) -> nn.Module:
    """What ``[reconstruct]`` makes of a network, written down as a stage.

    When a run is resumed, it is made anew for its shapes, which are not those of the settings' network, and its numbers
    are read back.

    :param stage: ``"reconstruct"``, or ``"reconstruct_pruned"`` after a posterior.
    """
    table = run.config.reconstruct
    assert table is not None
    name = "reconstructed.safetensors" if stage == "reconstruct" else "reconstructed_pruned.safetensors"
    finished = run.folder.finished(stage)
    run.seed("reconstruct")
    clock = Clock()
    small, report = _smaller(run, network, shapes_only=finished)
    if finished:
        build.weights(small, str(run.folder / name))
        return small.eval()
    found = report.to_dict() | {"position": table.position}
    if table.epochs and table.method != "magnitude":  # which trains in its rounds
        found["untrained_val_error"] = run.error(small)
        found["method"] += f", trained for {table.epochs} epochs"
        small = train(
            small,
            run.train,
            epochs=table.epochs,
            lr=table.lr,
            lr_schedule=linear_decay(hold=0.0),
            likelihood=run.likelihood,
            val_loader=run.val,
        )
    seconds = clock()
    if table.method == "linear":
        found["curve"] = _curve(run, network)
    run.write_state(name, small)
    run.finish(stage, small, seconds, reconstruction=found)
    return small


def _smaller(run: Context, network: nn.Module, *, shapes_only: bool) -> tuple[nn.Module, ReconstructionReport]:
    """Apply the method that the settings name.

    :param shapes_only: whether only the shapes of the result matter, so that nothing need be trained.
    """
    table = run.config.reconstruct
    assert table is not None
    if table.method == "low-rank":
        return low_rank(network, **table.goal)
    if table.method == "magnitude":
        rounds, epochs = (1, 0) if shapes_only else (table.rounds, table.epochs)
        assert table.density is not None
        return magnitude(
            network,
            run.train,
            density=table.density,
            rounds=rounds,
            epochs=epochs,
            lr=table.lr,
            likelihood=run.likelihood,
        )
    return reconstruct(
        network,
        _examples(run),
        chaining=table.chaining,
        debias=table.debias,
        refit=table.refit,
        low_rank=table.low_rank,
        input_features=table.input_features,
        solver=table.solver,
        tol=table.tolerance,
        **table.goal,
    )


def _examples(run: Context) -> TensorLoader:
    """Training data that the moments are of."""
    assert run.config.reconstruct is not None
    images = slice(run.config.reconstruct.examples)
    x, y = run.data.x_train[images], run.data.y_train[images]
    return TensorLoader(x, y, run.config.data.batch_size, shuffle=False, device=run.device)


def _curve(run: Context, network: nn.Module) -> list[dict[str, Any]]:
    """Validation error and KiB over λ/λ_max for every chaining, with and without debiasing."""
    table = run.config.reconstruct
    assert table is not None
    points = []
    for chaining in Chaining:
        for debias in (True, False):
            for ratio in table.curve:
                with warnings.catch_warnings():
                    # the stage has said about these data what there is to say, and a point of a curve may be extreme
                    warnings.simplefilter("ignore", PyrosparseWarning)
                    small, report = reconstruct(
                        network,
                        _examples(run),
                        lam_ratio=ratio,
                        chaining=chaining,
                        debias=debias,
                        input_features=table.input_features,
                        solver=table.solver,
                        tol=table.tolerance,
                    )
                error = run.error(small)
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
