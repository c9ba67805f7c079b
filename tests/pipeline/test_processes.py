"""Several processes fit one run together; the first does everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyrosparse import pipeline
from pyrosparse.infer.ranks import Ranks
from tests.pipeline.runs import metrics, settings
from tests.processes import in_two

CONFIG = settings(fit={"epochs": 3, "teacher": {"name": "digits_mlp", "epochs": 1}})


def _twice(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Run, and go on with the run when it is finished: the fit alone is asked for again."""
    out, said = folder.parent / "run", []
    found = [pipeline.run(CONFIG, out, say=said.append)]
    Ranks().wait()
    if Ranks().first:
        (out / "pruned.safetensors").unlink()
    found.append(pipeline.run(CONFIG, out, resume=True, say=said.append))
    return found, said


@pytest.mark.slow
def test_a_run_in_two_processes_is_that_of_one(tmp_path: Path) -> None:
    (first, said), (second, said_too) = in_two(tmp_path, _twice)
    assert second == [{}, {}] and not said_too
    assert len([line for line in said if line.startswith("prune ")]) == 2
    alone = pipeline.run(CONFIG, tmp_path / "alone")
    written = [(tmp_path / at / "history.jsonl").read_text().splitlines() for at in ("run", "alone")]
    history = [[json.loads(line) for line in lines] for lines in written]
    for ours, theirs in zip(*history, strict=True):
        assert ours["kept"] == pytest.approx(theirs["kept"], abs=3)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    together = metrics(tmp_path / "run")
    assert set(together["finished"]) == set(alone["finished"])
    for ours, theirs in zip(together["stages"], alone["stages"], strict=True):
        assert ours["name"] == theirs["name"]
        assert ours["val_accuracy"] == pytest.approx(theirs["val_accuracy"], abs=0.02)
        assert ours["parameters"] == pytest.approx(theirs["parameters"], rel=0.02)
    assert first[0]["config"] == alone["config"]
