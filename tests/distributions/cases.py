"""The table that drives the tests of every distribution: parameters, and an oracle where one exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.stats as st
import torch
from pyro.distributions.torch_distribution import TorchDistribution

from pyrosparse.distributions import ARDNormal, DropoutNormal, LogUniform


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
]
