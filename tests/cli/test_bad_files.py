"""Folders, files and options that are something else than a command needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import pyrosparse as ps
from tests.cli.calls import call


@pytest.mark.parametrize("command", ["inspect", "prune", "report"])
def test_a_folder_that_is_no_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        code, _, err = call(capsys, command, folder)
        assert code == 1
        assert str(folder) in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "args", [["info"], ["unpack", "-o", "x.safetensors"], ["export", "-o", "x.onnx"]], ids=lambda a: a[0]
)
def test_a_file_that_is_missing_or_damaged(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.psz").write_bytes(b"not a network")
    for name, words in (("absent.psz", "there is no file"), ("bad.psz", "bad.psz")):
        code, _, err = call(capsys, args[0], name, *args[1:])
        assert code == 1
        assert words in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.psz"]


@pytest.mark.parametrize("shape", ["99999999999999999999", "999999999,999999999"])
def test_an_example_that_is_too_large(shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ps.save(tmp_path / "net.psz", nn.Sequential(nn.Linear(3, 2)))
    code, _, err = call(capsys, "export", tmp_path / "net.psz", "-o", tmp_path / "net.onnx", "--shape", shape)
    assert code == 2
    assert f"--shape {shape}: an example of this size does not fit into memory" in err and err.count("\n") == 1


def test_a_folder_where_a_file_belongs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "info", tmp_path)
    assert code == 1
    assert f"{tmp_path} is a folder: give a file, such as {tmp_path / 'network.psz'}" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["unpack", "bad.psz", "-o", "x.npz"], "ends in .safetensors"),
        (["export", "bad.psz", "-o", "x.h5"], "ends in .onnx or .pt2"),
        (["export", "bad.psz", "-o", "nowhere/x.onnx"], "there is no folder nowhere"),
        (["export", "bad.psz", "-o", "x.onnx", "--shape", "1,x"], "--shape 1,x"),
        (["export", "bad.psz", "-o", "x.onnx", "--shape", "0"], "--shape 0"),
        (["prune", "x", "--budget", "large"], "'large' is not a size"),
    ],
)
def test_bad_options(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *args)
    assert code == 2
    assert words in err and err.count("\n") == 1
