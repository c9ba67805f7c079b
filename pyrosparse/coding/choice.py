"""The choice of precision by validation data: step and weight of the rate."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor, nn

from pyrosparse.coding.codecs import Content, send, shortest
from pyrosparse.coding.decode import index_of
from pyrosparse.coding.precision import Plan, make_plan
from pyrosparse.coding.stream import Meter
from pyrosparse.errors import PruneError, PyrosparseWarning

__all__ = ["C_GRID", "RATE_GRID", "choose"]

C_GRID = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
RATE_GRID = (0.0, 0.05, 0.1, 0.2, 0.4)
FINER = 2  # how many finer steps are tried with each weight of the rate
