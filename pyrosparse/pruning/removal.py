"""Which units a network can do without: a plan that prints itself before anything is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pyrosparse.layers import axes
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.graph import Links, UnitLink
from pyrosparse.text import table

__all__ = ["LinkCut", "Removal", "plan_removal"]


@dataclass
class LinkCut:
    """What happens to the units of one link.

    :param link: where the units are.
    :param keep: indices of the units that stay, ascending.
    :param units: how many there were.
    :param bias: what is added to the consumer's bias for units that were constant; None for nothing.
    :param read: which of the consumer's columns are read, a mask; None for all. Behind a flattening single features
        of a unit that stays may be left unread.
    """

    link: UnitLink
    keep: Tensor
    units: int
    bias: Tensor | None = None
    read: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """Indices of the features of the units that stay: ``spread`` for each."""
        spread = self.link.spread
        return (self.keep[:, None] * spread + torch.arange(spread, device=self.keep.device)).flatten()

    @property
    def columns(self) -> Tensor:
        """Indices of the consumer's columns that stay."""
        staying = torch.isin(self.link.features(self.units).to(self.keep.device), self.features)
        return (staying if self.read is None else staying & self.read).nonzero().flatten()

    @property
    def index(self) -> Tensor:
        """Which features of the units that stay each column reads after the cut."""
        return torch.searchsorted(self.features, self.link.features(self.units).to(self.keep.device)[self.columns])


@dataclass
class Removal:
    """A plan: one cut for each link that loses units, and what was found on the way.

    :param cuts: links that lose units.
    :param notes: units that had to stay although they are dead, with the reason.
    """

    cuts: list[LinkCut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cuts)

    def __str__(self) -> str:
        rows = [(str(c.link), str(c.units), str(len(c.keep)), "yes" if c.bias is not None else "no") for c in self.cuts]
        return "\n".join([table(("units of", "now", "after", "constants folded"), rows), *self.notes])


def plan_removal(
    network: nn.Module,
    links: Links,
    masks: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    *,
    cuttable: Mapping[str, Tensor] | None = None,
) -> Removal:
    """Find units that nothing reads, and units that read nothing.

    A unit with no live outgoing weight is dropped. A unit with no live incoming weight is a constant: what it
    gives is folded into the next layer's bias, then it is dropped. Both go on until nothing changes, since one
    removal may cause another. At least one unit of each layer stays.

    :param network: biases are read from it; it is not changed.
    :param links: from :func:`~pyrosparse.pruning.graph.find_links`.
    :param masks: layer → boolean mask of its weight; every layer of a link has one.
    :param weights: layer → weight, 0 where the mask is False.
    :param cuttable: layer → boolean, units that may go (``input of LAYER`` for input features, ``columns of LAYER`` for
        single features behind a flattening); all when None.
    """
    alive = {layer: mask.clone() for layer, mask in masks.items()}
    plan = Removal(notes=[])
    keep: dict[int, Tensor] = {}
    # what has been folded into a layer's bias so far: its own units give that as well
    folds: dict[str, Tensor] = {}
    stuck: dict[int, int] = {}
    changed = True
    while changed:
        changed = False
        for i, link in enumerate(links.links):
            reads = _units_read(network, link, alive)
            current = keep.setdefault(i, torch.ones_like(reads))
            stay = reads & current
            constant = torch.zeros_like(stay)
            if link.producer is not None:
                bias = _bias(network, link.producer, reads, folds)
                unfed = stay & ~_fed(network, link.producer, alive)
                constant = unfed & _foldable(network, link, bias) if bool(unfed.any()) else unfed
                stuck[i] = int((unfed & ~constant).sum())
            stay = stay & ~constant
            allowed = None if cuttable is None else cuttable.get(link.producer or f"input of {link.consumer}")
            if allowed is not None:
                stay = stay | (current & ~allowed)
                constant = constant & allowed
            if not bool(stay.any()):
                best = int((reads.long() * 2 + current.long()).argmax())
                stay[best] = True
                constant[best] = False
            if bool((stay != current).any()):
                # without a bias to fold into, only units that give 0 are constant here
                if bool(constant.any()) and network.get_submodule(link.consumer).bias is not None:
                    fold = _fold(network, link, constant, bias, weights[link.consumer])
                    folds[link.consumer] = folds[link.consumer] + fold if link.consumer in folds else fold
                _kill(network, link, ~stay, alive)
                keep[i] = stay
                changed = True
    for i, link in enumerate(links.links):
        read = _columns_read(network, link, alive, keep[i], cuttable)
        if not bool(keep[i].all()) or read is not None:
            plan.cuts.append(
                LinkCut(link, keep[i].nonzero().flatten(), keep[i].numel(), folds.get(link.consumer), read)
            )
        if stuck.get(i):
            plan.notes.append(
                f"{link}: {stuck[i]} constant units stay, since zero padding or a missing bias keeps them "
                "from being folded"
            )
    return plan


