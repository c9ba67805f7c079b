"""``pyrosparse demo``: its settings, and in the slow tests the whole of it on three seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyrosparse.config import parse
from pyrosparse.errors import PyrosparseWarning
from tests.cli.calls import call


def test_demo_settings() -> None:
    from pyrosparse.pipeline.demo import demo_config

    config = demo_config(seed=4, overrides=["fit.epochs=2"])
    assert (config.seed, config.fit.epochs, config.data.source) == (4, 2, "digits")
    assert config.export.onnx


def test_demo_without_onnx_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrosparse.pipeline.demo import demo_config

    monkeypatch.setattr("pyrosparse.pipeline.demo.find_spec", lambda name: None)
    with pytest.warns(PyrosparseWarning, match="network.onnx is left out"):
        assert not demo_config().export.onnx


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_demo(capsys: pytest.CaptureFixture[str], tmp_path: Path, seed: int) -> None:
    code, out, _ = call(capsys, "demo", "--out", tmp_path / "demo", "--seed", str(seed))
    assert code == 0
    assert "times smaller than float32" in out
    found = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    stages = {row["name"]: row for row in found["stages"]}
    assert stages["file"]["accuracy"] >= stages["dense"]["accuracy"] - 0.01
    assert stages["dense"]["bytes"] >= 40 * stages["file"]["bytes"]
    assert stages["onnx"]["accuracy"] == stages["file"]["accuracy"]
    assert parse(found["config"]).seed == seed
