"""Effect handlers."""

from __future__ import annotations

from pyrosparse.poutine.local_reparam import LocalReparamMessenger, gaussian_moments, local_reparam
from pyrosparse.poutine.scaled import Scaled, UndrawnScale, scaled
from pyrosparse.poutine.undrawn import Undrawn

__all__ = [
    "LocalReparamMessenger",
    "Scaled",
    "Undrawn",
    "UndrawnScale",
    "gaussian_moments",
    "local_reparam",
    "scaled",
]
