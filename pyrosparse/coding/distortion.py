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

    :param weights: a matrix, 0 where pruned.
    :param sigma: their posterior standard deviations; a weight with 0 is rounded.
    :param step: :math:`\Delta`.
    :param rate_weight: :math:`\lambda`; at 1 a nat of error is worth a nat of file.
    :param places: original positions of the columns, see :func:`pyrosparse.coding.walk.find_walk`.
    :return: integers of the same shape.
    """
    levels = np.rint(weights / step).astype(np.int64)
    some = (weights != 0) & (sigma > 0)
    if rate_weight == 0 or not levels.any() or not some.any():
        return levels
    x, deviation, rounded = weights[some] / step, sigma[some] / step, levels[some]
    choices = np.stack([rounded, rounded - 1, rounded + 1, np.zeros_like(rounded)])
    error = (x - choices) ** 2 / (2 * deviation**2)
    walk = find_walk(levels.astype(np.int32), places=places)
    for _ in range(PASSES):
        if walk is None:
            rates = np.full(levels.shape, levels.astype(bool).mean())
        else:
            rates = mask_rates(levels.astype(np.int32), walk, places=places)
        alive = np.clip(rates[some], 1e-6, 1 - 1e-6)
        low = int(choices.min())
        counts = np.bincount((levels[levels != 0] - low).ravel(), minlength=int(choices.max()) - low + 1) + 0.5
        surprise = np.log(counts.sum() / counts)[choices - low] - np.log(alive)
        cost = error + rate_weight * np.where(choices == 0, -np.log1p(-alive), surprise)
        levels[some] = np.take_along_axis(choices, cost.argmin(axis=0)[None], axis=0)[0]
        if not levels.any():
            break
    return levels
