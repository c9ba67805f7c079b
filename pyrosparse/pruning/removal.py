"""Which units a network can do without: a plan that prints itself before anything is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pyrosparse.layers import LINEAR_LAYERS, axes, parts_of
from pyrosparse.nn import Selecting
from pyrosparse.nn.complex_forms import as_complex
from pyrosparse.pruning.flow import Flow
from pyrosparse.pruning.graph import Links, Units
from pyrosparse.text import table

__all__ = ["ColumnCut", "Removal", "UnitCut", "plan_removal"]


@dataclass(eq=False)
class UnitCut:
    """Units leave every layer that gives or reads them.

    :param units: which group of units.
    :param keep: which of them stay, a mask.
    :param folds: layer → what is added to its bias for those that were constant, complex for a complex layer.
    """

    units: Units
    keep: Tensor
    folds: dict[str, Tensor] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.units)


@dataclass(eq=False)
class ColumnCut:
    """A linear layer leaves single features unread, whose units stay for others or for their other features.

    :param layer: its name.
    :param keep: which of its columns are read, a mask.
    """

    layer: str
    keep: Tensor

    def __str__(self) -> str:
        return f"columns of {self.layer}"


@dataclass(eq=False)
class Removal:
    """A plan: what is cut, and what was found on the way.

    :param flow: which unit is where; None for a plan without cuts.
    :param cuts: units that go, and columns that are no longer read.
    :param notes: units that had to stay although they are dead, with the reason.
    """

    flow: Flow | None = None
    cuts: list[UnitCut | ColumnCut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cuts)

    def __str__(self) -> str:
        rows = [
            (str(c), str(c.keep.numel()), str(int(c.keep.sum())), "yes" if getattr(c, "folds", None) else "no")
            for c in self.cuts
        ]
        return "\n".join([table(("units of", "now", "after", "constants folded"), rows), *self.notes])

    @property
    def staying(self) -> Tensor:
        """Which units of the flow stay."""
        assert self.flow is not None
        stay = torch.ones_like(self.flow.of_input)
        for cut in self.cuts:
            if isinstance(cut, UnitCut):
                stay[cut.units.ids] = cut.keep
        return stay

    def columns(self, layer: str) -> Tensor:
        """Which input columns of a layer's weight stay."""
        assert self.flow is not None
        keep = self.staying[self.flow.columns(layer)]
        for cut in self.cuts:
            if isinstance(cut, ColumnCut) and cut.layer == layer:
                keep = keep & cut.keep
        return keep


def plan_removal(
    network: nn.Module,
    links: Links,
    masks: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    *,
    cuttable: Tensor | None = None,
    leavable: Mapping[str, Tensor] | None = None,
) -> Removal:
    """Find units that nothing reads, and units that read nothing.

    A unit that no layer reads with a live weight is dropped. A unit with no live incoming weight, in all the layers
    whose outputs are added to it, is a constant: what it gives is folded into the biases of the layers that read it,
    then it is dropped. Both go on until nothing changes, since one removal may cause another. At least one unit of each
    group stays.

    :param network: biases are read from it; it is not changed.
    :param links: from :func:`~pyrosparse.pruning.graph.find_links`.
    :param masks: layer → boolean mask of its weights; every layer of a link has one.
    :param weights: layer → parameter, 0 where the mask is False; pairs for complex layers.
    :param cuttable: units of the flow that may go, a mask; all when None.
    :param leavable: layer → columns that it may leave unread although their units stay, a mask; all when None.
    """
    if links.flow is None:
        return Removal()
    planner = _Planner(network, links.flow, links.links, masks, weights)
    while planner.step(cuttable):
        pass
    plan = Removal(links.flow, planner.cuts())
    for layer in sorted(links.flow.choosers & set(masks), key=list(masks).index):
        read = planner.read_columns(layer, plan, None if leavable is None else leavable.get(layer))
        if read is not None:
            plan.cuts.append(ColumnCut(layer, read))
    for units in links.links:
        if count := int(planner.stuck[units.ids].sum()):
            plan.notes.append(
                f"{units}: {count} constant units stay, since zero padding or a missing bias keeps them "
                "from being folded"
            )
    return plan


