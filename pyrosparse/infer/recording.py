"""A step on a tape: what it was made of, and where its outputs go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.infer.elbo import ELBOTerms, SparseELBO
from pyrosparse.infer.snapshot import Snapshot
from pyrosparse.infer.tape import Player, Tape

__all__ = ["Recording"]

Weights = Mapping[str, "float | Tensor"]


class Recording:
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

    def same_as(self, other: Recording) -> bool:
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
            now = Snapshot(x.device, modules)
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


def _forms(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """What a tape takes for granted of tensors, beside their values."""
    return [(t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors]


def _places(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors lie in memory: a graph reads them there."""
    return [t.data_ptr() for t in tensors if t.is_cuda]


def _kinds(weights: Weights) -> list[tuple[str, Any]]:
    return [(site, _forms([w]) if isinstance(w, Tensor) else None) for site, w in weights.items()]
