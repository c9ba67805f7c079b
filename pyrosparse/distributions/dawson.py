"""Rational functions for the integral of the Dawson function, behind the exact log-uniform KL.

With ``r = 1/alpha``, ``u = (r/2)^(1/2)`` and ``q = a r / (1 + a r)``::

    2 * integral_0^u F(t) dt = 1/2 * log(1 + r * W(q)),      u * F(u) = q * R(q)

Coefficients (constant first) and errors are the output of ``tools/kl_rational.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Dawson", "Horner", "dawson"]

Horner = tuple[Tensor, ...]


@dataclass(frozen=True)
class Dawson:
    """Scale ``a`` and Horner coefficients (0-dimensional tensors, highest power first) of W and 2R."""

    scale: float
    value_top: Horner
    value_bottom: Horner
    pull_top: Horner
    pull_bottom: Horner


# float32: largest error of KL / max(1, KL) 3.7e-07, of the gradient 4.8e-06
SCALE_32 = 0.08
VALUE_TOP_32 = (
    1.0000188336794316, 0.017994258029198199, 1.8145175712483859, -7.1576241720465807,
    14.154412908423351,
)  # fmt: skip
VALUE_BOTTOM_32 = (
    1.0, -4.146925674983124, 11.401530247096813, -17.854204503306789, 17.521813588965443,
    -6.4041592772567588, 1.24133952455649,
)  # fmt: skip
SLOPE_TOP_32 = (
    6.2506901608160561, -27.543057518989922, 57.91635500716545, -61.281776357594644, 33.389089045114311,
)  # fmt: skip
SLOPE_BOTTOM_32 = (
    1.0, -1.2351619378226781, 2.1974673373962328, 0.24996693757056945, 2.0421384471051303,
    -3.5519630012997796, 16.760319516529378,
)  # fmt: skip

# float64: 2.1e-12 and 1.9e-12
SCALE_64 = 0.04
VALUE_TOP_64 = (
    1.0000000002011631, 5.0693448449725835, 23.232472387315685, -16.155480303502518, 50.870802698722201,
    355.73774820344494, 228.09213692110623, -4325.5866590484902, 22484.613957525198,
    -59627.835943122926, 113542.65781247112, -130659.70480317585, 82723.509345119979,
)  # fmt: skip
VALUE_BOTTOM_64 = (
    1.0, -3.2639883965161856, 28.21013850912313, -90.808834926094363, 339.79659694825995,
    -855.25870032580974, 2071.6075692529089, -4050.6258696739619, 8711.4056480195068,
    -17105.656168411679, 30000.325185093359, -34252.505313104411, 22163.800958350959,
)  # fmt: skip
SLOPE_TOP_64 = (
    12.499999998574182, -139.81041039929721, 796.55921735296909, -2892.7740897663698,
    7318.8722869985404, -13428.398072052672, 18212.702748661912, -18309.402065614893,
    13499.037623863729, -7058.4157206266818, 2442.3398851943957, -465.3456454861942, 55.327019320864032,
)  # fmt: skip
SLOPE_BOTTOM_64 = (
    1.0, -3.8514995278865776, 9.4804101883824323, -13.950532880290499, 16.792045218129388,
    -12.639990393074111, 10.963196394200095, -5.5441487514021679, 24.397893258461792,
    -65.475207376331113, 174.70891243506722, -234.52989701175221, 185.03437333593646,
)  # fmt: skip


@lru_cache(maxsize=16)
def dawson(dtype: torch.dtype, device: torch.device) -> Dawson:
    """Coefficients for a real dtype; types narrower than float32 take those of float32."""

    def horner(coefficients: tuple[float, ...], factor: float = 1.0) -> Horner:
        table = [factor * c for c in reversed(coefficients)]
        return tuple(torch.tensor(table, dtype=dtype, device=device).unbind())

    if dtype == torch.float64:
        value = horner(VALUE_TOP_64), horner(VALUE_BOTTOM_64)
        return Dawson(SCALE_64, *value, horner(SLOPE_TOP_64, 2.0), horner(SLOPE_BOTTOM_64))
    value = horner(VALUE_TOP_32), horner(VALUE_BOTTOM_32)
    return Dawson(SCALE_32, *value, horner(SLOPE_TOP_32, 2.0), horner(SLOPE_BOTTOM_32))
