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

_KNOWN = ("torch.nn.", "pyrosparse.")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def own_code(*modules: nn.Module) -> list[str]:
    """Names of what runs Python code that is neither torch's nor this library's: modules, and those with hooks.

    Such code may do something else at each step, which no tape of one step knows.
    """
    found = {"a hook for all modules"} if torch.nn.modules.module._has_any_global_hook() else set()
    for module in (m for root in modules for m in root.modules()):
        kind = type(module)
        hooked = any(getattr(module, hooks, None) for hooks in _HOOKS) or "forward" in vars(module)
        hooked |= any(getattr(p, hooks, None) for p in module.parameters(recurse=False) for hooks in _PARAMETER_HOOKS)
        if hooked or not f"{kind.__module__}.".startswith(_KNOWN):
            found.add(kind.__name__)
    return sorted(found)


class Replay:
    r"""Takes steps by a function, or from a tape of it where that gives the same gradient bit for bit.

    What a step costs beyond its operations on numbers, Pyro's traces, autograd's nodes and the interpreter, is the
    same for every size of the network, and most of it once the network has been shrunk. So one step is written
    down as the operations that it consists of, on the CPU in TorchScript, on CUDA as a graph, and the steps behind
    it are played from that tape.

    A tape is not believed. The step after the one that was recorded is taken in both ways, from the same state of the
    random generators, and so is the first step after each :meth:`doubt`; where a bit differs, it is recorded
    anew, and given up if that happens twice in a row. Batches of another size are taken by the function. So the
    numbers of a fit are those of a fit without a tape. On CUDA the tape is proved in the same way, and noise that a
    graph draws is other noise of the same distribution.

    :param backward: puts the gradient of a batch into the parameters and gives values of the step.
    :param elbo: the loss in it; its weights may change from step to step, and its last terms are kept up.
    :param parameters: those that get a gradient.
    :param modules: all tensors of these are what a step may read or, of buffers, write.
    :param asked: whether the user wants it, and is told where it cannot be done.
    """

    def __init__(
        self,
        backward: Backward,
        elbo: SparseELBO,
        parameters: Sequence[nn.Parameter],
        modules: Iterable[nn.Module],
        *,
        asked: bool,
    ) -> None:
        self.backward, self.elbo, self.parameters = backward, elbo, parameters
        self.modules, self.asked = list(modules), asked
        self.refused: str | None = None
        self.played = 0  # steps since the last doubt
        self._begun = False
        self._rows = 0  # of the largest batch
        self._failures = 0
        self._recording: _Recording | None = None
        self._sure = False

    def doubt(self) -> None:
        """Whatever the step reads may have changed: look at it before the tape is played again."""
        self._sure, self.played = False, 0
        if self._recording is not None and not self._recording.is_of(self._state()):
            self._recording = None  # cut, or other tensors

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Take the step of a batch: the gradient into the parameters, the values as the function gives them."""
        # the first step of all is Pyro's to validate; a last batch that is smaller has a form of its own
        self._rows, fits = max(self._rows, len(x)), len(x) >= self._rows
        if self.refused is not None or not self._begun or not fits:
            self._begun = True
            return self.backward(x, y)
        if self._recording is None:
            return self._record(x, y)
        if self._recording.batch != _forms((x, y)) or self._recording.weights != _kinds(self.elbo.site_scale):
            return self.backward(x, y)
        if self._sure:
            self.played += 1
            return self._recording.take(x, y)
        return self._prove(self._recording, x, y)

    def _state(self) -> list[Tensor]:
        """Distinct tensors of the modules."""
        found = {id(t): t for m in self.modules for t in (*m.parameters(), *m.buffers())}
        found |= {id(p): p for p in self.parameters}
        return list(found.values())

    def _record(self, x: Tensor, y: Tensor) -> Tensor:
        """Take a step in the ordinary way and write it down."""
        recording = _Recording(self.elbo, self.parameters, self._state(), x, y)
        with recording as (own_x, own_y):
            values = self.backward(own_x, own_y)
        try:
            recording.close(values)
        except (NotImplementedError, RuntimeError, AttributeError) as error:  # the last: a torch without TorchScript
            self._refuse(str(error))
        else:
            self._recording, self._sure = recording, False
        return values

    def _prove(self, recording: _Recording, x: Tensor, y: Tensor) -> Tensor:
        """Take a step in both ways from the same state; the ordinary one counts where they differ."""
        rewind = _rewinder(x.device, self.modules)
        values = self.backward(x, y)
        expected = [_digest(t) for t in self._results(values)]
        rewind()
        self._forget()
        try:
            values = recording.take(x, y, recording.plain)
        except RuntimeError as error:
            self._refuse(f"it cannot be played: {error}")
        else:
            if [_digest(t) for t in self._results(values)] == expected:
                self._sure, self._failures = True, 0
                recording.settle(x, y, self.modules)
                return values
            self._failures += 1
            self._recording = None
            if self._failures > 1:
                self._refuse("two steps in a row were not the same operations")
        rewind()
        self._forget()
        return self.backward(x, y)

    def _results(self, values: Tensor) -> list[Tensor]:
        terms = self.elbo.last
        assert terms is not None
        return [values, *terms.kl.values(), *(p.grad for p in self.parameters if p.grad is not None)]

    def _forget(self) -> None:
        """Free the gradients: those of two ways at once would be the peak of the memory."""
        for parameter in self.parameters:
            parameter.grad = None

    def _refuse(self, reason: str) -> None:
        self.refused, self._recording = reason, None
        if self.asked:
            warnings.warn(
                f"replay: the steps of this network cannot be taken from a tape ({reason}); every step is taken in the "
                "ordinary way",
                PyrosparseWarning,
                stacklevel=6,
            )


class _Recording:
    """A tape of one step, what it was made of, and where its outputs go.

    While it is entered, the loss reads its weights from tensors that are on the tape; it gives the batch that is.
    """

    def __init__(
        self, elbo: SparseELBO, parameters: Sequence[nn.Parameter], state: list[Tensor], x: Tensor, y: Tensor
    ) -> None:
        self.elbo, self.parameters, self.tensors = elbo, parameters, state
        self.state, self.batch, self.weights = _forms(state), _forms((x, y)), _kinds(elbo.site_scale)
        self.places = _places(state)
        self._numbers: tuple[float, ...] | None = None
        self._number_tensors: dict[str, Tensor] = {}
        self._given = elbo.site_scale
        # detached: on a tape no two inputs may be one tensor, and targets may be the inputs themselves
        own = {site: weight.detach() for site, weight in self._weight_tensors(x).items()}
        self._own_weights, self._own_batch = own, (x.detach(), y.detach())
        self.tape = Tape([*self._own_batch, *own.values(), *state])
        self.plain: Player = self.tape.play
        self._play: Player = self.tape.play

    def __enter__(self) -> tuple[Tensor, Tensor]:
        self.elbo.site_scale = dict(self._own_weights)
        self.tape.__enter__()
        return self._own_batch

    def __exit__(self, *error: Any) -> None:
        self.tape.__exit__(*error)
        self.elbo.site_scale = self._given

    def is_of(self, state: Sequence[Tensor]) -> bool:
        """Whether these are the tensors that the tape reads, in the form in which it takes them for granted."""
        same = len(state) == len(self.tensors) and all(a is b for a, b in zip(state, self.tensors, strict=True))
        return same and _forms(state) == self.state and _places(state) == self.places

    def close(self, values: Tensor) -> None:
        """The step has been taken.

        :raises NotImplementedError: where the tape is not the whole of it.
        """
        if self.tape.refusal is not None:
            raise NotImplementedError(self.tape.refusal)
        terms = self.elbo.last
        assert terms is not None
        self._sites = list(terms.kl)
        self._trained = [p for p in self.parameters if p.grad is not None]
        grads = [p.grad for p in self._trained if p.grad is not None]
        self.tape.close([values, terms.log_likelihood, *terms.kl.values(), *grads])
        if not _graphed(values.device):
            self.plain = self._play = self.tape.script()

    def take(self, x: Tensor, y: Tensor, play: Player | None = None) -> Tensor:
        """Play the step of a batch, by the fastest player if none is given."""
        weights = self._weight_tensors(x)
        values, log_likelihood, *rest = (play or self._play)(x, y, *weights.values(), *self.tensors)
        kls, grads = rest[: len(self._sites)], rest[len(self._sites) :]
        self.elbo.last = ELBOTerms(log_likelihood, dict(zip(self._sites, kls, strict=True)))
        for parameter, grad in zip(self._trained, grads, strict=True):
            parameter.grad = grad
        return values

    def settle(self, x: Tensor, y: Tensor, modules: Iterable[nn.Module]) -> None:
        """The tape is right: on CUDA, make a graph of it."""
        if _graphed(x.device) and not isinstance(self._play, _Graph):
            rewind = _rewinder(x.device, modules)
            self._play = _Graph(self.tape.play, [x, y, *self._weight_tensors(x).values()], self.tensors)
            rewind()

    def _weight_tensors(self, like: Tensor) -> dict[str, Tensor]:
        """The weights of the KL terms as tensors, made anew only where they have changed."""
        weights = self.elbo.site_scale
        names = [site for site, weight in weights.items() if not isinstance(weight, Tensor)]
        numbers = tuple(float(weights[site]) for site in names)
        if numbers != self._numbers:
            assert self.elbo.last is not None  # the first step of all is never from a tape
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
        self._replay, self._outputs = _captured(lambda: play(*self._given, *state))

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(self._given, inputs, strict=False):
            own.copy_(given, non_blocking=True)
        self._replay()
        return self._outputs


def _graphed(device: torch.device) -> bool:
    """Whether tapes become graphs on this device."""
    return device.type == "cuda"


def _captured(work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Capture work: a function that does it again, and where its outputs lie after that."""
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
    return graph.replay, outputs