class _Planner:
    """What is alive, round by round."""

    def __init__(
        self,
        network: nn.Module,
        flow: Flow,
        links: list[Units],
        masks: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
    ) -> None:
        self.network, self.flow, self.links, self.weights = network, flow, links, weights
        self.reads = {layer: flow.columns(layer) for layer in flow.reads}
        self.alive = {layer: mask.clone() for layer, mask in masks.items()}
        self.stay = torch.ones_like(flow.of_input)
        self.stuck = torch.zeros_like(self.stay)
        # units that no group has, or that are given by no layer, are never constant
        self.linked, self.given = torch.zeros_like(self.stay), torch.zeros_like(self.stay)
        for units in links:
            self.linked[units.ids] = True
            self.given[units.ids] = bool(units.producers)
        # what each group folds into each bias
        self.folds: list[dict[str, Tensor]] = [{} for _ in links]

    def step(self, cuttable: Tensor | None) -> bool:
        """One round; whether it changed anything."""
        read = self._live(self.reads, 1) | ~self.linked
        stay = self.stay & read
        unfed = stay & self.given & ~self._live(self.flow.gives, 0)
        seen = self._seen() if bool(unfed.any()) else {}
        constant = unfed & self._foldable(seen) if seen else unfed
        self.stuck = unfed & ~constant
        stay = stay & ~constant
        if cuttable is not None:
            stay = stay | (self.stay & ~cuttable)
            constant = constant & cuttable
        for units in self.links:
            if not bool(stay[units.ids].any()):
                best = units.ids[(read[units.ids].long() * 2 + self.stay[units.ids].long()).argmax()]
                stay[best], constant[best] = True, False
        if torch.equal(stay, self.stay):
            return False
        if bool(constant.any()):
            self._fold(constant, seen)
        self._kill(~stay)
        self.stay = stay
        return True

    def cuts(self) -> list[UnitCut | ColumnCut]:
        """Groups that lose units."""
        return [
            UnitCut(units, self.stay[units.ids], folds)
            for units, folds in zip(self.links, self.folds, strict=True)
            if not bool(self.stay[units.ids].all())
        ]

    def read_columns(self, layer: str, plan: Removal, leavable: Tensor | None) -> Tensor | None:
        """Which columns a linear layer has to read; None where those of units that stay are all read."""
        staying = plan.columns(layer)
        read = self._along(layer, 1)
        if leavable is not None:
            read = read | ~leavable
        if not bool((read & staying).any()):  # at least one column stays
            return None
        return None if bool((read | ~staying).all()) else read

    def _live(self, places: Mapping[str, Tensor], side: int) -> Tensor:
        """Which units have a live weight in any layer that gives them (side 0) or reads them (side 1)."""
        found = torch.zeros_like(self.stay)
        for layer, units in places.items():
            found[units[self._along(layer, side)]] = True
        return found

    def _along(self, layer: str, side: int) -> Tensor:
        """Which outputs (side 0) or input columns (side 1) of a layer have a live weight."""
        module = self.network.get_submodule(layer)
        live = self.alive[layer].movedim(axes(module)[side], 0).flatten(1).any(1)
        places = self.reads if side else self.flow.gives
        return live.repeat(len(places[layer]) // len(live))  # a grouped convolution has a kernel for several channels

    def _seen(self) -> dict[str, Tensor]:
        """What each layer's columns see where nothing feeds the units: layer → ``(columns, positions)``.

        A unit that nothing feeds gives its layer's bias, and what has been folded into it.
        """
        biases = {}
        for layer in self.flow.gives:
            module = self.network.get_submodule(layer)
            if isinstance(module.bias, Tensor):
                bias = _numbers(module, module.bias.detach())
                biases[layer] = bias + sum(folds[layer] for folds in self.folds if layer in folds)
        seen = self.flow.constants(biases)
        modules = {layer: self.network.get_submodule(layer) for layer in seen}
        return {n: x[modules[n].index] if isinstance(modules[n], Selecting) else x for n, x in seen.items()}  # type: ignore[index]

    def _foldable(self, seen: Mapping[str, Tensor]) -> Tensor:
        """Which units could be folded into the biases of all that read them if they were constant."""
        foldable = torch.ones_like(self.stay)
        for layer, units in self.reads.items():
            consumer = self.network.get_submodule(layer)
            x = seen[layer]
            fits = (x == 0).all(1)
            if consumer.bias is not None and isinstance(consumer, LINEAR_LAYERS):
                fits = torch.isfinite(x).all(1)
            elif consumer.bias is not None and not _pads(consumer):
                fits = _even(x)
            foldable[units[~fits & self._along(layer, 1)]] = False
        return foldable

    def _fold(self, constant: Tensor, seen: Mapping[str, Tensor]) -> None:
        """Add what constant units give to what is folded into the biases of those that read them."""
        for units, folds in zip(self.links, self.folds, strict=True):
            going = torch.zeros_like(constant)
            going[units.ids] = constant[units.ids]
            for layer in units.consumers if bool(going.any()) else ():
                consumer = self.network.get_submodule(layer)
                if consumer.bias is None:  # only units that give 0 are constant here
                    continue
                weight = _numbers(consumer, self.weights[layer])
                x = torch.where(going[self.reads[layer]], seen[layer][:, 0], 0.0).to(weight.dtype)
                kernel_sums = weight.movedim(axes(consumer), (0, 1)).flatten(2).sum(2) if weight.dim() > 2 else weight
                fold = kernel_sums @ x
                folds[layer] = folds[layer] + fold if layer in folds else fold

    def _kill(self, dead: Tensor) -> None:
        """Mark every weight into and out of dead units as dead."""
        for side, places in enumerate((self.flow.gives, self.reads)):
            for layer, units in places.items():
                axis = axes(self.network.get_submodule(layer))[side]
                if bool(dead[units].any()):
                    self.alive[layer].movedim(axis, 0)[dead[units]] = False


def _numbers(module: nn.Module, parameter: Tensor) -> Tensor:
    """See a parameter of a complex layer as complex numbers; that of a real one is what it is."""
    return as_complex(parameter) if parts_of(module) == 2 else parameter


def _even(x: Tensor) -> Tensor:
    """Which rows have the same number everywhere."""
    if x.is_complex():
        # products of complex numbers round differently in a vector and in what is left over at its end
        return torch.isclose(x, x[:, :1], rtol=1e-6, atol=0.0).all(1)
    return (x == x[:, :1]).all(1)


def _pads(module: nn.Module) -> bool:
    """Whether a convolution's outputs at the border read less of a constant than the others."""
    padding = module.padding
    pads = padding == "same" if isinstance(padding, str) else any(p != 0 for p in padding)  # type: ignore[union-attr]
    return (pads and module.padding_mode == "zeros") or axes(module) == (1, 0)
