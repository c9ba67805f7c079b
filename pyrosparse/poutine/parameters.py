"""Plain parameters as Pyro param sites, without Pyro's global store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK, Message, apply_stack
from torch import nn

__all__ = ["expose", "unexposed"]


class _Unexposed(Messenger):
    """While it is on the stack, :func:`expose` does nothing."""


def unexposed() -> Messenger:
    """Context in which parameters are not announced: for a loop that owns its torch optimiser.

    Announcing costs about ten microseconds a parameter and step, and only Pyro's optimisers need it.
    """
    return _Unexposed()


def expose(prefix: str, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Announce parameters to the handlers on Pyro's stack, as ``pyro.param`` would.

    Pyro's ``SVI`` finds what it trains by recording param sites. The global parameter store merges
    parameters of equal names, so that of two models of one class only the first is trained; these sites
    carry the parameter itself and never touch the store.

    :param prefix: put before each name, with a dot.
    :param parameters: names and parameters; those that need no gradient are left out.
    """
    if not _PYRO_STACK or any(isinstance(handler, _Unexposed) for handler in _PYRO_STACK):
        return
    for name, parameter in parameters:
        if parameter.requires_grad:
            _announce(f"{prefix}.{name}", parameter)


def _announce(name: str, parameter: nn.Parameter) -> None:
    value: Any = parameter
    if not hasattr(value, "unconstrained"):
        value.unconstrained = _Itself(value)
    apply_stack(
        Message(
            type="param",
            name=name,
            fn=_Itself(value),
            is_observed=False,
            args=(),
            kwargs={},
            value=value,
            infer={},
            scale=1.0,
            mask=None,
            cond_indep_stack=(),
            done=True,
            stop=False,
            continuation=None,
        )
    )


class _Itself:
    """The unconstrained form of an unconstrained parameter; copied and pickled with it."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter

    def __call__(self, *args: Any, **kwargs: Any) -> nn.Parameter:
        return self.parameter
