"""A complex network through every stage of a run, by the names that a TOML file uses."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.errors import ConfigError
from pyrosparse.nn import ComplexLinear
from pyrosparse.report.read import read_run
from tests.pipeline.runs import content, metrics, settings


def test_from_the_file_of_settings_to_the_report(tmp_path: Path) -> None:
    config = settings(
        model={"name": "complex_dense", "args": {"inputs": 64, "hidden": 24}},
        prior={"name": "GroupLogUniform", "args": {"individual": "ComplexARD"}, "layers": {"fc2": "ComplexLogUniform"}},
    )
    found = pipeline.run(config, tmp_path / "run")
    numbers = 2 * (64 * 24 + 24 * 10)
    assert found["summary"]["total"] == sum(layer["total"] for layer in found["layers"]) == numbers
    assert [site["parts"] for site in found["summary"]["sites"]] == [2, 2]
    assert found["agreement"]["file"] == 0
    if find_spec("onnxruntime") is not None:
        assert found["agreement"]["onnx"] < 1e-3
    assert isinstance(ps.load(tmp_path / "run" / "network.psz").fc2, ComplexLinear)
    sites = read_run(tmp_path / "run").sites  # what the report will draw
    assert all(site.complex_mean is not None and site.mean.shape == site.keep.shape for site in sites.values())
    again = pipeline.prune_again(tmp_path / "run", threshold=0.0)
    assert again["threshold"] == 0.0 and metrics(tmp_path / "run")["layers"][0]["parts"] == 2
    before = content(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"file.codec = 'random-code' is for real weights.*complex_dense.*complex"):
        pipeline.prune_again(tmp_path / "run", codec="random-code")
    assert content(tmp_path / "run") == before
