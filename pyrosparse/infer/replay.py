"""Steps of a fit from a tape of one of them, as long as that is known to give the same numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.infer.elbo import SparseELBO
from pyrosparse.infer.recording import Recording
from pyrosparse.infer.snapshot import Snapshot, digest, tensors_of

__all__ = ["Replay", "own_code"]

Backward = Callable[[Tensor, Tensor], Tensor]

# the weight of a KL divergence is multiplied as a tensor of its type, and as Python's number: the same in these
_DIGITS = {torch.float32, torch.float64}
_KNOWN = ("torch.", "pyrosparse.")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
# TorchScript raises errors of its own, which are no RuntimeErrors; AttributeError: a torch without TorchScript
_UNPLAYABLE = (RuntimeError, torch.jit.Error, AttributeError)


def own_code(*modules: nn.Module) -> list[str]:
    """Names of what runs Python code that is neither torch's nor this library's: modules, and those with hooks.

    Such code may do something else at each step, which no tape of one step knows. A function that a module of torch's
    was given, such as an activation, counts as well.
    """
    found = {"a hook for all modules"} if torch.nn.modules.module._has_any_global_hook() else set()
    for module in (m for root in modules for m in root.modules()):
        kind = type(module)
        hooked = any(getattr(module, hooks, None) for hooks in _HOOKS)
        hooked |= any(getattr(p, hooks, None) for p in module.parameters(recurse=False) for hooks in _PARAMETER_HOOKS)
        if hooked or not _known(kind) or any(map(_is_own_function, vars(module).values())):
            found.add(kind.__name__)
    return sorted(found)


def _known(thing: Any) -> bool:
    # what is written in C has no module, or one of torch's
    return f"{getattr(thing, '__module__', None) or 'torch'}.".startswith(_KNOWN)


def _is_own_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, nn.Module | Tensor | type) and not _known(value)


class Replay:
    """Takes steps by a function, or from a tape of it where that gives the same gradient bit for bit.

    What a step costs beyond its operations on numbers, Pyro's traces, autograd's nodes and the interpreter, is the
    same for every size of the network, and most of it once the network has been shrunk. So one step is written
    down as the operations that it consists of, on the CPU in TorchScript, on CUDA as a graph, and the steps behind
    it are played from that tape.

    A tape is not believed. The step after the one that was recorded is recorded too, and must be the same operations
    with the same numbers in them; then the tape is played on its batch, from the same state of the random generators,
    and must give the same bits: values, gradients, buffers. After each :meth:`doubt` the next step is taken in the
    ordinary way and recorded, and the old tape is played on only if this one is no different. After two failures in a
    row it is given up. Smaller batches are taken by the function. So the numbers of a fit are those of a fit without a
    tape. On CUDA the tape is proved in the same way, and noise that a graph draws may be other noise of the same
    distribution.

    :param elbo: the loss; its weights may change from step to step, and its last terms are kept up.
    :param parameters: those that get a gradient.
    :param modules: all tensors of these are what a step may read or, of buffers, write.
    :param asked: whether the user wants it: code that is nobody's but theirs is played too, and where it cannot be done
        a warning says so.
    """

    def __init__(
        self, elbo: SparseELBO, parameters: Sequence[nn.Parameter], modules: Iterable[nn.Module], *, asked: bool
    ) -> None:
        self.elbo, self.parameters, self.asked = elbo, parameters, asked
        self.modules = list(modules)
        self.refused: str | None = None
        self.played = 0  # steps since the last doubt
        self._begun = False
        self._rows = 0  # of the largest batch
        self._failures = 0
        self._recording: Recording | None = None
        self._proved = self._doubted = self._barred = False

    def doubt(self) -> None:
        """Whatever the step reads or does may have changed: look before the tape is played again."""
        self._doubted, self.played = True, 0
        self._barred = not self.asked and bool(own_code(*self.modules))  # a callback may have brought it

    def __call__(self, backward: Backward, x: Tensor, y: Tensor) -> Tensor:
        """Take the step of a batch.

        :param backward: puts the gradient of a batch into the parameters and gives values of the step.
        :returns: the values.
        """
        # the first step of all is Pyro's to validate; a last batch that is smaller has a form of its own
        self._rows, fits = max(self._rows, len(x)), len(x) >= self._rows
        if self.refused is not None or self._barred or not self._begun or not fits:
            self._begun = True
            return backward(x, y)
        if self._recording is None or not self._proved or self._doubted:
            return self._look(backward, x, y)
        if self._recording.takes(x, y):
            self.played += 1
            return self._recording.play(x, y)
        if len(x) > self._recording.rows:
            return self._look(backward, x, y)
        return backward(x, y)

    def _look(self, backward: Backward, x: Tensor, y: Tensor) -> Tensor:
        """Take a step in the ordinary way, write it down, and compare."""
        odd = self._odd_type()
        if odd is not None:
            self._refuse(odd)
            return backward(x, y)
        before = Snapshot(x.device, self.modules)
        state = tensors_of(self.modules, self.parameters)
        recording = Recording(self.elbo, self.parameters, state, x, y)
        with recording as (own_x, own_y):
            values = backward(own_x, own_y)
        try:
            recording.close(values, now=tensors_of(self.modules, self.parameters))
        except NotImplementedError as error:
            self._refuse(str(error))
            return values
        old, self._doubted = self._recording, False
        if old is None or not recording.same_as(old):
            changed = old is not None and not self._proved  # from one step to the next
            self._recording, self._proved = recording, False
            if changed:
                self._fail("two steps that follow each other are not the same operations")
            return values
        if self._proved:
            return values
        expected = self._digests(values)
        before.restore()
        self._forget()  # the gradients of two ways at once would be the peak of the memory
        played = self._proof(old, x, y, expected)
        if played is not None:
            return played
        before.restore()
        self._forget()
        return backward(x, y)

    def _odd_type(self) -> str | None:
        """What is said of a KL divergence whose weight, as a tensor of its type, would not be Python's number."""
        assert self.elbo.last is not None  # the first step of all is never from a tape
        kinds = ((site, kl.dtype) for site, kl in self.elbo.last.kl.items())
        return next(
            (f"the KL divergence of {site!r} is of {kind}" for site, kind in kinds if kind not in _DIGITS), None
        )

    def _proof(self, tape: Recording, x: Tensor, y: Tensor, expected: list[tuple[Any, ...]]) -> Tensor | None:
        """Play a step that was taken before, from the same state; None where it does not give the same bits."""
        try:
            tape.prepare(x.device)
            values = tape.play(x, y)
            if self._digests(values) == expected:
                tape.settle(x, y, self.modules)
                self._proved, self._failures = True, 0
                return values
        except _UNPLAYABLE as error:
            self._refuse(_briefly(error))
        else:
            self._fail("the tape of a step gives other numbers")
        return None

    def _digests(self, values: Tensor) -> list[tuple[Any, ...]]:
        """Of everything that a step leaves behind."""
        terms = self.elbo.last
        assert terms is not None
        buffers = [b for m in self.modules for b in m.buffers()]
        left = [values, terms.log_likelihood, *terms.kl.values(), *(p.grad for p in self.parameters), *buffers]
        return [() if tensor is None else digest(tensor) for tensor in left]

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _fail(self, reason: str) -> None:
        self._failures += 1
        if self._failures > 1:
            self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self.refused, self._recording = reason, None
        if self.asked:
            warnings.warn(
                f"replay: the steps of this network cannot be taken from a tape ({reason}); every step is taken in the "
                "ordinary way",
                PyrosparseWarning,
                stacklevel=8,
            )


def _briefly(error: Exception) -> str:
    """The line of an error that says most: TorchScript's have a traceback of their own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[-1].startswith("RuntimeError") else lines[0]
