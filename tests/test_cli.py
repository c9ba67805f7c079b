"""The command line: exit codes, one plain line for an error, and an answer to --help before anything heavy loads."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.cli import main
from pyrosparse.config import parse
from pyrosparse.errors import PyrosparseError, PyrosparseWarning

COMMANDS = ("demo", "run", "inspect", "prune", "report", "info", "unpack", "export", "bench")
HEAVY = ("torch", "pyro", "numpy", "scipy", "matplotlib", "arviz", "pydantic", "sklearn", "onnx", "rich")

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


def call(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    """Run a command; returns exit code, stdout and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    code = left.value.code
    assert isinstance(code, int)
    return code, out, err


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.toml").write_text(SETTINGS)
    with pytest.raises(SystemExit) as left:
        main(["run", str(folder / "small.toml"), "--out", str(folder / "run"), "--set", "fit.lr=0.003"])
    assert left.value.code == 0
    return folder / "run"


# --- help and version --------------------------------------------------------------------------


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pyrosparse.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as left:\n    assert left.code == 0\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of the processor, so that a busy machine does not fail the test
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.stderr.split() == []
    for command in COMMANDS:
        assert f"  {command}" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = call(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert f"Example:  pyrosparse {command} " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"pyrosparse {ps.__version__}\n", "")


def test_without_a_command_there_is_help_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys)
    assert code == 2
    assert "Usage: pyrosparse" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["dmo"], ["No such command 'dmo'", "pyrosparse --help"]),
        (["run"], ["CONFIG.toml", "pyrosparse run --help"]),
        (["demo", "--sed", "3"], ["No such option", "--seed", "pyrosparse demo --help"]),
        (["demo", "--seed", "x"], ["--seed", "valid integer"]),
        (["prune", "x", "--threshold", "1", "--budget", "2kB"], ["--threshold or --budget"]),
    ],
)
def test_bad_use_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], args: list[str], words: list[str]) -> None:
    code, out, err = call(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith("pyrosparse: error: ") and err.count("\n") == 1
    for word in words:
        assert word in err


# --- errors ------------------------------------------------------------------------------------


def broken(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_an_error_of_ours_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "run", broken(PyrosparseError("it is\nso")))
    assert call(capsys, "demo") == (1, "", "pyrosparse: error: it is so\n")


def test_an_unexpected_error_points_to_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run", broken(ZeroDivisionError("by zero")))
    code, _, err = call(capsys, "demo")
    assert code == 1
    assert err == "pyrosparse: error: unexpected ZeroDivisionError: by zero; --debug shows where it comes from\n"


@pytest.mark.parametrize("place", [0, 1])
def test_debug_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(pipeline, "run", broken(PyrosparseError("it is so")))
    args = ["demo"]
    args.insert(place, "--debug")
    with pytest.raises(PyrosparseError, match="it is so"):
        main(args)


def test_ctrl_c_says_where_the_checkpoint_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pipeline, "run", broken(KeyboardInterrupt()))
    code, _, err = call(capsys, "demo", "--out", tmp_path)
    assert code == 130
    assert "the fit has no checkpoint yet" in err and err.count("\n") == 1
    (tmp_path / "checkpoint").mkdir()
    code, _, err = call(capsys, "demo", "--out", tmp_path)
    assert code == 130
    assert f"the checkpoint is in {tmp_path / 'checkpoint'}" in err
    assert f"pyrosparse run {tmp_path / 'config.toml'} --out {tmp_path} --resume" in err


def test_our_warnings_are_one_line_and_others_are_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def warn(*_: object, **__: object) -> dict[str, Any]:
        warnings.warn("look\nhere", PyrosparseWarning, stacklevel=1)
        warnings.warn("for developers", DeprecationWarning, stacklevel=1)
        return {"stages": []}

    monkeypatch.setattr(pipeline, "run", warn)
    code, _, err = call(capsys, "demo", "--out", tmp_path)
    assert (code, err) == (0, "pyrosparse: warning: look here\n")


# --- run, inspect, prune, report ---------------------------------------------------------------


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


# --- files -------------------------------------------------------------------------------------


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


# --- bench -------------------------------------------------------------------------------------


@pytest.fixture
def bench_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "benchmarks"
    (folder / "results").mkdir(parents=True)
    (folder / "good.py").write_text(
        "import sys, pathlib, json\nprint('words', *sys.argv[1:])\n"
        "(pathlib.Path(__file__).parent / 'results' / 'good.json').write_text(json.dumps({'a': 1}))\n"
    )
    (folder / "bad.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr("pyrosparse.cli.bench.benchmarks", lambda: folder)
    return folder


def test_bench(capfd: pytest.CaptureFixture[str], bench_folder: Path) -> None:
    assert call(capfd, "bench", "good", "--seeds", "2")[:2] == (0, "words --seeds 2\n")
    code, out, err = call(capfd, "bench", "good", "--json")
    assert code == 0
    assert json.loads(out) == {"a": 1}
    assert err == "words\n"


def test_bench_that_fails(capfd: pytest.CaptureFixture[str], bench_folder: Path) -> None:
    assert call(capfd, "bench", "bad")[0] == 1
    code, _, err = call(capfd, "bench", "goood")
    assert code == 2
    assert "did you mean 'good'?" in err


def test_bench_needs_a_checkout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrosparse.cli.bench.__file__", "/nowhere/site-packages/pyrosparse/cli/bench.py")
    code, _, err = call(capsys, "bench", "anything")
    assert code == 2
    assert "checkout of the sources" in err


# --- demo --------------------------------------------------------------------------------------


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
