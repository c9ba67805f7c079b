"""``pyrosparse bench``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.calls import call


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