def _axes_of(network: nn.Module, layer: str) -> tuple[int, int]:
    return axes(network.get_submodule(layer))


def _units_read(network: nn.Module, link: UnitLink, alive: Mapping[str, Tensor]) -> Tensor:
    """Which units have a live outgoing weight."""
    mask = _live_columns(network, link, alive)
    if link.index is not None:
        consumer = network.get_submodule(link.consumer)
        assert isinstance(consumer, SelectLinear)
        everything = torch.zeros(consumer.original_features, dtype=torch.bool, device=mask.device)
        everything[link.index] = mask
        mask = everything
    return mask.reshape(-1, link.spread).any(1)


def _live_columns(network: nn.Module, link: UnitLink, alive: Mapping[str, Tensor]) -> Tensor:
    """Which columns of the consumer have a live weight."""
    return alive[link.consumer].movedim(_axes_of(network, link.consumer)[1], 0).flatten(1).any(1)


def _columns_read(
    network: nn.Module, link: UnitLink, alive: Mapping[str, Tensor], keep: Tensor, cuttable: Mapping[str, Tensor] | None
) -> Tensor | None:
    """Which columns the consumer has to read, where some features of units that stay can be left unread."""
    if not link.selects:
        return None
    read = _live_columns(network, link, alive)
    if cuttable is not None:
        allowed = cuttable.get(f"columns of {link.consumer}")
        read = torch.ones_like(read) if allowed is None else read | ~allowed
    staying = keep[link.features(len(keep)).to(keep.device) // link.spread]
    if not bool((read & staying).any()):  # at least one column stays
        return None
    return None if bool((read | ~staying).all()) else read


def _fed(network: nn.Module, layer: str, alive: Mapping[str, Tensor]) -> Tensor:
    """Which units have a live incoming weight."""
    return alive[layer].movedim(_axes_of(network, layer)[0], 0).flatten(1).any(1)


def _kill(network: nn.Module, link: UnitLink, dead: Tensor, alive: dict[str, Tensor]) -> None:
    """Mark every weight into and out of dead units as dead."""
    columns = dead[link.features(len(dead)).to(dead.device) // link.spread]
    alive[link.consumer].movedim(_axes_of(network, link.consumer)[1], 0)[columns] = False
    if link.producer is not None:
        alive[link.producer].movedim(_axes_of(network, link.producer)[0], 0)[dead] = False


def _bias(network: nn.Module, layer: str, like: Tensor, folds: Mapping[str, Tensor]) -> Tensor:
    """What a layer's units give when nothing feeds them: the bias, and what has been folded into it."""
    bias = network.get_submodule(layer).bias
    if isinstance(bias, Tensor):
        return bias.detach() + folds[layer] if layer in folds else bias.detach()
    first = next(network.parameters())
    return torch.zeros(like.numel(), dtype=first.dtype, device=like.device)


def _foldable(network: nn.Module, link: UnitLink, bias: Tensor) -> Tensor:
    """Which units could be folded into the consumer's bias if they were constant."""
    consumer = network.get_submodule(link.consumer)
    seen = link.constants(bias)
    zero = (seen == 0).all(1)
    if consumer.bias is None:
        return zero
    if isinstance(consumer, nn.Linear):
        return torch.isfinite(seen).all(1)
    padded = consumer.padding_mode == "zeros" and _pads(consumer)
    transposed = axes(consumer) == (1, 0)
    return zero if padded or transposed else (seen == seen[:, :1]).all(1)


def _pads(module: nn.Module) -> bool:
    padding = module.padding
    return padding == "same" if isinstance(padding, str) else any(p != 0 for p in padding)  # type: ignore[union-attr]


def _fold(network: nn.Module, link: UnitLink, constant: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
    """What constant units contribute to the consumer's output, shape ``(outputs,)``."""
    consumer = network.get_submodule(link.consumer)
    seen = torch.where(constant[:, None], link.constants(bias), 0.0).to(weight.dtype)
    if isinstance(consumer, nn.Linear):
        return weight @ (seen.flatten() if link.index is None else seen.flatten()[link.index])
    out_axis, in_axis = axes(consumer)
    kernel_sums = weight.movedim((out_axis, in_axis), (0, 1)).flatten(2).sum(2)
    return kernel_sums @ seen[:, 0]
