"""The bar: silent where nobody looks, honest where somebody does."""

from __future__ import annotations

import io
import sys

import pytest

from pyrosparse.infer.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_when_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("fit", 3) as bar:
        for _ in range(3):
            assert not bar.due
            bar.advance(loss=1.0)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


def test_silent_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar("fit", 3, show=False) as bar:
        bar.advance(loss=1.0)
    assert terminal.getvalue() == ""


def test_shows_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    with Bar("fit", 4, done=1) as bar:
        assert bar.due  # nothing is shown yet
        bar.advance(loss=0.123456, KL=12345.6, β=0.5)
        assert not bar.due
        bar.advance()
        bar.advance()
        bar.annotate(epoch="2/2", kept=1234)
    text = terminal.getvalue()
    for word in ("fit", "loss 0.123", "KL 12,346", "β 0.5", "epoch 2/2", "kept 1,234", "left"):
        assert word in text
    (task,) = bar._progress.tasks
    assert task.completed == 4 and task.finished


def test_is_put_away_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = Bar("fit", 4)
    with pytest.raises(KeyboardInterrupt), bar:
        raise KeyboardInterrupt
    assert not bar._progress.live.is_started
