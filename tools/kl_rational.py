"""Fit the rational functions behind the exact log-uniform KL, for pyrosparse/distributions/dawson.py.

With ``r = 1/alpha``, ``u = (r/2)^(1/2)``, ``F`` the Dawson function and ``q = a r / (1 + a r)`` in (0, 1)::

    KL = 2 * integral_0^u F(t) dt = 1/2 * log(1 + r * W(q)),     W = P / Q
    -dKL/dlog_alpha = u * F(u) = q * R(q),                       R = N / D

so both keep their relative accuracy at large alpha, where they vanish. The scale ``a`` puts the poles where
Horner's rule in ``q`` cancels little. Each fit is a weighted, linearised least-squares problem
(Sanathanan & Koerner 1963), solved again with Lawson's weights until the largest error is levelled; the
references come from mpmath (the 2F2 series, and the asymptotic series beyond u^2 = 60).

Run ``python tools/kl_rational.py`` to print the tables with their errors (needs mpmath; a few seconds).
"""

from __future__ import annotations

from dataclasses import dataclass

import mpmath as mp
import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev, polynomial

Array = npt.NDArray[np.float64]
ASYMPTOTIC = 60.0  # beyond this u^2 the asymptotic series is exact to 25 digits
NODES = 240
ROUNDS = 300


@dataclass(frozen=True)
class Rational:
    """Coefficients in q, constant first, with the largest weighted error and the worst cancellation."""

    top: Array
    bottom: Array
    error: float
    condition: float


def exact_kl(t: mp.mpf) -> mp.mpf:
    """KL in nats at t = u^2 = 1/(2 alpha), to 25 digits."""
    t = mp.mpf(t)
    if t <= ASYMPTOTIC:
        return t * mp.hyp2f2(1, 1, mp.mpf(3) / 2, 2, -t)
    total, term = mp.log(t) / 2 + mp.log(2) + mp.euler / 2, mp.mpf(1)
    for k in range(1, 40):
        term *= mp.mpf(2 * k - 1) / (2 * t)
        total -= term / (2 * k)
    return total


def exact_slope(t: mp.mpf) -> mp.mpf:
    """Return u F(u) = -dKL/dlog_alpha at t = u^2, to 25 digits."""
    t = mp.mpf(t)
    if t <= ASYMPTOTIC:
        return t * mp.hyp1f1(1, mp.mpf(3) / 2, -t)
    total, term = mp.mpf(1) / 2, mp.mpf(1) / 2
    for k in range(1, 40):
        term *= mp.mpf(2 * k - 1) / (2 * t)
        total += term
    return total


def nodes(scale: float) -> tuple[Array, list[mp.mpf]]:
    """Chebyshev nodes q in (0, 1), and r = 1/alpha there."""
    angle = [(mp.mpf(k) + mp.mpf(1) / 2) * mp.pi / NODES for k in range(NODES)]
    q = np.array([float(mp.sin(t / 2) ** 2) for t in angle])
    return q, [mp.tan(t / 2) ** 2 / mp.mpf(scale) for t in angle]


def value_problem(scale: float) -> tuple[Array, Array, Array]:
    """Nodes, W there, and the factor that turns an error of W into one of KL / max(1, KL)."""
    q, r = nodes(scale)
    kl = [exact_kl(v / 2) for v in r]
    w = np.array([float(mp.expm1(2 * k) / v) for k, v in zip(kl, r, strict=True)])
    value = np.array([float(k) for k in kl])
    return q, w, -np.expm1(-2 * value) / (2 * w * np.maximum(1.0, value))


def slope_problem(scale: float) -> tuple[Array, Array, Array]:
    """Nodes, R there, and the factor that turns an error of R into one of the gradient."""
    q, r = nodes(scale)
    a = mp.mpf(scale)
    return q, np.array([float(exact_slope(v / 2) * (1 + a * v) / (a * v)) for v in r]), q


def fit(problem: tuple[Array, Array, Array], top: int, bottom: int) -> Rational:
    """Rational function of degrees (top, bottom) with the least largest weighted error found."""
    q, target, size = problem
    upper = chebyshev.chebvander(2 * q - 1, top)
    lower = chebyshev.chebvander(2 * q - 1, bottom)[:, 1:]
    best: tuple[float, Array] | None = None
    for power in (1.0, 0.5):
        lawson, denominator = np.ones_like(q), np.ones_like(q)
        for step in range(ROUNDS):
            weight = np.sqrt(lawson) * size / np.abs(denominator)
            system = np.hstack([upper, -target[:, None] * lower]) * weight[:, None]
            x = np.linalg.lstsq(system, target * weight, rcond=1e-15)[0]
            denominator = 1 + lower @ x[top + 1 :]
            if denominator.min() <= 0:
                denominator = np.maximum(np.abs(denominator), 1e-3)
                continue
            error = np.abs(upper @ x[: top + 1] / denominator - target) * size
            if best is None or error.max() < best[0]:
                best = (float(error.max()), x)
            if step > 10:
                lawson *= (error / error.max() + 1e-3) ** power
                lawson /= lawson.mean()
    if best is None:
        raise ArithmeticError(f"degrees ({top}, {bottom}): every denominator had a zero in (0, 1)")
    p, d = in_q(best[1][: top + 1]), in_q(np.concatenate([[1.0], best[1][top + 1 :]]))
    top_value, bottom_value = polynomial.polyval(q, p), polynomial.polyval(q, d)
    condition = max(
        float((polynomial.polyval(q, np.abs(c)) / np.abs(v)).max()) for c, v in ((p, top_value), (d, bottom_value))
    )
    error = float((np.abs(top_value / bottom_value - target) * size).max())
    return Rational(p / d[0], d / d[0], error, condition)


def in_q(coefficients: Array) -> Array:
    """Chebyshev coefficients in 2q - 1 to monomial coefficients in q, of the same length."""
    total = np.zeros(1)
    for c in chebyshev.cheb2poly(coefficients)[::-1]:
        total = polynomial.polyadd(polynomial.polymul(total, np.array([-1.0, 2.0])), np.array([c]))
    return np.pad(total, (0, len(coefficients)))[: len(coefficients)]


def show(name: str, table: Rational) -> None:
    """Print one table as Python source."""
    print(f"# {name}: largest error {table.error:.1e}, cancellation {table.condition:.0f}")
    for part, values in (("top", table.top), ("bottom", table.bottom)):
        print(f"    {part}=({', '.join(f'{c:.17g}' for c in values)}),")


def main() -> None:
    """Print the tables for float32 and float64."""
    for dtype, scale, degrees in (("float32", 0.08, (4, 6)), ("float64", 0.04, (12, 12))):
        show(f"{dtype}, a = {scale}, W", fit(value_problem(scale), *degrees))
        show(f"{dtype}, a = {scale}, R", fit(slope_problem(scale), *degrees))


if __name__ == "__main__":
    main()
