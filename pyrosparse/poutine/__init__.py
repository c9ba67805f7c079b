"""Effect handlers."""

from __future__ import annotations

from pyrosparse.poutine.local_reparam import (
    LocalReparamMessenger,
    complex_moments,
    gaussian_moments,
    local_reparam,
)
from pyrosparse.poutine.scaled import Scaled, UndrawnScale, scaled
from pyrosparse.poutine.undrawn import Undrawn
from pyrosparse.poutine.undrawn_complex import UndrawnComplex, UndrawnPairs

__all__ = [
    "LocalReparamMessenger",
    "Scaled",
    "Undrawn",
    "UndrawnComplex",
    "UndrawnPairs",
    "UndrawnScale",
    "complex_moments",
    "gaussian_moments",
    "local_reparam",
    "scaled",
]
