"""Local reparameterisation as an effect handler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import singledispatch
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrosparse.distributions import ComplexNormal, DropoutNormal, LogNormal, Slab
from pyrosparse.poutine.scaled import UndrawnScale
from pyrosparse.poutine.undrawn import Undrawn
from pyrosparse.poutine.undrawn_complex import UndrawnPairs

__all__ = ["LocalReparamMessenger", "complex_moments", "gaussian_moments", "local_reparam"]


@singledispatch
def gaussian_moments(distribution: Any) -> tuple[Tensor, Tensor] | None:
    """Mean and variance of a Gaussian with independent elements; None for any other distribution.

    Open to new distributions: ``gaussian_moments.register(MyNormal)``.
    """
    return None


@gaussian_moments.register
def _(distribution: DropoutNormal) -> tuple[Tensor, Tensor]:
    return distribution.mean, distribution.variance


@gaussian_moments.register
def _(distribution: torch.distributions.Normal) -> tuple[Tensor, Tensor]:
    return distribution.loc, distribution.scale.square()


@gaussian_moments.register
def _(distribution: torch.distributions.Independent) -> tuple[Tensor, Tensor] | None:
    return gaussian_moments(distribution.base_dist)


@gaussian_moments.register
def _(distribution: Slab) -> tuple[Tensor, Tensor] | None:
    return gaussian_moments(distribution.base_dist)


@singledispatch
def complex_moments(distribution: Any) -> tuple[Tensor, ...] | None:
    """Moments of a Gaussian over real pairs (..., 2) that stand for independent complex numbers; None for any other.

    Mean (pairs), total variance, and, unless it is circular, relation times variance (pairs). Open to new
    distributions, as :func:`gaussian_moments` is.
    """
    return None


@complex_moments.register
def _(distribution: ComplexNormal) -> tuple[Tensor, ...]:
    variance = distribution.total_variance
    moments = distribution.mean, variance
    return moments if distribution.relation is None else (*moments, variance.unsqueeze(-1) * distribution.relation)


@complex_moments.register
def _(distribution: torch.distributions.Independent) -> tuple[Tensor, ...] | None:
    return complex_moments(distribution.base_dist)


@complex_moments.register
def _(distribution: Slab) -> tuple[Tensor, ...] | None:
    return complex_moments(distribution.base_dist)


class LocalReparamMessenger(Messenger):
    """Give every latent Gaussian site an undrawn weight; see :func:`local_reparam`."""

    def __init__(self, exclude: Iterable[str] = ()) -> None:
        super().__init__()
        self.exclude = tuple(exclude)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or msg["value"] is not None:
            return
        if self.exclude and any(fnmatchcase(msg["name"], pattern) for pattern in self.exclude):
            return
        if msg["infer"].get("per_example"):
            msg["value"] = _undrawn_scale(msg["fn"])
            msg["done"] = True
            return
        value = _undrawn(msg["fn"], msg["name"])
        if value is None:
            return
        msg["value"] = value
        msg["done"] = True


def _undrawn(distribution: Any, site: str) -> Undrawn | None:
    """Undrawn weight of a Gaussian, real or complex; None for any other distribution."""
    moments = gaussian_moments(distribution)
    if moments is not None:
        return Undrawn(*moments, sampler=distribution.rsample, site=site)
    pairs = complex_moments(distribution)
    return None if pairs is None else UndrawnPairs(*pairs, sampler=distribution.rsample, site=site)


def _undrawn_scale(distribution: Any) -> UndrawnScale:
    """Scales of groups, drawn later for each example; log-normal ones say what their logarithm is."""
    base = distribution.base_dist if isinstance(distribution, torch.distributions.Independent) else distribution
    if isinstance(base, LogNormal):
        return UndrawnScale.log_normal(*base.log_moments)
    shape = distribution.batch_shape + distribution.event_shape
    parameter = next(v for v in vars(base).values() if isinstance(v, Tensor) and v.is_floating_point())
    return UndrawnScale(distribution.rsample, parameter.new_empty(shape))


def local_reparam(guide: Callable[..., Any] | None = None, *, exclude: Iterable[str] = ()) -> Any:
    """Draw pre-activations instead of weights: lower variance, and each example has noise of its own.

    Wrap a *guide* (``local_reparam(guide)``), or use it as a context (``with local_reparam(): guide(x)``).
    Gaussian latent sites then yield an :class:`~pyrosparse.poutine.undrawn.Undrawn` weight, which linear
    operations in the model turn into draws of their outputs. Sites that say ``infer={"per_example": True}`` yield
    scales of groups that each example draws anew (:class:`~pyrosparse.poutine.scaled.UndrawnScale`). Nothing is
    patched: other threads and other models see nothing of it.

    :param guide: a callable with ``pyro.sample`` statements.
    :param exclude: names or patterns of sites that get a real draw: weights that are used more than once.
    :returns: the wrapped guide, or the handler itself when ``guide`` is None.
    """
    messenger = LocalReparamMessenger(exclude)
    return messenger if guide is None else messenger(guide)
