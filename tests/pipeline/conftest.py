"""A finished run for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrosparse import pipeline
from tests.pipeline.runs import settings


@pytest.fixture(scope="module", autouse=True)
def short_report() -> Iterator[None]:
    """The page has tests of its own, and takes as long as all other stages together."""
    with _short_report():
        yield


@contextmanager
def _short_report() -> Iterator[None]:
    def write(folder: Path) -> Path:
        (folder / "report.html").write_text("report")
        return folder / "report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrosparse.report.write", write)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    lines: list[str] = []
    with _short_report():
        pipeline.run(settings(), folder, say=lines.append)
    assert [line.split()[0] for line in lines[1:]] == ["dense", "fit", "prune", "fine_tune", "file", "onnx", "curve"]
    return folder


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
