"""How the weights of one layer become integers: multiples of a step, of steps by group, or numbers of centres."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyrosparse.coding.book import make_book
from pyrosparse.coding.codecs import send, shortest
from pyrosparse.coding.content import LARGEST_LEVEL, Content, matrix_shape
from pyrosparse.coding.distortion import weigh_rate
from pyrosparse.coding.floats import exact, real
from pyrosparse.coding.groups import Groups, worthwhile_groups
from pyrosparse.coding.steps import round_step
from pyrosparse.coding.stream import Meter
from pyrosparse.errors import PyrosparseWarning

__all__ = ["Weights"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FINER = 8  # how many steps, each a 32nd of an octave finer, are tried for groups to meet a layer's error
ON_GRID = 1e-9  # mean squared error, over the posterior variance, of weights that are multiples already


@dataclass(frozen=True)
class Weights:
    """The weights of a layer and what decides their integers.

    :param name: of the parameter.
    :param value: the parameter.
    :param step: the layer's step.
    :param sigma: posterior standard deviations, of the weights' shape or one for all.
    :param pairs: whether the last axis has the parts of complex weights.
    :param rate_weight: see :func:`pyrosparse.coding.distortion.weigh_rate`.
    :param places: positions of the columns.
    :param inputs: positions of the layer's inputs, as the coder gets them.
    """

    name: str
    value: Tensor
    step: float
    sigma: Tensor
    pairs: bool
    rate_weight: float
    places: Ints | None
    inputs: Ints | None

    def content(self) -> Content:
        """Multiples of the layer's step, or of steps by group where the same error then takes fewer bytes."""
        weights = real(self.value)
        if np.abs(weights / self.step).max(initial=0) > LARGEST_LEVEL:
            warnings.warn(
                f"{self.name}: weights are more than {LARGEST_LEVEL} times larger than the step {self.step:.2g}; they "
                "are stored without rounding. A standard deviation this small says that the fit has not converged, or "
                "that the weights are points, of which only gates (L0) that are not surely open make it larger.",
                PyrosparseWarning,
                stacklevel=4,
            )
            return exact(self.value)
        sigma = np.broadcast_to(
            real(self.sigma).reshape(*self.sigma.shape, *[1] * (weights.ndim - self.sigma.dim())), weights.shape
        )
        best = self._rounded(weights, sigma, self.step)
        error = self._error(best, weights, sigma)
        exact_enough = ON_GRID * max(1, int(np.count_nonzero(sigma)))
        if self.rate_weight == 0 and error <= exact_enough:
            return best  # on the grid of the layer: another would only blur it
        trials = worthwhile_groups(sigma)
        if trials:
            best = self._shortest(best)
            cost = self._cost(best, error)
        allowed = error
        for groups, scale in trials:
            grouped = self._grouped(weights, sigma, groups, scale, allowed)
            if grouped is None:
                continue
            error = self._error(grouped, weights, sigma)
            if self.rate_weight == 0 and error <= exact_enough:
                return grouped  # on the grid of these groups
            found = self._cost(grouped, error)
            if found < cost:
                best, cost = grouped, found
        return best

    def clustered(self, clusters: int) -> Content:
        """Numbers of the centres of k-means."""
        book, levels = make_book(real(self.value), clusters, plane=self.pairs)
        return Content("k", self.value.dtype, levels.astype(np.int32), book=book, inner="s")

    def _rounded(self, weights: Floats, sigma: Floats, step: float, groups: Groups | None = None) -> Content:
        factors = np.ones(1) if groups is None else groups.factors(weights.ndim)
        levels = np.rint(weights / (step * factors)).astype(np.int64)
        if self.rate_weight:
            matrix = (*matrix_shape(weights.shape[:-1]), 2) if self.pairs else matrix_shape(weights.shape)
            x, s = ((v / factors).reshape(matrix) for v in (weights, sigma))
            levels = weigh_rate(x, s, step, self.rate_weight, places=self.places).reshape(weights.shape)
        body = "p" if self.pairs else "s"
        content = Content(body, self.value.dtype, levels.astype(np.int32), step)
        return content if groups is None else replace(content, codec="g", groups=groups, inner=body)

    def _grouped(self, weights: Floats, sigma: Floats, groups: Groups, scale: float, error: float) -> Content | None:
        """Integers by groups whose error is no larger; None if the steps do not get there."""
        if self.rate_weight:  # error and length are weighed against each other: no bound on either
            return self._shortest(self._rounded(weights, sigma, round_step(self.step * scale), groups))
        found = None
        for finer in range(FINER + 1):
            step = round_step(self.step * scale * math.exp2(-finer / 32))
            if np.abs(weights / (step * groups.factors(weights.ndim))).max(initial=0) > LARGEST_LEVEL:
                return None
            content = self._rounded(weights, sigma, step, groups)
            its = self._error(content, weights, sigma)
            if its <= ON_GRID * np.count_nonzero(sigma):
                return self._shortest(content)
            if found is None and its <= error:
                found = content
        return None if found is None else self._shortest(found)

    def _error(self, content: Content, weights: Floats, sigma: Floats) -> float:
        """Sum of squared errors over the posterior variances."""
        kept = sigma > 0
        moved = real(content.tensor()).reshape(weights.shape)[kept] - weights[kept]
        return float(((moved / sigma[kept]) ** 2).sum())

    def _cost(self, content: Content, error: float) -> float:
        """Bits; where length is weighed, with the error as bits."""
        meter = Meter()
        send(meter, self.name, content, places=self.inputs)
        return meter.bits + (error / (2 * self.rate_weight * math.log(2)) if self.rate_weight else 0.0)

    def _shortest(self, content: Content) -> Content:
        return shortest(self.name, content, places=self.inputs)
