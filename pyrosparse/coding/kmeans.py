"""K-means quantisation, the baseline of Deep Compression: of real weights on the line, of complex ones in the plane."""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyrosparse.errors import ConfigError
from pyrosparse.pruning.pruned import Pruned

__all__ = ["Codebooks", "centres_of", "kmeans"]


@dataclass(frozen=True)
class Codebooks:
    """What k-means made of a network.

    :param pruned: the same with each weight at its centre.
    :param centres: site → centres, ``(k, parts)``.
    :param bytes: estimate of the weights' size: order-0 entropy of masks and indices, and float32 centres.
    """

    pruned: Pruned
    centres: dict[str, NDArray[np.float32]]
    bytes: float


def kmeans(pruned: Pruned, *, clusters: int, seed: int = 0) -> Codebooks:
    """Replace the weights that are not 0 by the nearest of a few centres, layer by layer.

    After Han, Mao and Dally (2016); the centres of complex weights are points of the plane.

    :param pruned: left as it is.
    :param clusters: centres of each layer, at most.
    :param seed: of the start (k-means++).
    :raises ConfigError: for less than one centre.
    """
    if clusters < 1:
        raise ConfigError(f"kmeans: clusters is {clusters}; give at least 1")
    network = deepcopy(pruned.network)
    centres: dict[str, NDArray[np.float32]] = {}
    bits = 0.0
    for site, alive in pruned.alive().items():
        parameter = network.get_parameter(site)
        points = parameter.detach()[alive].reshape(int(alive.sum()), pruned.parts(site))
        if len(points) == 0:
            continue
        fitted = _fitted(points.double().cpu().numpy(), clusters, seed)
        labels = fitted.labels_
        centres[site] = fitted.cluster_centers_.astype(np.float32)
        with torch.no_grad():
            found = torch.from_numpy(centres[site][labels]).to(parameter)
            parameter[alive] = found if pruned.parts(site) == 2 else found[:, 0]
        kept, total = len(points), alive.numel()
        bits += _entropy(np.array([kept, total - kept])) + _entropy(np.bincount(labels)) + 32 * centres[site].size
    return Codebooks(replace(pruned, network=network, sigma={}), centres, bits / 8)


def centres_of(points: NDArray[np.float64], clusters: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Centres of k-means, at most ``clusters`` of them, of points in rows."""
    return np.asarray(_fitted(points, clusters, seed).cluster_centers_)


def _fitted(points: NDArray[np.float64], clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct weights than centres: no harm
        return KMeans(min(clusters, len(points)), n_init=1, random_state=seed).fit(points)


def _entropy(counts: NDArray[np.int64]) -> float:
    """Bits of symbols that occur so often, each by itself."""
    counts = counts[counts > 0]
    return float(sum(n * math.log2(counts.sum() / n) for n in counts.tolist()))
