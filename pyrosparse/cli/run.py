"""``demo`` and ``run``: the whole way from data to a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyrosparse.cli.resumable import resumable

if TYPE_CHECKING:
    from pyrosparse.config import Config

__all__ = ["demo", "run"]

Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1; goes before the file's.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as fit.epochs=20; may be repeated."),
]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; a demo that is there is replaced.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the split, the start and the noise.")] = 0,
    device: Device = None,
    settings: Settings = None,
) -> None:
    """Compress a network on scikit-learn's digits, in minutes.

    Example:  pyrosparse demo --out runs/demo
    """
    import torch

    from pyrosparse.pipeline.demo import demo_config

    # its matrices are too small to share: a second thread only waits, and on a busy machine it waits long
    torch.set_num_threads(1)
    config = demo_config(seed=seed, overrides=_with_device(settings, device))
    _go(config, out, resume=False, overwrite=True)


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings of the run.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/CONFIG when left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")] = False,
    device: Device = None,
    settings: Settings = None,
) -> None:
    """Run a configuration from data to report, into one folder.

    Stages: teacher, dense, reconstruct, fit, prune, reconstruct_pruned, fine_tune, quantise, file, onnx, baselines,
    curve, test, report. Each is recorded in metrics.json when it is done; --resume goes on after the last one, or
    inside the fit. Several devices or machines fit together: torchrun --nproc-per-node=2 -m pyrosparse run …

    Example:  pyrosparse run lenet.toml --out runs/lenet --set fit.epochs=50
    """
    from pyrosparse.config import read

    folder = out or Path("runs") / config.stem
    _go(read(config, overrides=_with_device(settings, device)), folder, resume=resume, overwrite=overwrite)


def _with_device(settings: list[str] | None, device: str | None) -> list[str]:
    return [*(settings or []), *([] if device is None else [f'device="{device}"'])]


def _go(config: Config, folder: Path, *, resume: bool, overwrite: bool) -> None:
    from pyrosparse import pipeline
    from pyrosparse.cli.show import show_metrics

    with resumable(folder):
        metrics = pipeline.run(config, folder, resume=resume, overwrite=overwrite, say=_say)
    if metrics:  # there are none in a process that only helped with the fit
        show_metrics(metrics, folder)


def _say(line: str) -> None:
    typer.echo(line, err=True)
