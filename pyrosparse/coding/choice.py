"""The choice of precision by validation data: step and weight of the rate."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor, nn

from pyrosparse.coding.fileinfo import entropy_bits
from pyrosparse.coding.precision import Plan, make_plan
from pyrosparse.errors import PruneError, PyrosparseWarning

__all__ = ["C_GRID", "RATE_GRID", "choose"]

C_GRID = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
RATE_GRID = (0.0, 0.03, 0.06, 0.1, 0.15)
FINER = 2  # how many finer steps are tried with each weight of the rate


def choose(
    network: nn.Module,
    sigma: Mapping[str, Tensor],
    val_loader: Iterable[Any],
    *,
    grid: Sequence[float],
    rates: Sequence[float],
    tolerance: float,
    likelihood: Any,
    bias_bits: int | None,
) -> tuple[float, float]:
    """Choose ``c`` and the weight of the rate.

    With the first rate, the largest ``c`` of the grid whose validation error is within the tolerance of the
    unrounded network's. The other rates are tried with that ``c`` and the next finer ones, from the smallest
    file up (by order-0 entropy), until one is within the tolerance too.

    :param grid: values of ``c``, rising.
    :param rates: weights of the rate, rising.
    """
    from pyrosparse.infer import evaluate

    if not tolerance >= 0:
        raise PruneError(f"the tolerance must not be negative or NaN; got {tolerance}")
    bound = evaluate(network, val_loader, likelihood=likelihood).error + tolerance

    def plan(c: float, rate: float) -> Plan:
        return make_plan(network, sigma, c, bias_bits=bias_bits, rate_weight=rate)

    def within(candidate: Plan) -> bool:
        return evaluate(candidate.apply(network), val_loader, likelihood=likelihood).error <= bound

    first = rates[0]
    for c in reversed(grid):
        start = plan(c, first)
        if within(start):
            break
    else:
        warnings.warn(
            f"even steps of {grid[0]} posterior standard deviations raise the validation error by more than "
            f"{tolerance}; they are used all the same. Pass a smaller c or a larger tolerance.",
            PyrosparseWarning,
            stacklevel=3,
        )
        return grid[0], first
    place = grid.index(c)
    finer = grid[max(0, place - FINER) : place + 1]
    tries = [(_bits(candidate), key, candidate) for key in product(finer, rates[1:]) for candidate in [plan(*key)]]
    for bits, key, candidate in sorted(tries, key=lambda entry: entry[0]):
        if bits >= _bits(start):
            break
        if within(candidate):
            return key
    return c, first


def _bits(plan: Plan) -> float:
    return sum(entropy_bits(content) for content in plan.contents.values() if content.step)
