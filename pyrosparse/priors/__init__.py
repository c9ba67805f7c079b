"""What prior goes on which weights of a network: the sample sites that a layer gets."""

from __future__ import annotations

from pyrosparse.priors.group import L0, GroupHorseshoe, GroupLogUniform, GroupPrior, Groups
from pyrosparse.priors.prior import Prior
from pyrosparse.priors.weight import ARD, ComplexARD, ComplexLogUniform, LogUniform

__all__ = [
    "ARD",
    "L0",
    "ComplexARD",
    "ComplexLogUniform",
    "GroupHorseshoe",
    "GroupLogUniform",
    "GroupPrior",
    "Groups",
    "LogUniform",
    "Prior",
]
