r"""The relation :math:`\xi = E(w-\mu)^2 / E|w-\mu|^2` of a complex Gaussian, which lies in the unit disc.

As a real tensor of shape (..., 2). Trained is an unconstrained pair :math:`a`, and

.. math:: \xi = \frac{a}{\sqrt{1 + |a|^2}}, \qquad 1 - |\xi|^2 = \frac{1}{1 + |a|^2},

smooth everywhere, the identity near 0, and never on the rim.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from pyrosparse.pairs import squared_modulus

__all__ = ["bounded_relation", "unbounded_relation", "unit_disc"]


class _UnitDisc(constraints.Constraint):
    """Pairs of modulus at most 1."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Whether each pair lies in the disc, up to rounding."""
        return squared_modulus(value) <= 1.0 + 8.0 * torch.finfo(value.dtype).eps


unit_disc = _UnitDisc()


def bounded_relation(unbounded: Tensor) -> Tensor:
    """Map any pair to a relation of modulus below 1: ``a / sqrt(1 + |a|^2)``; shape (..., 2)."""
    return unbounded * torch.rsqrt(1.0 + squared_modulus(unbounded)).unsqueeze(-1)


def unbounded_relation(relation: Tensor) -> Tensor:
    """Inverse of :func:`bounded_relation`: ``xi / sqrt(1 - |xi|^2)``; finite on the rim, too."""
    rest = (1.0 - squared_modulus(relation)).clamp_min(torch.finfo(relation.dtype).eps)
    return relation * torch.rsqrt(rest).unsqueeze(-1)
