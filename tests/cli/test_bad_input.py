"""Bad input, one trouble at a time: one clear line, the right exit code, and no work begun."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyrosparse as ps
from tests.cli.calls import call

Refuse = Callable[..., str]
QUICK = """
[model]
name = "pyrosparse.models:mlp"
args = { sizes = [64, 30, 20, 10] }
[export]
onnx = false
[pretrain]
epochs = 1
[fit]
epochs = 2
[prune]
threshold = 3.0
curve = []
[file]
c = 0.5
[posterior]
draws = 2
max_weights = 2
"""


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Run a configuration that must be refused before any work; returns the line on stderr."""
    for name in ("train", "fit"):
        monkeypatch.setattr(f"pyrosparse.pipeline.fitting.{name}", None)

    def run(text: str, *args: str, code: int = 1) -> str:
        (tmp_path / "bad.toml").write_text(text)
        left, out, err = call(capsys, "run", tmp_path / "bad.toml", "--out", tmp_path / "run", *args)
        assert (left, out) == (code, "")
        assert err.startswith("pyrosparse: error: ") and err.count("\n") == 1
        assert not (tmp_path / "run").exists()
        return err

    return run


def idx(folder: Path, *, truncate: bool = False, label: int = 3) -> str:
    """A folder of idx files, and the settings that read it."""
    for part, count in (("train", 50), ("t10k", 10)):
        images = bytes([0, 0, 8, 3]) + struct.pack(">3I", count, 28, 28) + bytes(count * 784)
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", count) + bytes([*([1] * (count - 1)), label])
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    if truncate:
        path = folder / "train-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
    return f"[data]\nsource='idx'\npath='{folder}'\nvalidation=10\n[model]\nname='lenet_300_100'\n"


def npz(folder: Path, **changes: np.ndarray) -> str:
    x = np.random.default_rng(0).normal(size=(40, 1, 8, 8))
    arrays = {"x_train": x, "y_train": np.arange(40) % 4, "x_test": x[:8], "y_test": np.arange(8) % 4}
    np.savez(folder / "data.npz", **(arrays | changes))  # type: ignore[arg-type]
    return f"[data]\nsource='npz'\npath='{folder / 'data.npz'}'\n"


# --- paths and data ----------------------------------------------------------------------------


def test_a_configuration_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = call(capsys, "run", tmp_path / "absent.toml")
    assert code == 2
    assert "there is no file" in err


def test_wrong_paths(refused: Refuse) -> None:
    assert "there is no folder /nowhere/mnist" in refused("[data]\nsource='idx'\npath='/nowhere/mnist'")
    assert "there is no file /nowhere/x.npz" in refused("[data]\nsource='npz'\npath='/nowhere/x.npz'")
    assert "there is no file /nowhere/w" in refused("[pretrain]\nweights='/nowhere/w'")


def test_truncated_idx_file(refused: Refuse, tmp_path: Path) -> None:
    assert "train-images-idx3-ubyte.gz is truncated" in refused(idx(tmp_path, truncate=True))


def test_nan_in_data(refused: Refuse, tmp_path: Path) -> None:
    x = np.zeros((40, 1, 8, 8))
    x[7, 0, 3, 2] = np.nan
    assert "x_train[7, 0, 3, 2]" in refused(npz(tmp_path, x_train=x))


def test_labels_out_of_range(refused: Refuse, tmp_path: Path) -> None:
    assert "labels must lie in 0 … 3" in refused(npz(tmp_path, y_test=np.full(8, 4)))
    assert "y_train[0] is -1" in refused(npz(tmp_path, y_train=np.full(40, -1)))
    # 12 classes for a network with 10 outputs
    twelve = npz(tmp_path, y_train=np.arange(40) % 12)
    assert "has 10 outputs and" in refused(twelve) and "has 12 classes" in refused(twelve)


# --- shapes ------------------------------------------------------------------------------------


def test_examples_that_do_not_fit_the_network(refused: Refuse, tmp_path: Path) -> None:
    err = refused("[model]\nname='lenet_300_100'")
    assert "examples of shape (1, 8, 8) from digits do not fit the network lenet_300_100" in err
    assert "do not fit the network lenet_5_caffe" in refused("[model]\nname='lenet_5_caffe'")
    teacher = "[fit.teacher]\nname='lenet_5_caffe'"
    assert "do not fit the network lenet_5_caffe" in refused(teacher)


