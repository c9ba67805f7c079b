from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pyrosparse.errors import CorruptFileError, DataError, NewerFileError, PyrosparseWarning
from pyrosparse.report.read import read_run

MakeRun = Callable[..., Path]


def test_sites_come_in_the_order_of_the_layers(make_run: MakeRun) -> None:
    folder = make_run({"z.weight": (6, 9), "a.weight": (4, 6)})
    assert list(read_run(folder).sites) == ["z.weight", "a.weight"]


def test_arrays_are_read_as_they_were_written(make_run: MakeRun) -> None:
    site = read_run(make_run()).sites["fc2.weight"]
    assert site.mean.shape == site.std.shape == site.keep.shape == (20, 40)
    assert site.keep.dtype == bool
    assert np.array_equal(site.keep, site.log_alpha <= 3.0)
    assert (site.mean[~site.present] == 0).all() and (site.std[~site.present] == 0).all()


def test_the_threshold_is_the_recorded_one(make_run: MakeRun) -> None:
    assert read_run(make_run()).threshold == 3.0


def test_an_unrecorded_threshold_is_found_between_kept_and_pruned(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "metrics.json").unlink()
    run = read_run(folder)
    kept = max(s.log_alpha[s.keep].max() for s in run.sites.values() if s.keep.any())
    cut = min(s.log_alpha[~s.keep & s.present].min() for s in run.sites.values())
    assert run.threshold is not None
    assert kept < run.threshold < cut


def test_the_shape_of_an_example_is_found(make_run: MakeRun) -> None:
    assert read_run(make_run(example=(1, 8, 8))).example_shape == (1, 8, 8)


def test_of_a_repeated_epoch_the_last_row_counts(make_run: MakeRun) -> None:
    folder = make_run(epochs=3)
    with (folder / "history.jsonl").open("a") as lines:
        lines.write(json.dumps({"epoch": 2, "kept": 7}) + "\n")
    history = read_run(folder).history
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[1]["kept"] == 7


def test_a_last_line_cut_short_is_left_out_and_said(make_run: MakeRun) -> None:
    folder = make_run(epochs=4)
    path = folder / "history.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.warns(PyrosparseWarning, match=r"history\.jsonl"):
        assert len(read_run(folder).history) == 3


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run folder"):
        read_run(tmp_path / "nowhere")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b"{"),
        ("metrics.json", b"[]"),
        ("config.toml", b"a = = 1"),
        ("config.toml", b"\xff\xfe\xfa"),
        ("history.jsonl", b"nonsense\n{}\n"),
        ("history.jsonl", b"[1]\n"),
        ("posterior.safetensors", b"not tensors"),
    ],
)
def test_a_damaged_file_is_named(make_run: MakeRun, name: str, content: bytes) -> None:
    folder = make_run()
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptFileError, match=name.replace(".", r"\.")):
        read_run(folder)


def test_a_posterior_without_one_of_its_arrays_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    save_file({"fc1.weight/mean": np.zeros((2, 2))}, folder / "posterior.safetensors")
    with pytest.raises(CorruptFileError, match=r"fc1\.weight.*std, relevance, keep"):
        read_run(folder)


def test_metrics_of_a_newer_schema_are_refused(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "metrics.json").write_text('{"schema": 99}')
    with pytest.raises(NewerFileError, match="99"):
        read_run(folder)
