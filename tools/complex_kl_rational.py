"""Fit the rational function behind the exact complex log-uniform KL, for pyrosparse/distributions/complex_ein.py.

With ``r = 1/alpha`` and ``q = a r / (1 + a r)`` in (0, 1)::

    KL = Ein(r) = integral_0^r (1 - e^-t)/t dt = log(1 + r * W(q)),     W = P / Q

so the value keeps its relative accuracy at large alpha, where it vanishes, and its logarithmic growth at small
alpha. The gradient ``-(1 - e^-r)`` needs no table. Method as in ``kl_rational.py``.

Run ``python tools/complex_kl_rational.py`` to print the tables with their errors (needs mpmath; a few seconds).
"""

from __future__ import annotations

import mpmath as mp
import numpy as np
from kl_rational import Array, fit, nodes, show


def ein(r: mp.mpf) -> mp.mpf:
    """Ein(r), to 25 digits."""
    with mp.workdps(40):
        r = mp.mpf(r)
        if r <= 1:
            return r * mp.hyp2f2(1, 1, 2, 2, -r)
        return mp.euler + mp.log(r) + mp.e1(r)


def value_problem(scale: float) -> tuple[Array, Array, Array]:
    """Nodes, W there, and the factor that turns an error of W into one of KL / max(1, KL)."""
    q, r = nodes(scale)
    kl = [ein(v) for v in r]
    w = np.array([float(mp.expm1(k) / v) for k, v in zip(kl, r, strict=True)])
    value = np.array([float(k) for k in kl])
    return q, w, -np.expm1(-value) / (w * np.maximum(1.0, value))


def main() -> None:
    """Print the tables for float32 and float64."""
    for dtype, scale, degrees in (("float32", 0.1, (5, 5)), ("float64", 0.1, (12, 12))):
        show(f"{dtype}, a = {scale}, W", fit(value_problem(scale), *degrees))


if __name__ == "__main__":
    main()
