"""Run the stages, all of them or from pruning on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyrosparse.coding.codes import INTEGERS
from pyrosparse.config import Config, dumps, parse
from pyrosparse.errors import ConfigError, DataError
from pyrosparse.infer.ranks import processes
from pyrosparse.pipeline.comparing import Comparing
from pyrosparse.pipeline.context import Context
from pyrosparse.pipeline.cutting import Cutting
from pyrosparse.pipeline.files import Files
from pyrosparse.pipeline.fitting import Fitting
from pyrosparse.pipeline.folder import ARTEFACTS, RunFolder
from pyrosparse.pruning.pruned import Pruned

__all__ = ["preview", "prune_again", "run"]

# may differ between the two parts of a run that was cut off
_FREE_ON_RESUME = ("device",)


def run(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run a configuration into a folder.

    Data, network, priors, device and folder are checked before any work. Of several processes (``torchrun``) all fit
    the posterior together, and the first does everything else; they must see the same folder.

    :param config: see :mod:`pyrosparse.config`.
    :param out: the folder; made if needed.
    :param resume: go on with the run that the folder holds; its settings must be the same.
    :param overwrite: start anew in a folder that holds a run.
    :param say: gets one line of text a stage.
    :returns: the metrics, as in metrics.json; nothing in a process that is not the first.
    :raises PyrosparseError: whatever is wrong with settings, data, network or disk.
    """
    with processes() as ranks:
        folder = RunFolder(out)
        context = Context(config, folder, say)
        if ranks.first:
            _start(context, resume=resume, overwrite=overwrite)
            _finish(context, Cutting(context, Fitting(context)))
        elif config.has_posterior:
            _ = Fitting(context).posterior
        return folder.metrics if ranks.first else {}


def _start(context: Context, *, resume: bool, overwrite: bool) -> None:
    """Make the folder, or see that it holds the same run."""
    config, folder, say = context.config, context.folder, context.say
    out = folder.path
    if resume and not (folder / "config.toml").is_file():
        say(f"{out} holds no run to resume: this one starts from the beginning")
    elif resume:
        changed = [k for k in config.changes(settings(folder)) if k not in _FREE_ON_RESUME]
        if changed:
            raise ConfigError(
                f"{out} was started with other settings ({', '.join(changed)}): resume with its own "
                "config.toml, or start anew with --overwrite"
            )
    folder.start(resume=resume, overwrite=overwrite)
    folder.write("config.toml", dumps(config.to_dict()))
    say(str(context.data))


def prune_again(
    run_dir: str | Path,
    *,
    threshold: float | None = None,
    budget: str | None = None,
    rate_weight: float | str | None = None,
    codebook: int | None = None,
    codec: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Cut the network of a finished fit again, and write everything that follows from it anew.

    :param threshold: largest log α that is kept; with neither, chosen on validation data.
    :param budget: largest file, such as ``"20kB"``.
    :param rate_weight: as ``file.rate_weight`` in the settings; None leaves it as it was.
    :param codebook: as ``file.codebook`` in the settings; None leaves it as it was, 0 takes it out.
    :param codec: as ``file.codec`` in the settings; None leaves it as it was.
    :returns: the metrics.
    :raises DataError: when the folder holds no finished fit.
    """
    folder = _fitted(run_dir)
    of_file = {"rate_weight": rate_weight, "codebook": codebook, "codec": codec}
    config = _with_goal(settings(folder), threshold, budget, {k: v for k, v in of_file.items() if v is not None})
    context = Context(config, folder, say)
    cutting = Cutting(context, Fitting(context))
    _ = cutting.plan  # a budget that cannot be met leaves the folder as it was
    names = list(ARTEFACTS)
    folder.clear(names[names.index("prune") :])
    folder.write("config.toml", dumps(config.to_dict()))
    _finish(context, cutting)
    return folder.metrics


def preview(run_dir: str | Path, *, threshold: float | None = None, budget: str | None = None) -> Pruned:
    """Say what :func:`prune_again` would cut; nothing is written."""
    folder = _fitted(run_dir)
    context = Context(_with_goal(settings(folder), threshold, budget), folder, lambda line: None)
    return Cutting(context, Fitting(context)).plan


def _finish(context: Context, cutting: Cutting) -> None:
    """Run every stage that is not finished; each asks for the ones before it."""
    context.describe()
    if context.config.has_posterior:
        _ = cutting.fitting.posterior
    _ = cutting.small
    files = Files(context, cutting.fitting, cutting)
    files.psz()
    files.onnx()
    Comparing(context, cutting).all()
    cutting.curve()
    files.test()
    files.report()


def settings(folder: RunFolder) -> Config:
    """Read the configuration of a run folder."""
    path = folder / "config.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:  # not TOML, not text, or not there
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse(table, file=str(path))


def _fitted(run_dir: str | Path) -> RunFolder:
    folder = RunFolder.existing(run_dir)
    if not settings(folder).has_posterior:
        raise DataError(f"{run_dir} has no posterior to cut at a threshold: run it again with another [reconstruct]")
    if not folder.finished("fit"):
        raise DataError(f"{run_dir} holds no finished fit: finish it with `pyrosparse run … --resume`")
    return folder


def _with_goal(
    config: Config, threshold: float | None, budget: str | None, of_file: Mapping[str, float | str] | None = None
) -> Config:
    table = config.to_dict()
    table["prune"].pop("budget", None)
    table["prune"]["threshold"] = "auto" if threshold is None else float(threshold)
    if budget is not None:
        table["prune"]["budget"] = budget
    table["file"] |= of_file or {}
    if not table["file"].get("codebook", 1):
        del table["file"]["codebook"]
    if (of_file or {}).get("codec") == INTEGERS:
        table.pop("random_code", None)  # what only the other codec asks for
    return parse(table, file="--budget" if budget is not None else "--threshold")
