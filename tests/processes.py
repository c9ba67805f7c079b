"""Run a function in two processes on gloo, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from pyrosparse.infer.ranks import processes


def _work(index: int, port: int, folder: Path, work: Callable[[Path], Any]) -> None:
    os.environ.update(RANK=str(index), WORLD_SIZE="2", LOCAL_RANK=str(index))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.manual_seed(100 + index)  # a seed of its own: the fit has to see to it that they agree
    warnings.simplefilter("error")
    with processes() as ranks:
        torch.save(work(folder / str(ranks.index)), folder / f"{ranks.index}.pt")


def in_two(folder: Path, work: Callable[[Path], Any]) -> tuple[Any, Any]:
    """What a function gives in each of two processes; it gets a folder of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(_work, (port, folder, work), nprocs=2, start_method="spawn")
    first, second = (torch.load(folder / f"{i}.pt", weights_only=False) for i in (0, 1))
    return first, second
