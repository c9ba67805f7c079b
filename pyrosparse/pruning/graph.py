"""Where units can be removed: groups of units, the layers that give them and the layers that read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pyrosparse.pruning.flow import OUTPUTS, Flow, find_flow

__all__ = ["Links", "Units", "find_links", "units_of"]


@dataclass(eq=False)
class Units:
    """Units that the same layers give and the same layers read.

    :param ids: their numbers in the :class:`~pyrosparse.pruning.flow.Flow`, ascending.
    :param producers: layers whose outputs they are; several where their outputs are added. None for features of the
        network's input.
    :param consumers: layers that read them, and how many columns (linear) or channels a unit is there.
    :param norms: modules with parameters for each of them that they pass (normalisations, above all), likewise.
    :param pinned: why they must all stay; empty when they need not.
    """

    ids: Tensor
    producers: list[str] = field(default_factory=list)
    consumers: dict[str, int] = field(default_factory=dict)
    norms: dict[str, int] = field(default_factory=dict)
    pinned: str = ""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def of_input(self) -> bool:
        """Whether they are features of the network's input."""
        return not self.producers

    def __str__(self) -> str:
        readers = (layer if spread == 1 else f"{layer} (×{spread})" for layer, spread in self.consumers.items())
        return f"{' + '.join(self.producers) or 'input'} → {', '.join(readers) or 'output'}"


@dataclass
class Links:
    """Every place where units can be removed, and why others cannot.

    :param links: in the order in which the data meet their first readers.
    :param notes: one line for each layer whose units stay, with the reason.
    :param flow: which unit is where; None when the network could not be followed at all.
    """

    links: list[Units] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    flow: Flow | None = None

    def __str__(self) -> str:
        return "\n".join([*(str(link) for link in self.links), *self.notes])


def find_links(
    network: nn.Module, layers: Iterable[str], input_shape: torch.Size | None, *, complex_input: bool = False
) -> Links:
    """Follow the units of every layer to the layers that read them.

    A unit can be removed where all that reads it is known: through operations that treat every unit alone (activations,
    pooling, batch normalisation, dropout, flattening), sums of branches, whose units go together, and concatenations.
    What is not understood is named in the notes.

    :param network: any module; one that ``torch.fx`` cannot trace gets no links and one note.
    :param layers: names of the layers whose weights are pruned: only their units are considered.
    :param input_shape: shape of one example.
    :param complex_input: whether the network takes complex tensors.
    """
    found = Links()
    if input_shape is None:
        found.notes.append("the shape of the input is not known (the model has not been run): no unit is removed")
        return found
    try:
        flow = find_flow(network, input_shape, set(layers), complex_input=complex_input)
    except Exception as error:  # a user's forward may raise anything under tracing
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        found.notes.append(f"the network cannot be traced ({type(error).__name__}: {reason}): no unit is removed")
        return found
    found.flow = flow
    for units in units_of(flow):
        if units.consumers and not units.pinned:
            found.links.append(units)
        elif units.pinned and (units.consumers or units.pinned != OUTPUTS):
            whose = [layer for layer in units.producers if layer not in flow.notes]
            found.notes += [f"{layer}: {units.pinned}; its units stay" for layer in whose]
    found.notes += [f"{layer}: {reason}; its units stay" for layer, reason in flow.notes.items()]
    return found


def units_of(flow: Flow) -> list[Units]:
    """Sort the units of a network by the layers that give and read them, in the order of their first readers."""
    places = {"gives": flow.gives, "reads": flow.reads, "norms": flow.norms}
    slots = [(kind, name, units) for kind, place in places.items() for name, units in place.items()]
    # one row a unit: how often it is in each place, whether it stays, and whether it is the input's
    counts = [torch.bincount(units, minlength=len(flow.why)) for _, _, units in slots]
    rows, which = torch.unique(torch.stack([*counts, flow.why, flow.of_input.long()], 1), dim=0, return_inverse=True)
    groups = []
    for row, values in enumerate(rows.tolist()):
        units = Units((which == row).nonzero().flatten())
        for (kind, name, _), count in zip(slots, values, strict=False):
            if count and kind == "gives":
                units.producers.append(name)
            elif count:
                (units.consumers if kind == "reads" else units.norms)[name] = count
        *_, why, of_input = values
        units.pinned = flow.reasons[why] if why >= 0 else ""
        if units.producers or (units.consumers and of_input):
            groups.append(units)
    order = list(flow.reads)
    return sorted(groups, key=lambda u: (min((order.index(c) for c in u.consumers), default=len(order)), u.ids[0]))
