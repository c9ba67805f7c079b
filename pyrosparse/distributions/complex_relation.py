r"""The relation :math:`\xi = E(w-\mu)^2 / E|w-\mu|^2` of a complex Gaussian, which lies in the unit disc.

As a real tensor of shape (..., 2). Trained is an unconstrained pair :math:`a`, and

.. math:: \xi = \frac{a}{\sqrt{1 + |a|^2}}, \qquad 1 - |\xi|^2 = \frac{1}{1 + |a|^2},

smooth everywhere, the identity near 0, and never on the rim.
"""

from __future__ import annotations

from typing import Any

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


class _Bounded(torch.autograd.Function):
    """``a r`` with ``r = (1 + |a|^2)^(-1/2)``.

    Its derivative ``r (1 - r^2 a a^T)`` is taken as ``r^3 (1 + b b^T)`` with b = ia, a sum without a difference of
    numbers that are nearly the same where a is large; it is symmetric, so that it serves both modes.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return a * torch.rsqrt(1.0 + squared_modulus(a)).unsqueeze(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return _turned_inwards(*ctx.saved_tensors, *grad_outputs)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor) -> Tensor:
        return _turned_inwards(*ctx.saved_tensors, *grad_inputs)


def _turned_inwards(a: Tensor, g: Tensor) -> Tensor:
    """The derivative of :class:`_Bounded` at ``a``, applied to ``g``."""
    r = torch.rsqrt(1.0 + squared_modulus(a)).unsqueeze(-1)
    across = torch.stack([-a[..., 1], a[..., 0]], -1) * r
    return r * (r * r * g + across * (across * g).sum(-1, keepdim=True))


def bounded_relation(unbounded: Tensor) -> Tensor:
    """Map any pair to a relation of modulus below 1: ``a / sqrt(1 + |a|^2)``; shape (..., 2)."""
    return _Bounded.apply(unbounded)


def unbounded_relation(relation: Tensor) -> Tensor:
    """Inverse of :func:`bounded_relation`: ``xi / sqrt(1 - |xi|^2)``; finite on the rim, too."""
    rest = (1.0 - squared_modulus(relation)).clamp_min(torch.finfo(relation.dtype).eps)
    return relation * torch.rsqrt(rest).unsqueeze(-1)
