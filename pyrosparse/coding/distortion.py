"""Rate-distortion quantisation: a weight moves to a cheaper integer where its posterior does not mind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.walk import find_walk, mask_rates

__all__ = ["weigh_rate"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PASSES = 2


def weigh_rate(
    weights: Floats,
    sigma: Floats,
    step: float,
    rate_weight: float,
    *,
    places: Ints | None = None,
) -> Ints:
    r"""Choose the integer of each weight by what it costs in error and in the file.

    Each weight takes the integer :math:`k`, next to :math:`w/\Delta` or 0, with the least

    .. math:: \frac{(w - k\Delta)^2}{2\sigma^2} + \lambda R(k)

    where :math:`R` is the length of its code in nats: the surprise at 0 or not 0 by the adaptive model of the
    mask, and that at :math:`k` by the layer's histogram. Both follow from the integers of the pass before,
    the first from rounding. Pruned weights stay 0. (Context-adaptive coders of video choose their integers
    in this way; here the posterior's own curvature takes the place of a squared error.)

    Both parts of a complex weight share its place in the mask, and their errors and surprises add.

    :param weights: a matrix, 0 where pruned; of complex weights (rows, columns, 2).
    :param sigma: their posterior standard deviations; a weight with 0 is rounded.
    :param step: :math:`\Delta`.
    :param rate_weight: :math:`\lambda`; at 1 a nat of error is worth a nat of file.
    :param places: original positions of the columns, see :func:`pyrosparse.coding.walk.find_walk`.
    :return: integers of the same shape.
    """
    levels = np.rint(weights / step).astype(np.int64)
    parts = weights.shape[2:]
    some = _of_weights(weights != 0, parts) & _of_weights(sigma > 0, parts)
    if rate_weight == 0 or not levels.any() or not some.any():
        return levels
    # one axis for the parts, of length 1 for real weights
    x, deviation, rounded = (v[some].reshape(some.sum(), -1) for v in (weights / step, sigma / step, levels))
    moves = np.concatenate([sign * np.eye(x.shape[1], dtype=np.int64) for sign in (-1, 1)])
    choices = np.stack([rounded, *(rounded + move for move in moves), np.zeros_like(rounded)])
    nothing = ~choices.any(axis=2)
    error = ((x - choices) ** 2 / (2 * deviation**2)).sum(axis=2)
    walk = find_walk(_mask(levels, parts), places=places)
    for _ in range(PASSES):
        mask = _of_weights(levels != 0, parts)
        if walk is None:
            rates = np.full(mask.shape, mask.mean())
        else:
            rates = mask_rates(_mask(levels, parts), walk, places=places)
        alive = np.clip(rates[some], 1e-6, 1 - 1e-6)
        low = int(choices.min())
        counts = np.bincount((levels[mask] - low).ravel(), minlength=int(choices.max()) - low + 1) + 0.5
        surprise = np.log(counts.sum() / counts)[choices - low].sum(axis=2) - np.log(alive)
        cost = error + rate_weight * np.where(nothing, -np.log1p(-alive), surprise)
        best = np.take_along_axis(choices, cost.argmin(axis=0)[None, :, None], axis=0)[0]
        levels[some] = best.reshape(-1, *parts)
        if not levels.any():
            break
    return levels


def _of_weights(numbers: NDArray[np.bool_], parts: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether one of a weight's parts is set."""
    return np.asarray(numbers.any(axis=-1)) if parts else numbers


def _mask(levels: Ints, parts: tuple[int, ...]) -> NDArray[np.int32]:
    """What the coder of the mask sees: the integers themselves, or which complex weights are not zero."""
    return np.asarray(levels.any(axis=-1) if parts else levels, dtype=np.int32)
