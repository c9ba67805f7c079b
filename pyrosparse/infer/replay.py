"""Steps of a fit from a tape of one of them, as long as that is known to give the same numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.infer.elbo import ELBOTerms, SparseELBO
from pyrosparse.infer.tape import Player, Tape

__all__ = ["Replay", "own_code"]

Backward = Callable[[Tensor, Tensor], Tensor]
Weights = Mapping[str, "float | Tensor"]

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
        self._recording: _Recording | None = None
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
        before = _Snapshot(x.device, self.modules)
        state = _tensors(self.modules, self.parameters)
        recording = _Recording(self.elbo, self.parameters, state, x, y)
        with recording as (own_x, own_y):
            values = backward(own_x, own_y)
        try:
            recording.close(values, now=_tensors(self.modules, self.parameters))
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

    def _proof(self, tape: _Recording, x: Tensor, y: Tensor, expected: list[tuple[Any, ...]]) -> Tensor | None:
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
        return [() if tensor is None else _digest(tensor) for tensor in left]

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


class _Recording:
    """A tape of one step, what it was made of, and where its outputs go.

    While it is entered, the loss reads its weights from tensors that are on the tape; it gives the batch that is.
    """

    def __init__(
        self, elbo: SparseELBO, parameters: Sequence[nn.Parameter], state: list[Tensor], x: Tensor, y: Tensor
    ) -> None:
        self.elbo, self.parameters, self.state, self.rows = elbo, parameters, state, len(x)
        self._batch, self._forms, self._places = _forms([x, y]), _forms(state), _places(state)
        self._kinds = _kinds(elbo.site_scale)
        self._numbers: tuple[float, ...] | None = None
        self._number_tensors: dict[str, Tensor] = {}
        self._given = elbo.site_scale
        # detached: on a tape no two inputs may be one tensor, and targets may be the inputs themselves
        self._own_weights = {site: weight.detach() for site, weight in self._weight_tensors(x).items()}
        self._own_batch = (x.detach(), y.detach())
        self._versions = self._written()
        self.tape = Tape([*self._own_batch, *self._own_weights.values(), *state])
        self._play: Player = self.tape.play

    def __enter__(self) -> tuple[Tensor, Tensor]:
        self.elbo.site_scale = dict(self._own_weights)
        self.tape.__enter__()
        return self._own_batch

    def __exit__(self, *error: Any) -> None:
        self.tape.__exit__(*error)
        self.elbo.site_scale = self._given

    def close(self, values: Tensor, *, now: Sequence[Tensor]) -> None:
        """The step has been taken.

        :param now: the tensors of the modules after it.
        :raises NotImplementedError: where the tape is not the whole of it.
        """
        terms = self.elbo.last
        assert terms is not None
        if self.tape.refusal is not None:
            raise NotImplementedError(self.tape.refusal)
        if self._written() != self._versions:
            raise NotImplementedError("a step writes on its batch or on a parameter")
        if len(now) != len(self.state) or any(a is not b for a, b in zip(now, self.state, strict=True)):
            raise NotImplementedError("a step puts another tensor in the place of a buffer or a parameter")
        self._sites = list(terms.kl)
        self._trained = [p for p in self.parameters if p.grad is not None]
        grads = [p.grad for p in self._trained if p.grad is not None]
        self.tape.close([values, terms.log_likelihood, *terms.kl.values(), *grads])
        # a slice of a loader's data would keep all of them alive
        del self._own_batch, self._own_weights, self._given

    def same_as(self, other: _Recording) -> bool:
        """Whether two steps were the same operations, on the same tensors of the same form, with the same numbers."""
        return (
            (self._batch, self._forms) == (other._batch, other._forms)
            and self._kinds == other._kinds
            and self._places == other._places
            and all(a is b for a, b in zip(self.state, other.state, strict=True))
            and self._sites == other._sites
            and all(a is b for a, b in zip(self._trained, other._trained, strict=True))
            and self.tape.same_as(other.tape)
        )

    def takes(self, x: Tensor, y: Tensor) -> bool:
        """Whether a batch, and the weights of the KL terms, have the form that the tape takes for granted."""
        return _forms([x, y]) == self._batch and _kinds(self.elbo.site_scale) == self._kinds

    def play(self, x: Tensor, y: Tensor) -> Tensor:
        """Take the step of a batch."""
        values, log_likelihood, *rest = self._play(x, y, *self._weight_tensors(x).values(), *self.state)
        kls, grads = rest[: len(self._sites)], rest[len(self._sites) :]
        self.elbo.last = ELBOTerms(log_likelihood, dict(zip(self._sites, kls, strict=True)))
        for parameter, grad in zip(self._trained, grads, strict=True):
            parameter.grad = grad
        return values

    def prepare(self, device: torch.device) -> None:
        """Where no graph will be made of it, let TorchScript play it."""
        if not _graphed(device):
            self._play = self.tape.script()

    def settle(self, x: Tensor, y: Tensor, modules: Iterable[nn.Module]) -> None:
        """The tape is right: on CUDA, make a graph of it."""
        if _graphed(x.device):
            now = _Snapshot(x.device, modules)
            self._play = _Graph(self.tape.play, [x, y, *self._weight_tensors(x).values()], self.state)
            now.restore()

    def _written(self) -> list[int]:
        """Counts of what has been written on the tensors that a step must leave as they are."""
        return [t._version for t in (*self._own_batch, *(t for t in self.state if isinstance(t, nn.Parameter)))]

    def _weight_tensors(self, like: Tensor) -> dict[str, Tensor]:
        """The weights of the KL terms as tensors, made anew only where they have changed."""
        weights = self.elbo.site_scale
        names = [site for site, weight in weights.items() if not isinstance(weight, Tensor)]
        numbers = tuple(float(weights[site]) for site in names)
        if numbers != self._numbers:
            self.elbo.check_weights()
            assert self.elbo.last is not None
            kls = self.elbo.last.kl
            there = torch.tensor(numbers, dtype=torch.float64).to(like.device, non_blocking=True)
            self._numbers = numbers
            self._number_tensors = {
                site: number.to(kls[site].dtype) for site, number in zip(names, there.unbind(), strict=True)
            }
        return {site: w if isinstance(w, Tensor) else self._number_tensors[site] for site, w in weights.items()}


class _Graph:
    """A tape in a CUDA graph: its kernels, launched all at once.

    :param play: the tape.
    :param given: inputs that change from step to step; the graph has copies of its own.
    :param state: inputs that stay where they are in memory.
    """

    def __init__(self, play: Player, given: Sequence[Tensor], state: Sequence[Tensor]) -> None:
        self._given = [tensor.clone() for tensor in given]
        self._device = given[0].device
        self._replay, self._outputs = _captured(lambda: play(*self._given, *state), self._device)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(self._given, inputs, strict=False):
            own.copy_(given, non_blocking=True)
        self._replay()
        return self._outputs


def _graphed(device: torch.device) -> bool:
    """Whether tapes become graphs on this device."""
    return device.type == "cuda"


def _captured(
    work: Callable[[], tuple[Tensor, ...]], device: torch.device
) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Capture work on a device: a function that does it again, and where its outputs lie after that."""
    with torch.cuda.device(device):
        # once outside of the graph, so that libraries make their workspaces
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # threads that pin batches of a loader go on meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = work()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay, outputs


