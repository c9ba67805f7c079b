"""A progress bar that tells the truth."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bar"]

# seconds between two redraws; reading the loss off the device more often would cost time
_INTERVAL = 0.25


class Bar:
    """A bar over the steps of a run, on stderr; silent when that is not a terminal.

    :param label: what is being done.
    :param steps: how many steps there are in all.
    :param done: steps that an earlier run has done.
    :param show: False for no bar at all.
    """

    def __init__(self, label: str, steps: int, *, done: int = 0, show: bool = True) -> None:
        self._shown = show and sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            # steps get faster as the network shrinks: only the last seconds tell how long the rest takes
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._shown,
            speed_estimate_period=15.0,
        )
        self._task: TaskID = self._progress.add_task(label, total=steps, completed=done, text="")
        self._pending = 0
        self._last = 0.0
        self._fields: dict[str, str] = {}

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._progress.stop()

    @property
    def due(self) -> bool:
        """Whether it is time to redraw: callers fetch numbers from the device only then."""
        return self._shown and time.monotonic() - self._last >= _INTERVAL

    def advance(self, **fields: Any) -> None:
        """Count one step; ``fields`` are shown as ``name value``, and stay until they change."""
        self._pending += 1
        self._fields.update({k: _short(v) for k, v in fields.items()})
        if fields or self.due:
            self._flush()

    def annotate(self, **fields: Any) -> None:
        """Show fields without counting a step."""
        self._fields.update({k: _short(v) for k, v in fields.items()})
        self._flush()

    def _flush(self) -> None:
        self._last = time.monotonic()
        text = "  ".join(f"{name} {value}" for name, value in self._fields.items())
        self._progress.update(self._task, advance=self._pending, text=text)
        self._pending = 0


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
