"""Guides: posterior families, and the guide that gives each prior its own."""

from __future__ import annotations

from pyrosparse.guides.auto import ARD, L0, AutoSparse, GroupHorseshoe, GroupNormalJeffreys, SparseVD
from pyrosparse.guides.coded import CodedFamily
from pyrosparse.guides.dropout import ComplexDropoutFamily, DropoutFamily, NormalFamily
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family, family_of, register_family
from pyrosparse.guides.gaussian_dropout import GaussianDropout, GaussianDropoutFamily, Share
from pyrosparse.guides.group import Criterion, GroupFamily
from pyrosparse.guides.magnitude import Magnitude, MagnitudeFamily
from pyrosparse.guides.point import PointFamily

__all__ = [
    "ARD",
    "DEFAULT_THRESHOLD",
    "L0",
    "AutoSparse",
    "CodedFamily",
    "ComplexDropoutFamily",
    "Criterion",
    "DropoutFamily",
    "Family",
    "GaussianDropout",
    "GaussianDropoutFamily",
    "GroupFamily",
    "GroupHorseshoe",
    "GroupNormalJeffreys",
    "Magnitude",
    "MagnitudeFamily",
    "NormalFamily",
    "PointFamily",
    "Share",
    "SparseVD",
    "family_of",
    "register_family",
]
