"""Guides: posterior families, and the guide that gives each prior its own."""

from __future__ import annotations

from pyrosparse.guides.auto import ARD, AutoSparse, SparseVD
from pyrosparse.guides.dropout import DropoutFamily
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family, family_of, register_family

__all__ = [
    "ARD",
    "DEFAULT_THRESHOLD",
    "AutoSparse",
    "DropoutFamily",
    "Family",
    "SparseVD",
    "family_of",
    "register_family",
]
