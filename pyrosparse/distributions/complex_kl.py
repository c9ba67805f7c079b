r"""Fused KLs of a circular complex Gaussian weight: value and analytic gradient in one pass, in nats.

They depend on ``log_alpha = log_var - log(|loc|^2 + 1e-16)`` alone, with the total variance ``E|w - loc|^2``.
With ``slope = dKL/dlog_alpha``: ``dKL/dlog_var = slope`` and ``dKL/dloc = -2 slope loc / |loc|^2``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyrosparse.distributions.complex_ein import ein
from pyrosparse.distributions.kl import EPSILON, KLForm, Work, horner, log1p, split
from pyrosparse.pairs import numbers_of

__all__ = [
    "COMPLEX_FORMS",
    "ComplexForm",
    "complex_ard",
    "complex_weight_kl",
    "kl_complex_ard",
    "kl_complex_log_uniform",
    "kl_complex_log_uniform_sigmoid",
]

C1, C2, C3 = 0.57810, 1.45926, 1.36526

ComplexForm = Callable[[Work, Tensor, Tensor | None], None]
"""Write the KL and, where asked, its slope dKL/dlog_alpha; ``work.square`` is |loc|^2 + EPSILON, or 1."""


def exact(work: Work, value: Tensor, slope: Tensor | None) -> None:
    """``Ein(1/alpha)`` and ``-(1 - e^(-1/alpha))``."""
    if slope is not None:
        # 1 - e^-r = 2t / (1 + t), t = tanh(r/2): as exact as expm1, and not slowed down by denormal numbers
        torch.div(work.square, work.variance, out=slope).mul_(0.5).tanh_()
        slope.div_(torch.add(slope, 1.0, out=work.first)).mul_(-2.0)
    table = ein(value.dtype, value.device)
    total = torch.add(work.square, work.variance, alpha=1.0 / table.scale, out=work.first)
    q = torch.div(work.square, total, out=work.first)
    bottom = horner(table.bottom, q, work.second).mul_(work.variance)
    log1p(horner(table.top, q, value).mul_(work.square).div_(bottom))


def sigmoid(work: Work, value: Tensor, slope: Tensor | None) -> None:
    """``softplus(-log_alpha) + C1 sigmoid(-C2 - C3 log_alpha)``, and its slope."""
    torch.log(work.square.expand_as(work.first), out=work.first)
    p = torch.sub(work.log_var, work.first, out=work.first).mul_(-C3).sub_(C2).sigmoid_()
    if slope is not None:
        torch.addcmul(p, p, p, value=-1.0, out=work.second).mul_(C1 * C3)
        torch.add(work.square, work.variance, out=slope).reciprocal_().mul_(work.square).add_(work.second).neg_()
    log1p(torch.div(work.square, work.variance, out=value)).add_(p, alpha=C1)


def complex_ard(work: Work, value: Tensor, slope: Tensor | None) -> None:
    """``log(1 + 1/alpha)``, and ``-1/(1 + alpha)``."""
    if slope is not None:
        torch.add(work.square, work.variance, out=slope).reciprocal_().mul_(work.square).neg_()
    log1p(torch.div(work.square, work.variance, out=value))


COMPLEX_FORMS: dict[KLForm, ComplexForm] = {KLForm.EXACT: exact, KLForm.SIGMOID: sigmoid}


class ComplexWeightKL(torch.autograd.Function):
    """KL of CN(loc, exp(log_var)) by a :data:`ComplexForm`, with its analytic gradient; ``loc`` None stands for 1."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any,
        loc: Tensor | None,
        log_var: Tensor,
        variance: Tensor,
        keep: Tensor | None,
        form: ComplexForm,
        track: bool,
    ) -> Tensor:
        value = torch.empty(log_var.shape, dtype=log_var.dtype, device=log_var.device)
        slope = torch.empty_like(value) if track else None
        pull = torch.empty_like(value) if track and loc is not None else None
        ctx.save_for_backward(loc, slope, pull)
        values, variances, log_vars = split(value), split(variance), split(log_var)
        locs = repeat(None) if loc is None else split(numbers_of(loc))
        slopes = repeat(None) if slope is None else split(slope)
        pulls = repeat(None) if pull is None else split(pull)
        keeps = repeat(None) if keep is None else split(keep)
        scratch = value.new_empty((3, values[0].numel()))
        one = value.new_ones(())
        pieces = zip(values, locs, variances, log_vars, slopes, pulls, keeps, strict=False)
        for out, mu, var, lv, steep, back, mask in pieces:
            first, second, m2 = scratch[:, : out.numel()]
            if mu is None:
                m2 = one
            else:
                parts = torch.view_as_real(mu).square()
                torch.add(parts[:, 0], parts[:, 1], out=m2).add_(EPSILON)
            form(Work(m2, var, lv, first, second), out, steep)
            if mask is not None:
                first.copy_(mask)
                out.mul_(first)
                if steep is not None:
                    steep.mul_(first)
            if steep is not None and back is not None:
                torch.div(steep, m2, out=back).mul_(-2.0)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None, None, None]:
        loc, slope, pull = ctx.saved_tensors
        of_log_var = torch.mul(slope, grad)
        if loc is None:
            return None, of_log_var, None, None, None, None
        # a complex product with a real factor: three times faster than a product of pairs
        of_loc = torch.mul(numbers_of(loc), pull.mul(grad))
        return torch.view_as_real(of_loc), of_log_var, None, None, None, None


