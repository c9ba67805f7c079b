"""Local reparameterisation as an effect handler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import singledispatch
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrosparse.distributions import DropoutNormal
from pyrosparse.poutine.undrawn import Undrawn

__all__ = ["LocalReparamMessenger", "gaussian_moments", "local_reparam"]


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
        moments = gaussian_moments(msg["fn"])
        if moments is None:
            return
        msg["value"] = Undrawn(*moments, sampler=msg["fn"].rsample, site=msg["name"])
        msg["done"] = True


def local_reparam(guide: Callable[..., Any] | None = None, *, exclude: Iterable[str] = ()) -> Any:
    """Draw pre-activations instead of weights: lower variance, and each example has noise of its own.

    Wrap a *guide* (``local_reparam(guide)``), or use it as a context (``with local_reparam(): guide(x)``).
    Gaussian latent sites then yield an :class:`~pyrosparse.poutine.undrawn.Undrawn` weight, which linear
    operations in the model turn into draws of their outputs. Nothing is patched: other threads and other
    models see nothing of it.

    :param guide: a callable with ``pyro.sample`` statements.
    :param exclude: names or patterns of sites that get a real draw: weights that are used more than once.
    :returns: the wrapped guide, or the handler itself when ``guide`` is None.
    """
    messenger = LocalReparamMessenger(exclude)
    return messenger if guide is None else messenger(guide)
