"""Rational functions for the entire exponential integral, behind the exact complex log-uniform KL.

With ``r = 1/alpha`` and ``q = a r / (1 + a r)``::

    Ein(r) = integral_0^r (1 - e^-t)/t dt = log(1 + r * W(q))

Coefficients (constant first) and errors are the output of ``tools/complex_kl_rational.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from pyrosparse.distributions.dawson import Horner

__all__ = ["Ein", "ein"]


@dataclass(frozen=True)
class Ein:
    """Scale ``a`` and Horner coefficients (0-dimensional tensors, highest power first) of W."""

    scale: float
    top: Horner
    bottom: Horner


SCALE = 0.1

# float32: largest error of Ein / max(1, Ein) 1.9e-07
TOP_32 = (
    0.99999306478590611, 2.1702140230545517, 5.5416714098868276, 8.0235538872846544, 16.325783567291172,
    53.438065285842875,
)  # fmt: skip
BOTTOM_32 = (
    1.0, -0.33053233538403565, 6.672008186264395, 0.82468168316895007, 12.579039469411038, 27.820553335801183,
)  # fmt: skip

# float64: 9.3e-14
TOP_64 = (
    1.0000000000075242, 1.4141180042873494, -8.7975900946881165, 20.482161713998241, -24.945667692374574,
    79.321392131080941, -228.39972174970157, 365.87291291944672, 40.424273653442491, -1275.8416493703426,
    2728.1894706763815, -2784.8538746222571, 1355.3904494791366,
)  # fmt: skip
BOTTOM_64 = (
    1.0, -1.0858819930135633, -5.8051076698467252, 44.693317918960524, -153.03997407904805, 374.81665448406972,
    -654.4858854257443, 807.61628100511416, -502.90469542154619, -329.44908861394282, 1270.7289035227079,
    -1419.102764088334, 718.19472949657666,
)  # fmt: skip


@lru_cache(maxsize=16)
def ein(dtype: torch.dtype, device: torch.device) -> Ein:
    """Coefficients for a real dtype; types narrower than float32 take those of float32."""

    def horner(coefficients: tuple[float, ...]) -> Horner:
        return tuple(torch.tensor(coefficients[::-1], dtype=dtype, device=device).unbind())

    if dtype == torch.float64:
        return Ein(SCALE, horner(TOP_64), horner(BOTTOM_64))
    return Ein(SCALE, horner(TOP_32), horner(BOTTOM_32))