def _tensors(modules: Iterable[nn.Module], parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Distinct tensors that a step may read."""
    found: dict[int, Tensor] = {id(t): t for m in modules for t in (*m.parameters(), *m.buffers())}
    return list((found | {id(p): p for p in parameters}).values())


def _forms(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """What a tape takes for granted of tensors, beside their values."""
    return [(t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors]


def _places(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors lie in memory: a graph reads them there."""
    return [t.data_ptr() for t in tensors if t.is_cuda]


def _kinds(weights: Weights) -> list[tuple[str, Any]]:
    return [(site, _forms([w]) if isinstance(w, Tensor) else None) for site, w in weights.items()]


# the weight of a KL divergence is multiplied as a tensor of its type, and as Python's number: the same in these
_DIGITS = {torch.float32, torch.float64}
_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _digest(tensor: Tensor) -> tuple[Any, ...]:
    """Form of a tensor and sums of its bits, which no two tensors that differ are likely to share."""
    flat = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    bits = flat.reshape(len(flat) if flat.dim() and len(flat) else 1, -1).view(_WHOLE[flat.element_size()])
    rows = bits.sum(1, dtype=torch.int64)
    place = torch.arange(1, len(rows) + 1, device=rows.device)
    columns = bits[:, 1::2].sum(dtype=torch.int64)  # every other one: what changes places changes this
    return tensor.shape, tensor.dtype, int(rows.sum()), int((rows * place).sum()), int(columns)


def _briefly(error: Exception) -> str:
    """The line of an error that says most: TorchScript's have a traceback of their own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[-1].startswith("RuntimeError") else lines[0]


class _Snapshot:
    """Random generators and the modules' buffers as they are now."""

    def __init__(self, device: torch.device, modules: Iterable[nn.Module]) -> None:
        self._device = device
        self._generator = torch.get_rng_state()
        self._of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._buffers = [(b, b.detach().clone()) for m in modules for b in m.buffers()]

    def restore(self) -> None:
        """Take them back there."""
        torch.set_rng_state(self._generator)
        if self._of_device is not None:
            torch.cuda.set_rng_state(self._of_device, self._device)
        with torch.no_grad():
            for buffer, value in self._buffers:
                buffer.copy_(value)
