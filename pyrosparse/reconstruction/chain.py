"""From layers to problems and back: which inputs and which targets each layer is reconstructed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import torch
from torch import Tensor, nn

from pyrosparse.errors import ConfigError, PruneError
from pyrosparse.pruning.unitwise import UNIT_TENSORS
from pyrosparse.reconstruction.goals import Aim, Goal, meet
from pyrosparse.reconstruction.moments import Moments, input_moments, joint_moments
from pyrosparse.reconstruction.path import Solver, search
from pyrosparse.reconstruction.problem import Block, Problem
from pyrosparse.reconstruction.sizes import layer_bytes, network_bytes
from pyrosparse.reconstruction.units import Structure, Units, column_groups
from pyrosparse.reconstruction.watching import Inputs
from pyrosparse.text import nearest

__all__ = ["Chain", "Chaining", "LayerFit", "Outcome"]


class Chaining(StrEnum):
    """What one layer's reconstruction knows of the others'."""

    PARALLEL = "parallel"
    """Nothing: Y = W Z and X = Z in the original network; one pass over the data."""

    TOP_DOWN = "top-down"
    """From the input to the output: Y = W Z still, but X is what the layers before give now."""

    BOTTOM_UP = "bottom-up"
    """From the output to the input: only those outputs are reconstructed that the layers behind still read."""

    @classmethod
    def named(cls, name: Chaining | str) -> Chaining:
        """Find a chaining by its name.

        :raises ConfigError: for a name that there is not.
        """
        if name not in set(cls):
            raise ConfigError(f"there is no chaining {str(name)!r}{nearest(str(name), cls)}")
        return cls(name)


@dataclass(frozen=True)
class LayerFit:
    """What has become of one layer.

    :param lam: λ of its problem; 0 where nothing was to go.
    :param lam_max: smallest λ at which nothing would be left.
    :param gap: relative duality gap at which the solver stopped.
    :param error: E‖Y − M X‖² / E‖Y‖² of the map that it has now, over the outputs that were looked at; NaN where it was
        not measured.
    """

    lam: float = 0.0
    lam_max: float = 0.0
    gap: float = 0.0
    error: float = 0.0


@dataclass(eq=False)
class Outcome:
    """A network of the original's shape whose readers have zeros where units can go.

    :param network: a copy.
    :param kept: which units stay.
    :param fits: layer → what has become of it.
    :param notes: what is not as asked.
    """

    network: nn.Module
    kept: dict[Units, Tensor]
    fits: dict[str, LayerFit]
    notes: list[str]


class Chain:
    """Reconstructs the layers of one network from one set of data.

    :param original: in evaluation mode while it is used; left as it is.
    :param loader: yields x, or ``(x, y)``.
    :param structure: from :func:`~pyrosparse.reconstruction.units.find_units`.
    :param chaining: see :class:`Chaining`.
    :param debias: whether kept columns get the least-squares fit in place of the shrunken one.
    :param solver: see :class:`~pyrosparse.reconstruction.path.Solver`.
    :param tol: relative duality gap.
    """

    def __init__(
        self,
        original: nn.Module,
        loader: Inputs,
        structure: Structure,
        *,
        chaining: Chaining,
        debias: bool,
        solver: Solver,
        tol: float,
    ) -> None:
        self.original, self.loader, self.structure = original, loader, structure
        self.chaining, self.debias, self.solver, self.tol = chaining, debias, solver, tol
        self.gives = {layer: u for u in structure.units for layer in u.producers}
        self.reads = {layer: u for u in structure.units for layer in u.consumers}
        self._joint: dict[str, Moments] = {}

    def run(self, goals: Mapping[Units, Goal], *, solver: Solver | None = None) -> Outcome:
        """Reconstruct every layer that has a goal, by another solver if one is given."""
        outcome = Outcome(deepcopy(self.original), {}, {}, [])
        order = [u for u in self.structure.units if u in goals]
        backwards = self.chaining is Chaining.BOTTOM_UP
        for units in reversed(order) if backwards else order:
            known = outcome.kept if backwards else {}
            moments = self._moments(units, outcome)
            problem = self._problem(units, moments, known)
            solution, notes = meet(
                problem,
                goals[units],
                size=self._size(units, known),
                debias=self.debias,
                solver=solver or self.solver,
                tol=self.tol,
            )
            outcome.notes += [f"{units}: {note}" for note in notes]
            for layer, block, m in zip(units.consumers, problem.blocks, solution.M, strict=True):
                _put(outcome.network.get_submodule(layer), m, self._rows(layer, known), moments[layer])
                error = Problem([block], problem.omega).error((m,))
                outcome.fits[layer] = LayerFit(solution.lam, problem.lam_max, solution.gap, error)
            outcome.notes += [_few(layer, m) for layer, m in moments.items() if m.count <= m.rank_bound]
            outcome.kept[units] = solution.kept
        if self.chaining is Chaining.TOP_DOWN and outcome.fits:
            # what other layers read has changed, and nobody has looked at what they make of it
            first = next(i for i, layer in enumerate(self.structure.layers) if layer in outcome.fits)
            for layer in self.structure.layers[first:]:
                outcome.fits.setdefault(layer, LayerFit(error=math.nan))
        return outcome

    def run_within(self, kib: float) -> Outcome:
        """Reconstruct all layers at the same λ/λ_max, the smallest one found at which the network is within a size."""
        movable = [u for u in self.structure.units if not u.pinned]

        def at(ratio: float) -> Outcome:
            return self.run(dict.fromkeys(movable, Goal(Aim.LAM_RATIO, ratio)), solver=Solver.NEWTON)

        found = search(at, lambda outcome: self.bytes_with(outcome.kept) <= 1024 * kib, smallest=True)
        if found is None:
            smallest = self.bytes_with(at(1.0).kept) / 1024
            raise PruneError(f"{kib:g} KiB are out of reach: with one unit a layer it is {smallest:.3g} KiB")
        return found

    def refit(self, outcome: Outcome) -> None:
        """Fit each layer anew from the input on, in place: least squares from what it reads now to what it gave.

        A layer that reads all that it did, as it was, gets its own weights back, whatever a penalty made of them.
        """
        changed = False
        for layer in self.structure.layers:
            units, module = self.reads[layer], outcome.network.get_submodule(layer)
            kept = outcome.kept.get(units, torch.ones(units.count, dtype=torch.bool, device=self._device))
            before = outcome.fits.get(layer, LayerFit())
            if not changed and bool(kept.all()):
                _restore(module, self.original.get_submodule(layer))
                outcome.fits[layer] = replace(before, error=0.0)
                continue
            if getattr(module, "groups", 1) != 1:
                outcome.fits[layer] = replace(before, error=math.nan)
                continue
            if changed or self.chaining is Chaining.TOP_DOWN:
                moments = joint_moments(self.original, outcome.network, [layer], self.loader)[layer]
            else:
                moments = self._original(layer)
            problem = self._problem(units, {layer: moments}, outcome.kept, only=layer)
            M = problem.least_squares(kept)
            _put(module, M[0], self._rows(layer, outcome.kept), moments)
            outcome.fits[layer] = replace(before, error=problem.error(M))
            changed = True

    def bytes_with(self, kept: Mapping[Units, Tensor]) -> float:
        """Float32 bytes of the network with some units gone."""
        total = self._other_bytes
        for units in self.structure.units:
            inputs = int(kept[units].sum()) if units in kept else units.count
            for layer, spread in units.consumers.items():
                total += self._layer_bytes(layer, units, spread, inputs, kept)
            for norm, spread in units.norms.items():
                total += 4.0 * inputs * spread * _numbers_a_channel(self.original.get_submodule(norm))
        return total

    @property
    def _device(self) -> torch.device:
        return next(self.original.parameters()).device

    @cached_property
    def _other_bytes(self) -> float:
        """Bytes of what no unit belongs to."""
        parts = self.structure.layers + [norm for u in self.structure.units for norm in u.norms]
        return network_bytes(self.original) - sum(network_bytes(self.original.get_submodule(p)) for p in parts)

    @cached_property
    def _original_moments(self) -> dict[str, tuple[Moments, ...]]:
        """Inputs of every layer that can be reconstructed, in the original network, from one pass."""
        layers = [layer for u in self.structure.units if not u.pinned for layer in u.consumers]
        return input_moments(self.original, layers, self.loader)

    def _moments(self, units: Units, outcome: Outcome) -> dict[str, Moments]:
        layers = list(units.consumers)
        if self.chaining is Chaining.TOP_DOWN:
            return joint_moments(self.original, outcome.network, layers, self.loader)
        return {layer: self._original(layer) for layer in layers}

    def _original(self, layer: str) -> Moments:
        """Inputs and outputs of a layer in the original network."""
        if layer not in self._joint:
            (moments,) = self._original_moments[layer]
            self._joint[layer] = moments.through(self.original.get_submodule(layer))
        return self._joint[layer]

    def _problem(
        self, units: Units, moments: Mapping[str, Moments], kept: Mapping[Units, Tensor], *, only: str | None = None
    ) -> Problem:
        """The group lasso of all readers of some units, or of one; several weigh by their relative errors."""
        blocks = []
        readers = {only: units.consumers[only]} if only else units.consumers
        for layer, spread in readers.items():
            m, rows = moments[layer], self._rows(layer, kept)
            scale = 1.0 if len(readers) == 1 else 1 / m.variance_y[rows].sum().clamp(min=1e-300)
            S = m.S[rows] * scale
            c = m.variance_y[rows].sum() * scale
            group = column_groups(self.original.get_submodule(layer), spread)
            blocks.append(Block(m.R * scale, S, c, group))
        return Problem(blocks, blocks[0].R.new_ones(units.count))

    def _rows(self, layer: str, kept: Mapping[Units, Tensor]) -> Tensor:
        """Which outputs of a layer are wanted: those that are still read, where that is known."""
        units, weight = self.gives.get(layer), self.original.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        if units is not None and units in kept:
            return kept[units].nonzero().flatten()
        return torch.arange(len(weight), device=weight.device)

    def _size(self, units: Units, known: Mapping[Units, Tensor]) -> Callable[[Tensor], float]:
        """Bytes of the largest reader, with those of its outputs that are known to be read."""

        def size(kept: Tensor) -> float:
            inputs = int(kept.sum())
            return max(self._layer_bytes(n, units, s, inputs, known) for n, s in units.consumers.items())

        return size

    def _layer_bytes(self, layer: str, units: Units, spread: int, inputs: int, kept: Mapping[Units, Tensor]) -> float:
        module = self.original.get_submodule(layer)
        features = getattr(module, "original_features", units.count) if units.of_input else 0
        return layer_bytes(module, len(self._rows(layer, kept)), inputs, spread, features=features)


def _few(layer: str, moments: Moments) -> str:
    return (
        f"{layer}: {moments.count} rows of data for {moments.rank_bound} columns that vary: an error measured on them "
        "says nothing of other data; give more examples"
    )


@torch.no_grad()
def _put(module: nn.Module, M: Tensor, rows: Tensor, moments: Moments) -> None:
    """Give a layer the map M for some of its outputs, and the bias E[Y] − M E[X] that makes the means right."""
    assert isinstance(module.weight, Tensor)
    bias = moments.mean_y[rows] - M @ moments.mean_x
    if module.bias is None:
        zeros = module.weight.new_zeros(module.weight.shape[0])
        module.bias = nn.Parameter(zeros, requires_grad=module.weight.requires_grad)
    assert isinstance(module.bias, Tensor)
    module.weight[rows] = M.reshape(len(rows), *module.weight.shape[1:]).to(module.weight)
    module.bias[rows] = bias.to(module.bias)


def _numbers_a_channel(norm: nn.Module) -> int:
    return sum(isinstance(getattr(norm, name, None), Tensor) for name in UNIT_TENSORS)


@torch.no_grad()
def _restore(module: nn.Module, original: nn.Module) -> None:
    """Give a layer the weight and the bias that it had."""
    assert isinstance(module.weight, Tensor) and isinstance(original.weight, Tensor)
    module.weight.copy_(original.weight)
    if original.bias is None:
        module.bias = None
    elif isinstance(module.bias, Tensor) and isinstance(original.bias, Tensor):
        module.bias.copy_(original.bias)
