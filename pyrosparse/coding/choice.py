"""The choice of precision by validation data or to a number of bytes: step and weight of the rate."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from torch import nn

from pyrosparse.coding.fileinfo import entropy_bits
from pyrosparse.coding.precision import Plan
from pyrosparse.errors import PruneError, PyrosparseWarning

__all__ = ["C_GRID", "RATE_GRID", "choose", "choose_within"]

C_GRID = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
RATE_GRID = (0.0, 0.03, 0.06, 0.1, 0.15)
FINER = 2  # how many finer steps are tried with each weight of the rate


def choose(
    network: nn.Module,
    plan: Callable[[float, float], Plan],
    val_loader: Iterable[Any],
    *,
    grid: Sequence[float],
    rates: Sequence[float],
    tolerance: float,
    likelihood: Any,
) -> tuple[float, float]:
    """Choose ``c`` and the weight of the rate.

    With the first rate, the largest ``c`` of the grid whose validation error is within the tolerance of the
    unrounded network's. The other rates are tried with that ``c`` and the next finer ones, from the smallest
    file up (by order-0 entropy), until one is within the tolerance too.

    :param plan: what would be sent with ``c`` and a weight of the rate.
    :param grid: values of ``c``, rising.
    :param rates: weights of the rate, rising.
    """
    from pyrosparse.infer import evaluate

    if not tolerance >= 0:
        raise PruneError(f"the tolerance must not be negative or NaN; got {tolerance}")
    bound = evaluate(network, val_loader, likelihood=likelihood).error + tolerance

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


def choose_within(
    network: nn.Module,
    plan: Callable[[float, float], Plan],
    length: Callable[[Plan], int],
    budget: int,
    val_loader: Iterable[Any] | None,
    *,
    grid: Sequence[float],
    rates: Sequence[float],
    likelihood: Any,
    path: str | os.PathLike[str],
) -> tuple[float, float]:
    """Choose ``c`` and the weight of the rate so that the file has at most so many bytes.

    :param plan: what would be sent with ``c`` and a weight of the rate.
    :param length: bytes of the file with it.
    :param budget: bytes.
    :param grid: values of ``c``, rising.
    :param rates: weights of the rate, rising.
    :return: of those that fit the ones with the lowest validation error, and of equals the shortest file; without
        validation data the finest step, and of its weights the least.
    :raises PruneError: if none fits; the message has the smallest size.
    """
    from pyrosparse.infer import evaluate

    if budget < 1:
        raise PruneError(f"budget is {budget} bytes; give a positive number")
    tried = [((c, rate), candidate, length(candidate)) for c in grid for rate in rates for candidate in [plan(c, rate)]]
    fitting = [entry for entry in tried if entry[2] <= budget]
    if not fitting:
        (c, rate), _, least = min(tried, key=lambda entry: entry[2])
        raise PruneError(
            f"{path} would take {least:,} bytes even with steps of {c:g} posterior standard deviations"
            f"{f' and a rate_weight of {rate:g}' if rate else ''}, and the budget is {budget:,}: allow more bytes, "
            "prune more, or leave the choice of c free"
        )
    if val_loader is None:
        return fitting[0][0]
    errors = [
        evaluate(candidate.apply(network), val_loader, likelihood=likelihood).error for _, candidate, _ in fitting
    ]
    return min(zip(errors, fitting, strict=True), key=lambda entry: (entry[0], entry[1][2]))[1][0]


def _bits(plan: Plan) -> float:
    return sum(entropy_bits(content) for content in plan.contents.values() if content.rounded)
