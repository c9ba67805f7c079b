"""Cutting the network of a finished fit again."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.errors import (
    DataError,
    PruneError,
    PyrosparseWarning,
)
from pyrosparse.pipeline.context import Context
from pyrosparse.pipeline.cutting import Cutting
from pyrosparse.pipeline.files import Files
from pyrosparse.pipeline.fitting import Fitting
from pyrosparse.pipeline.folder import RunFolder
from tests.pipeline.runs import content, metrics, settings


def test_prune_again_by_threshold(run_dir: Path) -> None:
    before = metrics(run_dir)
    shown = pipeline.preview(run_dir, threshold=-1.0)
    assert metrics(run_dir) == before
    found = pipeline.prune_again(run_dir, threshold=-1.0)
    assert found["threshold"] == -1.0
    assert found["prune"]["kept"] == shown.report.kept < before["prune"]["kept"]
    assert found["file"]["bytes"] < before["file"]["bytes"]
    assert "test" in found["finished"]
    assert tomllib.loads((run_dir / "config.toml").read_text())["prune"]["threshold"] == -1.0
    assert metrics(run_dir)["stages"][:2] == before["stages"][:2]


def test_prune_again_within_a_budget(run_dir: Path) -> None:
    budget = metrics(run_dir)["file"]["bytes"] // 2
    found = pipeline.prune_again(run_dir, budget=str(budget))
    assert found["file"]["bytes"] <= budget


def test_a_budget_out_of_reach_leaves_the_folder_alone(run_dir: Path) -> None:
    before = content(run_dir)
    with pytest.raises(PruneError, match="at most 20 bytes"):
        pipeline.prune_again(run_dir, budget="20B")
    before.pop("checkpoint/last.pt")
    after = content(run_dir)
    assert before == {name: after[name] for name in before}


def test_without_a_goal_the_threshold_is_chosen_on_validation_data(run_dir: Path) -> None:
    report = pipeline.preview(run_dir).report
    assert report.error is not None and report.dense_error is not None
    assert report.error <= report.dense_error + settings().prune.tolerance
    assert len(report.curve) > 1


def test_a_file_larger_than_the_budget_gets_coarser_steps(run_dir: Path) -> None:
    small = pipeline.preview(run_dir, threshold=2.0)
    small = replace(small, sigma={site: 16 * sigma for site, sigma in small.sigma.items()})  # steps that hurt
    budget = ps.coding.encoded_size(small, c=4.0)
    config = settings(prune={"budget": budget}, file={"tolerance": 0.0})
    context = Context(config, RunFolder.existing(run_dir), print)
    fitting = Fitting(context)
    files = Files(context, fitting, Cutting(context, fitting))
    with (
        pytest.warns(PyrosparseWarning, match=r"steps of [\d.]+ .* were taken, which raise the validation error"),
        pytest.warns(PyrosparseWarning, match=r"every weight of fc1.weight.* is rounded to 0"),
    ):
        info = files._save(run_dir / "network.psz", small)
    assert info.c is not None and info.c >= 1.0
    assert info.bytes == (run_dir / "network.psz").stat().st_size <= budget


def test_a_file_that_cannot_meet_the_budget_is_not_left_behind(run_dir: Path) -> None:
    small = pipeline.preview(run_dir, threshold=2.0)
    context = Context(settings(prune={"budget": 50}), RunFolder.existing(run_dir), print)
    fitting = Fitting(context)
    (run_dir / "network.psz").unlink()
    with pytest.raises(PruneError, match="the budget is 50"):
        Files(context, fitting, Cutting(context, fitting))._save(run_dir / "network.psz", small)
    assert not (run_dir / "network.psz").exists()


def test_steps_that_are_given_count_in_the_budget(run_dir: Path) -> None:
    fine = ps.coding.encoded_size(pipeline.preview(run_dir, threshold=2.0), c=0.1)
    table = (run_dir / "config.toml").read_text().replace("[file]\n", "[file]\nc = 0.1\n")
    (run_dir / "config.toml").write_text(table)
    found = pipeline.prune_again(run_dir, budget=str(fine // 2))
    assert found["file"]["c"] == 0.1
    assert (run_dir / "network.psz").stat().st_size == found["file"]["bytes"] <= fine // 2


def test_length_may_be_weighed_within_a_budget(run_dir: Path) -> None:
    budget = metrics(run_dir)["file"]["bytes"] // 2
    found = pipeline.prune_again(run_dir, budget=str(budget), rate_weight=0.15)
    assert next(row for row in found["stages"] if row["name"] == "file")["rate_weight"] == 0.15
    assert found["file"]["bytes"] <= budget
    assert found["agreement"]["file"] < 1e-5


def test_weights_may_take_centres_and_steps_again(run_dir: Path) -> None:
    found = pipeline.prune_again(run_dir, codebook=64)
    codecs = {row["name"]: row["codec"] for row in found["file"]["layers"]}
    assert {codec for name, codec in codecs.items() if name.endswith("weight")} == {"k"}
    assert found["agreement"]["file"] < 1e-5
    for name, value in ps.load(run_dir / "network.psz").named_parameters():
        if name.endswith("weight"):
            assert len(value[value != 0].unique()) <= 64
    again = pipeline.prune_again(run_dir, codebook=0)
    assert "k" not in {row["codec"] for row in again["file"]["layers"]}


@pytest.mark.parametrize("epochs", [0, 1])
def test_weights_may_become_draws_and_integers_again(run_dir: Path, epochs: int) -> None:
    table = (run_dir / "config.toml").read_text() + f"\n[random_code]\nepochs = {epochs}\nrounds = 2\nbits = 8\n"
    (run_dir / "config.toml").write_text(table.replace('codec = "integers"', 'codec = "random-code"'))
    found = pipeline.prune_again(run_dir, threshold=2.0, codec="random-code")
    codecs = {row["name"]: row["codec"] for row in found["file"]["layers"]}
    assert {codec for name, codec in codecs.items() if name.endswith("weight")} == {"r"}
    assert found["agreement"]["file"] < 1e-5
    small = pipeline.preview(run_dir, threshold=2.0)
    as_it_is = ps.coding.code_posterior(small, bits=8).network
    first = next(name for name in codecs if name.endswith("weight"))
    same = ps.load(run_dir / "network.psz").get_parameter(first).equal(as_it_is.get_parameter(first))
    assert same == (epochs == 0)
    again = pipeline.prune_again(run_dir, threshold=2.0, codec="integers")
    assert "r" not in {row["codec"] for row in again["file"]["layers"]}
    assert "random_code" not in again["config"]
    assert not (run_dir / "coded.safetensors").exists()


def test_a_file_of_random_codes_is_compared_after_a_pause(run_dir: Path) -> None:
    before = pipeline.prune_again(run_dir, threshold=2.0, codec="random-code")
    data = (run_dir / "network.psz").read_bytes()
    folder = RunFolder.existing(run_dir)
    folder.clear(["test", "report"])
    config = settings(prune={"threshold": 2.0, "curve": [0.0]}, file={"tolerance": 0.05, "codec": "random-code"})
    after = pipeline.run(config, run_dir, resume=True)
    assert (run_dir / "network.psz").read_bytes() == data
    assert after["agreement"] == before["agreement"]


def test_prune_needs_a_finished_fit(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the folder of a run"):
        pipeline.prune_again(tmp_path)
    shutil.rmtree(run_dir / "checkpoint")
    with pytest.raises(DataError, match="holds no finished fit"):
        pipeline.prune_again(run_dir)
