"""The table that drives the tests of every distribution: parameters, and an oracle where one exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.stats as st
import torch
from pyro.distributions.torch_distribution import TorchDistribution

from pyrosparse.distributions import (
    ARDNormal,
    ComplexARD,
    ComplexLogUniform,
    ComplexNormal,
    DropoutNormal,
    LogUniform,
    WeightDecay,
)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], TorchDistribution]
    log_prob: Callable[[np.ndarray], np.ndarray]
    mean: np.ndarray | None = None  # None: the distribution has no moments
    variance: np.ndarray | None = None
    entropy: np.ndarray | None = None
    cdf: Callable[[np.ndarray], np.ndarray] | None = None  # of the draws, surrogate or not

    def __str__(self) -> str:
        return self.name


LOC = np.array([0.5, -2.0, 0.0, 1e-3])
LOG_VAR = np.array([-1.0, 0.5, -8.0, 2.0])
SCALE = np.exp(0.5 * LOG_VAR)
KEEP = np.array([True, False, True, False])
TAU = np.array([0.5, 2.0, 40.0, 1.0])


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(x))


def surrogate_cdf(w: np.ndarray) -> np.ndarray:
    """log|w| uniform on [-20, 0], random sign."""
    inside = np.clip(1 + np.log(np.maximum(np.abs(w), 1e-300)) / 20, 0, 1)
    return 0.5 + 0.5 * np.sign(w) * inside


CASES = [
    Case(
        "DropoutNormal",
        lambda: DropoutNormal(tensor(LOC), tensor(LOG_VAR)),
        lambda w: st.norm.logpdf(w, LOC, SCALE),
        LOC,
        SCALE**2,
        st.norm.entropy(LOC, SCALE),
        lambda w: st.norm.cdf(w, LOC, SCALE),
    ),
    Case(
        "DropoutNormal-keep",
        lambda: DropoutNormal(tensor(LOC), tensor(LOG_VAR), tensor(KEEP)),
        lambda w: np.where(KEEP, st.norm.logpdf(w, LOC, SCALE), 0.0),
        np.where(KEEP, LOC, 0.0),
        np.where(KEEP, SCALE**2, 0.0),
        np.where(KEEP, st.norm.entropy(LOC, SCALE), 0.0),
        lambda w: np.where(KEEP, st.norm.cdf(w, LOC, SCALE), (w >= 0).astype(float)),
    ),
    Case(
        "LogUniform",
        lambda: LogUniform(dtype=torch.float64).expand([4]),
        lambda w: -0.5 * np.log(w**2 + 1e-16),
        cdf=surrogate_cdf,
    ),
    Case(
        "ARDNormal",
        lambda: ARDNormal(dtype=torch.float64).expand([4]),
        lambda w: st.norm.logpdf(w, 0, np.sqrt(w**2 + 1e-16)) + 0.5 * (w**2 / (w**2 + 1e-16) - 1),
        cdf=surrogate_cdf,
    ),
    Case(
        "ARDNormal-number",
        lambda: ARDNormal(4.0, dtype=torch.float64).expand([4]),
        lambda w: st.norm.logpdf(w, 0, 0.5),
        np.zeros(4),
        np.full(4, 0.25),
        np.full(4, st.norm.entropy(0, 0.5)),
        lambda w: st.norm.cdf(w, 0, 0.5),
    ),
    Case(
        "ARDNormal-tensor",
        lambda: ARDNormal(tensor(TAU)),
        lambda w: st.norm.logpdf(w, 0, TAU**-0.5),
        np.zeros(4),
        1 / TAU,
        st.norm.entropy(0, TAU**-0.5),
        lambda w: st.norm.cdf(w, 0, TAU**-0.5),
    ),
    Case(
        "WeightDecay",
        lambda: WeightDecay(tensor(TAU)),
        lambda w: -0.5 * TAU * w**2,
        cdf=lambda w: st.norm.cdf(w, 0, TAU**-0.5),
    ),
]

# complex numbers as real pairs: values (..., 4, 2), and everything that is of one weight (4,)
PAIRS = np.array([[0.5, -0.3], [-2.0, 1.0], [0.0, 0.0], [1e-3, 0.2]])
RELATION = np.array([[0.6, -0.3], [-0.95, 0.1], [0.0, 0.7], [0.0, 0.0]])


def covariance(relation: np.ndarray) -> np.ndarray:
    """Covariances (4, 2, 2) of the parts for total variances exp(LOG_VAR)."""
    a, b = relation[:, 0], relation[:, 1]
    shape = np.stack([np.stack([1 + a, b], -1), np.stack([b, 1 - a], -1)], -2)
    return 0.5 * np.exp(LOG_VAR)[:, None, None] * shape


def complex_logpdf(w: np.ndarray, mean: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    parts = [
        st.multivariate_normal(m, c).logpdf(w[..., i, :])
        for i, (m, c) in enumerate(zip(mean, covariances, strict=True))
    ]
    return np.stack(parts, -1)


def complex_entropy(covariances: np.ndarray) -> np.ndarray:
    return np.array([st.multivariate_normal(np.zeros(2), c).entropy() for c in covariances])


def diagonal(covariances: np.ndarray) -> np.ndarray:
    return np.diagonal(covariances, axis1=1, axis2=2)


def squared(w: np.ndarray) -> np.ndarray:
    return np.square(w).sum(-1)


CIRCULAR, TILTED = covariance(0 * RELATION), covariance(RELATION)
COMPLEX_CASES = [
    Case(
        "ComplexNormal",
        lambda: ComplexNormal(tensor(PAIRS), tensor(LOG_VAR)),
        lambda w: complex_logpdf(w, PAIRS, CIRCULAR),
        PAIRS,
        diagonal(CIRCULAR),
        complex_entropy(CIRCULAR),
    ),
    Case(
        "ComplexNormal-relation",
        lambda: ComplexNormal(tensor(PAIRS), tensor(LOG_VAR), tensor(RELATION)),
        lambda w: complex_logpdf(w, PAIRS, TILTED),
        PAIRS,
        diagonal(TILTED),
        complex_entropy(TILTED),
    ),
    Case(
        "ComplexNormal-keep",
        lambda: ComplexNormal(tensor(PAIRS), tensor(LOG_VAR), tensor(RELATION), tensor(KEEP)),
        lambda w: np.where(KEEP, complex_logpdf(w, PAIRS, TILTED), 0.0),
        np.where(KEEP[:, None], PAIRS, 0.0),
        np.where(KEEP[:, None], diagonal(TILTED), 0.0),
        np.where(KEEP, complex_entropy(TILTED), 0.0),
    ),
    Case(
        "ComplexLogUniform",
        lambda: ComplexLogUniform(dtype=torch.float64).expand([4]),
        lambda w: -np.log(squared(w) + 1e-16),
    ),
    Case(
        "ComplexLogUniform-rho",
        lambda: ComplexLogUniform(1.5, dtype=torch.float64).expand([4]),
        lambda w: -0.75 * np.log(squared(w) + 1e-16),
    ),
    Case(
        "ComplexARD",
        lambda: ComplexARD(dtype=torch.float64).expand([4]),
        lambda w: -np.log(squared(w) + 1e-16) - np.log(np.pi * np.e),
    ),
    Case(
        "ComplexARD-number",
        lambda: ComplexARD(4.0, dtype=torch.float64).expand([4]),
        lambda w: complex_logpdf(w, np.zeros((4, 2)), np.full((4, 1, 1), 0.125) * np.eye(2)),
        np.zeros((4, 2)),
        np.full((4, 2), 0.125),
        complex_entropy(np.full((4, 1, 1), 0.125) * np.eye(2)),
    ),
    Case(
        "ComplexARD-tensor",
        lambda: ComplexARD(tensor(TAU)),
        lambda w: complex_logpdf(w, np.zeros((4, 2)), (0.5 / TAU)[:, None, None] * np.eye(2)),
        np.zeros((4, 2)),
        np.repeat((0.5 / TAU)[:, None], 2, 1),
        complex_entropy((0.5 / TAU)[:, None, None] * np.eye(2)),
    ),
]