def complex_weight_kl(
    loc: Tensor,
    log_var: Tensor,
    form: ComplexForm,
    *,
    variance: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Return the KL of each weight, 0 where not kept; ``loc`` has shape (..., 2), all others that of the result.

    ``variance`` is exp(log_var) where the caller has it already; the gradient goes to ``log_var``.
    """
    variance = torch.exp(log_var.detach()) if variance is None else variance.detach()
    track = torch.is_grad_enabled() and (loc.requires_grad or log_var.requires_grad)
    return ComplexWeightKL.apply(loc, log_var, variance, keep, form, track)


def _of_log_alpha(log_alpha: Tensor, form: ComplexForm) -> Tensor:
    track = torch.is_grad_enabled() and log_alpha.requires_grad
    return ComplexWeightKL.apply(None, log_alpha, torch.exp(log_alpha.detach()), None, form, track)


def kl_complex_log_uniform(log_alpha: Tensor) -> Tensor:
    """Exact KL of a circular complex Gaussian to the prior ``|w|^-2``, 0 at alpha = infinity, in nats.

    ``Ein(1/alpha) = integral_0^(1/alpha) (1 - e^-t)/t dt = gamma - log_alpha - Ei(-1/alpha)``; gradient
    ``-(1 - e^(-1/alpha))``. Error relative to max(1, KL) below 1e-6 in float32 and 1e-10 in float64 for
    log_alpha in [-20, 20]. Finite from -100 to 100 (where 1/alpha leaves the range of float32, below -88, the
    value stays at 88.7). Shape of ``log_alpha``; differentiable once. Nazarov & Burnaev (2020).
    """
    return _of_log_alpha(log_alpha, exact)


def kl_complex_log_uniform_sigmoid(log_alpha: Tensor) -> Tensor:
    """Approximate KL to the prior ``|w|^-2``: ``softplus(-log_alpha) + c1 sigmoid(-c2 - c3 log_alpha)``.

    c = (0.57810, 1.45926, 1.36526), Nazarov & Burnaev (2020); nats, 0 at alpha = infinity; off by up to 0.011.
    """
    return _of_log_alpha(log_alpha, sigmoid)


def kl_complex_ard(log_alpha: Tensor) -> Tensor:
    """KL of a circular complex Gaussian to CN(0, 1/tau) at its best ``tau = 1/(|loc|^2 + var)``, in nats.

    ``log(1 + 1/alpha)``, Nazarov & Burnaev (2020). Shape of ``log_alpha``; differentiable once.
    """
    return _of_log_alpha(log_alpha, complex_ard)