def _forms(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """What a tape takes for granted of tensors, beside their values."""
    return [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]


def _places(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors lie in memory: a graph reads them there."""
    return [t.data_ptr() for t in tensors if t.is_cuda]


def _kinds(weights: Weights) -> list[tuple[str, Any]]:
    return [(site, _forms([w]) if isinstance(w, Tensor) else None) for site, w in weights.items()]


def _digest(tensor: Tensor) -> int:
    """A number that no two tensors which differ in a bit are likely to share."""
    flat = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    return int(flat.reshape(-1).view(whole).sum(dtype=torch.int64))


def _rewinder(device: torch.device, modules: Iterable[nn.Module]) -> Callable[[], None]:
    """A function that takes random generators and the modules' buffers back to where they are now."""
    generators: list[tuple[Callable[[Tensor], Any], Tensor]] = [(torch.set_rng_state, torch.get_rng_state())]
    if device.type == "cuda":
        generators.append((lambda s: torch.cuda.set_rng_state(s, device), torch.cuda.get_rng_state(device)))
    # a module may put another tensor in the place of a buffer
    held = [(m._buffers, dict(m._buffers)) for root in modules for m in root.modules() if m._buffers]
    before = [(b, b.detach().clone()) for _, buffers in held for b in buffers.values() if b is not None]

    def rewind() -> None:
        for restore, state in generators:
            restore(state)
        for now, then in held:
            now.update(then)
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)

    return rewind
