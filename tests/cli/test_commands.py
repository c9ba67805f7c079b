"""What the commands do with runs and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.cli import main
from tests.cli.calls import call

SETTINGS = """
[model]
name = "pyrosparse.models:mlp"
args = { sizes = [64, 30, 10] }
[pretrain]
epochs = 3
[fit]
epochs = 3
kl = 1.0
[prune]
threshold = 0.0
curve = [1.0]
[file]
c = 0.5
[posterior]
draws = 3
max_weights = 2
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.toml").write_text(SETTINGS)
    with pytest.raises(SystemExit) as left:
        main(["run", str(folder / "small.toml"), "--out", str(folder / "run"), "--set", "fit.lr=0.003"])
    assert left.value.code == 0
    return folder / "run"


def test_run_prints_the_stages(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    code, out, err = call(
        capsys, "run", run_dir.parent / "small.toml", "--out", run_dir, "--resume", "--set", "fit.lr=0.003"
    )
    assert code == 0
    for word in ("dense network", "file (.psz)", "ONNX", "network.psz", "times smaller", "report.html"):
        assert word in out
    assert "examples of shape (1, 8, 8)" in err


def test_run_goes_to_a_folder_named_after_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: seen.append((a, k)) or {"stages": []})
    (tmp_path / "mine.toml").write_text("")
    assert call(capsys, "run", tmp_path / "mine.toml", "--device", "cpu")[0] == 0
    (config, folder), options = seen[0]
    assert folder == Path("runs/mine")
    assert config.device == "cpu"
    assert (options["resume"], options["overwrite"]) == (False, False)


def test_inspect(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    code, out, err = call(capsys, "inspect", run_dir)
    assert (code, err) == (0, "")
    assert "fc1.weight" in out and "largest difference from the network in memory" in out
    assert "Weights in bits" in out and "order-0 entropy" in out and "at its precision" in out
    code, out, err = call(capsys, "inspect", run_dir, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((run_dir / "metrics.json").read_text())


def test_prune_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    before = {p: p.read_bytes() for p in run_dir.iterdir() if p.is_file()}
    code, out, err = call(capsys, "prune", run_dir, "--threshold", "-1", "--dry-run")
    assert code == 0
    assert "fc1.weight" in out and "threshold log α ≤ -1" in out
    assert "nothing was written" in err
    assert {p: p.read_bytes() for p in before} == before


def test_prune_and_report(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    before = (run_dir / "network.psz").stat().st_size
    code, out, _ = call(capsys, "prune", run_dir, "--threshold", "-0.5")
    assert code == 0
    assert "fc1.weight" in out
    assert (run_dir / "network.psz").stat().st_size < before
    (run_dir / "report.html").unlink()
    code, out, _ = call(capsys, "report", run_dir)
    assert (code, out.strip()) == (0, str(run_dir / "report.html"))
    assert (run_dir / "report.html").is_file()


def test_info(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    code, out, err = call(capsys, "info", run_dir / "network.psz")
    assert (code, err) == (0, "")
    assert "fc1.weight" in out
    found = json.loads(call(capsys, "info", run_dir / "network.psz", "--json")[1])
    assert found["bytes"] == (run_dir / "network.psz").stat().st_size


def test_unpack(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    assert call(capsys, "unpack", run_dir / "network.psz", "-o", tmp_path / "net.safetensors")[0] == 0
    tensors = load_file(tmp_path / "net.safetensors")
    state = ps.load(run_dir / "network.psz").state_dict()
    assert set(tensors) == set(state)
    for name, value in state.items():
        assert torch.equal(tensors[name], value)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_export(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path, name: str) -> None:
    code, out, err = call(capsys, "export", run_dir / "network.psz", "-o", tmp_path / name, "--shape", "1,8,8")
    assert (code, err) == (0, "")
    assert f"{(tmp_path / name).stat().st_size} bytes" in out


def test_export_finds_the_shape_in_a_first_linear_layer(
    capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path
) -> None:
    assert call(capsys, "export", run_dir / "network.psz", "-o", tmp_path / "net.onnx")[0] == 0


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_no_file_is_larger_than_its_budget(
    capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path, share: float
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    budget = int(share * (folder / "network.psz").stat().st_size)
    code, out, err = call(capsys, "prune", folder, "--budget", str(budget), "--rate-weight", "auto")
    assert code == 0, err
    assert (folder / "network.psz").stat().st_size <= budget
    assert "file (.psz)" in out


@pytest.mark.parametrize("budget", ["1", "40B", "0.03kB"])
def test_a_budget_out_of_reach_says_why(
    capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path, budget: str
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    before = (folder / "network.psz").read_bytes()
    code, _, err = call(capsys, "prune", folder, "--budget", budget)
    assert code == 1
    assert "the smallest has" in err
    assert (folder / "network.psz").read_bytes() == before


def test_a_codebook_is_an_option(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    code, _, err = call(capsys, "prune", folder, "--codebook", "64")
    assert code == 0, err
    assert "codebook = 64" in (folder / "config.toml").read_text()
    code, _, err = call(capsys, "prune", folder, "--codebook", "5000")
    assert code == 2
    assert "codebook" in err


def test_the_codec_is_an_option(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    code, _, err = call(capsys, "prune", folder, "--codec", "random-code", "--threshold", "0")
    assert code == 0, err
    assert 'codec = "random-code"' in (folder / "config.toml").read_text()
    assert "r" in {layer.codec for layer in ps.coding.info(folder / "network.psz").layers}
    for wrong in (("--codec", "huffman"), ("--codebook", "8"), ("--budget", "2kB"), ("--rate-weight", "auto")):
        code, _, err = call(capsys, "prune", folder, *wrong)
        assert code == 2, wrong
        assert "codec" in err


def test_a_rate_weight_is_a_number(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    code, _, err = call(capsys, "prune", run_dir, "--rate-weight", "much")
    assert code == 2
    assert "such as 0.06, or auto" in err
    code, _, err = call(capsys, "prune", run_dir, "--rate-weight", "-1")
    assert code == 2
    assert "rate_weight" in err
