"""Every script in examples/ runs from start to end, with a small budget."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pyrosparse.cli import main
from pyrosparse.config import read

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(monkeypatch: pytest.MonkeyPatch, script: str, **options: object) -> dict[str, Any]:
    argv = [script, *(part for key, value in options.items() for part in (f"--{key}", str(value)))]
    monkeypatch.setattr(sys, "argv", argv)
    return runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def test_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    names = run(monkeypatch, "first.py", epochs=12, out=tmp_path)
    assert "fc1.weight" in capsys.readouterr().out
    assert (tmp_path / "forest.png").stat().st_size > 1000
    assert names["metrics"].accuracy > 0.8

    x = names["digits"].x_test
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = names["small"].network(x)
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)


def test_own_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "net.psz"
    names = run(monkeypatch, "own_network.py", epochs=6, out=path)
    float32 = 4 * sum(p.numel() for p in names["dense"].parameters())
    assert path.stat().st_size < float32 / 4
    assert names["ps"].evaluate(names["again"], names["test"]).accuracy > 0.8


def test_whole_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "whole_units.py", epochs=8, out=tmp_path)
    said = capsys.readouterr().out
    assert "fc2.scale[" in said and "operations an example" in said
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("forest.png", "global_scale.png"))
    assert (tmp_path / "network.psz").exists()


def test_dropout_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "dropout_path.py", epochs=3, out=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines][1:] == [
        "Gaussian dropout", "α of each layer", "α of each input", "α of each weight", "Sparse VD",
    ]  # fmt: skip
    assert (tmp_path / "path.png").stat().st_size > 1000


def test_readme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path) -> None:
    pytest.importorskip("onnxruntime")
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(re.sub(r"epochs=\d+", "epochs=4", code), names)
    assert names["info"].bytes == (tmp_path / "net.psz").stat().st_size
    assert (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_settings(path: Path) -> None:
    config = read(path)
    if config.data.source == "digits":
        return
    assert config.data.path is not None
    assert Path(config.data.path).is_absolute()


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") + ".py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


def test_a_complex_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("pretrain.epochs=4", "fit.epochs=4", "baselines.epochs=1", "fit.relation=true")
    options = [part for setting in short for part in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(EXAMPLES / "complex.toml"), "--out", str(tmp_path / "run"), *options])
    assert not ended.value.code
    assert "k-means" in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Phase and modulus of" in page and "64 complex" in page
    assert "fc1.weight/covariance" in load_file(tmp_path / "run" / "posterior.safetensors")