def test_weights_that_do_not_fit_the_network(refused: Refuse, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"fc1.weight": torch.zeros(3, 4)}, tmp_path / "w.safetensors")
    assert "does not fit the network" in refused("[pretrain]\nweights='w.safetensors'")
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    assert "not a whole safetensors file" in refused("[pretrain]\nweights='w.safetensors'")


def test_shifts_need_images(refused: Refuse, tmp_path: Path) -> None:
    x = np.zeros((40, 64))
    text = npz(tmp_path, x_train=x, x_test=x[:8]) + "shift=1\n"
    assert "shift needs images" in refused(text)


# --- names -------------------------------------------------------------------------------------


def test_unknown_names_come_with_the_nearest(refused: Refuse) -> None:
    assert "did you mean fit.epochs?" in refused("[fit]\nepoch=3", code=2)
    assert "did you mean 'digits_mlp'?" in refused("[model]\nname='digit_mlp'", code=2)
    assert "did you mean 'LogUniform'?" in refused("[prior]\nname='LogUnifrm'", code=2)
    assert "did you mean fit.lr?" in refused("", "--set", "fit.lrr=3", code=2)


def test_a_layer_that_is_not_there(refused: Refuse) -> None:
    assert "'fc9' fits no layer" in refused("[prior]\nexclude=['fc9']")
    assert "'fc4' fits no layer" in refused("[prior.layers]\nfc4='ARD'")
    assert "fits no site" in refused("[fit.kl_layers]\nfc4=2.0", code=2)


def test_a_device_that_is_not_there(refused: Refuse) -> None:
    assert "device 'cqu'" in refused("", "--device", "cqu", code=2)


# --- priors ------------------------------------------------------------------------------------

MODULE = """
import torch
from torch import nn

class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(64, 16, dtype=torch.complex64)
        self.out = nn.Linear(16, 10)

    def forward(self, x):
        return self.out(self.mix(x.flatten(1).to(torch.complex64)).abs())

def no_layers():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return "own_networks"


def test_a_prior_on_a_layer_that_it_cannot_serve(refused: Refuse, own: str) -> None:
    err = refused(f"[model]\nname='{own}:Complex'\n[export]\nonnx=false")
    assert "prior LogUniform on layer 'mix'" in err and "exclude the layer" in err


def test_a_prior_with_a_bad_argument(refused: Refuse) -> None:
    assert "precision is -1" in refused("[prior]\nname='ARD'\nargs={precision=-1}", code=2)


def test_nothing_to_sparsify(refused: Refuse, own: str) -> None:
    assert "there is nothing to sparsify" in refused(f"[model]\nname='{own}:no_layers'")
    assert "there is nothing to sparsify" in refused("[prior]\nexclude=['fc*']")


# --- thresholds --------------------------------------------------------------------------------


def test_a_threshold_that_empties_a_layer_keeps_a_unit_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(QUICK)
    run = tmp_path / "run"
    code, out, err = call(capsys, "run", tmp_path / "run.toml", "--out", run, "--set", "prune.threshold=-1e3")
    assert code == 0
    for layer in ("fc1", "fc2", "fc3"):
        said = f"{layer}.weight: no weight has log α ≤ -1e+03"
        assert f"note: {said}" in out and f"pyrosparse: warning: {said}" in err
    network = ps.load(tmp_path / "run" / "network.psz")
    assert all(p.numel() for p in network.parameters())


# --- folders -----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made(refused: Refuse, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file: give a folder" in refused("", "--out", str(tmp_path / "file"), code=2)
    assert "cannot be written to" in refused("", "--out", str(tmp_path / "file" / "run"), code=2)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused: Refuse, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be written to" in refused("", "--out", str(tmp_path / "locked" / "run"), code=2)


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        if str(target).endswith("network.psz"):
            raise OSError(28, "No space left on device")
        real(source, target)

    real = os.replace
    monkeypatch.setattr("os.replace", full)
    (tmp_path / "run.toml").write_text(QUICK)
    run = ("run", tmp_path / "run.toml", "--out", tmp_path / "run")
    code, _, err = call(capsys, *run)
    assert code == 1
    assert "No space left on device" in err
    monkeypatch.undo()
    # what was finished is kept, and the run goes on from there
    assert (tmp_path / "run" / "checkpoint").is_dir()
    assert call(capsys, *run, "--resume")[0] == 0


def test_without_the_onnx_packages(refused: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrosparse.pipeline import build

    find = build.find_spec
    monkeypatch.setattr(build, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    err = refused("", code=2)
    assert "pip install 'pyrosparse[onnx]'" in err and "export.onnx = false" in err
