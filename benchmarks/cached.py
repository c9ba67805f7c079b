"""Fits that live through a run's end: checkpoints and the CPU seconds of all of a fit's runs, in the cache."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from typing import Any

from common import CACHE

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.data import TensorLoader

EVERY = 5


def fit(
    model: ps.SparseModel,
    guide: guides.AutoSparse,
    train: TensorLoader,
    *,
    name: str,
    key: str,
    epochs: int,
    say: Callable[[Any], None],
    **options: Any,
) -> tuple[list[dict[str, Any]], float]:
    """Fit with checkpoints in a folder named after all that the fit depends on.

    A run that died goes on from its checkpoint, and a fit that is finished is read back when only what comes after it
    is to be done again.

    :param key: everything that the fit depends on, in words.
    :param say: called after each epoch.
    :returns: history, CPU seconds of all runs together.
    """
    folder = CACHE / f"{name}-{zlib.crc32(key.encode()):08x}"
    clock = folder / "cpu_seconds.json"
    spent = json.loads(clock.read_text()) if clock.exists() else 0.0
    began = time.process_time()

    def note(state: Any) -> None:
        say(state)
        if state.epoch % EVERY == 0 or state.epoch == epochs:
            clock.write_text(json.dumps(spent + time.process_time() - began))

    fitted = ps.fit(
        model,
        guide,
        train,
        epochs=epochs,
        progress=False,
        callbacks=(note,),
        checkpoint=folder,
        checkpoint_every=EVERY,
        resume=True,
        **options,
    )
    return fitted.history, json.loads(clock.read_text())
