"""Live shrinking: dead units leave network, guide and optimiser while training goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyrosparse.errors import PruneError
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family
from pyrosparse.layers import weight_name
from pyrosparse.model import SparseModel
from pyrosparse.pruning.graph import Links, UnitLink, find_links
from pyrosparse.pruning.masks import masked_network
from pyrosparse.pruning.proof import proved, reference_input
from pyrosparse.pruning.removal import LinkCut, Removal, plan_removal
from pyrosparse.pruning.surgery import Cutter, cut_network

__all__ = ["Shrinker", "cut_to"]


class Shrinker:
    """Cuts units whose every weight is dead out of a model, its guide and its optimiser, between epochs.

    A unit leaves when it was dead at two checks in a row (hysteresis), so that one noisy moment costs
    nothing. What a constant unit gave is folded into the next bias, and a cut that would change the outputs of
    the posterior means is not made. The indices that stay are kept in ``model.kept``, so that summaries, masks
    and files speak of the original network.

    :param model: the model; its layers get smaller in place.
    :param guide: its guide; likewise.
    :param optimizer: its moments are cut along.
    :param threshold: largest log α that counts as alive.
    """

    def __init__(
        self,
        model: SparseModel,
        guide: AutoSparse,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        threshold: float = DEFAULT_THRESHOLD,
    ) -> None:
        self.model = model
        self.guide = guide
        self.cutter = Cutter(optimizer)
        self.threshold = threshold
        # layer (or "input of layer") -> original indices of units that were dead at the last check
        self.dead: dict[str, Tensor] = {}
        # traced anew only after something was cut
        self._links: Links | None = None

    @property
    def links(self) -> Links:
        """Where units can be cut, and why others cannot."""
        if self._links is None:
            self._links = find_links(self.model.network, self._layers(), self.model.input_shape)
        return self._links

    def step(self) -> Removal:
        """Cut what has been dead twice; returns the plan that was carried out (falsy when nothing went)."""
        links = self.links
        families = self._families()
        weights = {layer: self.model.network.get_parameter(weight_name(layer)).detach() for layer in self._layers()}
        masks = {layer: torch.ones_like(weight, dtype=torch.bool) for layer, weight in weights.items()}
        masks |= {layer: family.keep(self.threshold) for layer, family in families.items()}
        weights |= {layer: family.mean() * masks[layer] for layer, family in families.items()}
        wanted = plan_removal(self.model.network, links, masks, weights)
        allowed = self._dead_twice(wanted, links)
        plan = plan_removal(self.model.network, links, masks, weights, cuttable=allowed)
        if plan:
            assert self.model.input_shape is not None  # or there would be no links
            x = reference_input(self.model.input_shape, next(self.model.network.parameters()))
            alive = {site: masks[self.model.sites[site].layer] for site in self.guide.families}
            plan = proved(masked_network(self.model.network, self.guide.families, alive), plan, x)
            self._cut(plan)
            self._links = None
        return plan

    def state_dict(self) -> dict[str, Tensor]:
        """Units that were dead at the last check, by layer, in the original's indices."""
        return dict(self.dead)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.dead = dict(state)

    def _layers(self) -> list[str]:
        return list(self.model.kept)

    def _families(self) -> dict[str, Family]:
        return {self.model.sites[name].layer: family for name, family in self.guide.families.items()}

    def _dead_twice(self, plan: Removal, links: Links) -> dict[str, Tensor]:
        """Which units may go now: they are dead in this plan and were at the last check."""
        allowed: dict[str, Tensor] = {}
        dead_now: dict[str, Tensor] = {}

        def look(key: str, original: Tensor, stay: Tensor | None) -> None:
            dead = torch.full((len(original),), stay is not None)
            if stay is not None:
                dead[stay.cpu()] = False
            before = self.dead.get(key, torch.empty(0, dtype=torch.int64))
            allowed[key] = (dead & torch.isin(original, before)).to(_device(self.model))
            dead_now[key] = original[dead]

        cuts = {id(cut.link): cut for cut in plan.cuts}
        for link in links.links:
            cut = cuts.get(id(link))
            look(_key(link), self._original(link), None if cut is None else cut.keep)
            if link.selects:
                columns = None if cut is None else cut.columns
                look(f"columns of {link.consumer}", self.model.kept[link.consumer][1], columns)
        self.dead = dead_now
        return allowed

    def _original(self, link: UnitLink) -> Tensor:
        """Original indices of a link's units."""
        if link.producer is not None:
            return self.model.kept[link.producer][0]
        return self.model.kept[link.consumer][1]

    def _cut(self, plan: Removal) -> None:
        families = self._families()

        def posterior(layer: str) -> Mapping[str, Tensor]:
            return families[layer].weight_tensors() if layer in families else {}

        taken = cut_network(self.model.network, plan, cutter=self.cutter, posterior=posterior)
        for layer, (outs, ins) in taken.items():
            old_outs, old_ins = self.model.kept[layer]
            self.model.kept[layer] = (
                old_outs if outs is None else old_outs[outs.cpu()],
                old_ins if ins is None else old_ins[ins.cpu()],
            )


def _key(link: UnitLink) -> str:
    return link.producer or f"input of {link.consumer}"


def _device(model: SparseModel) -> torch.device:
    return next(model.network.parameters()).device


def cut_to(model: SparseModel, guide: AutoSparse, kept: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Cut a model and guide down to units that are known, without folding: for resuming.

    :param kept: layer → (outputs, inputs) that stay, in the original's indices, as ``model.kept`` has them.
    :raises PruneError: if the model has already lost some of them.
    """
    links = find_links(model.network, model.kept, model.input_shape)
    plan = Removal()
    for link in links.links:
        layer, side = (link.consumer, 1) if link.producer is None else (link.producer, 0)
        keep, now = kept[layer][side], model.kept[layer][side]
        if not bool(torch.isin(keep, now).all()):
            raise PruneError(f"{link}: the model has lost units that are asked for: make model and guide anew")
        read = torch.isin(model.kept[link.consumer][1], kept[link.consumer][1]) if link.selects else None
        units = torch.searchsorted(now, keep).to(_device(model))
        if len(keep) < len(now) or (read is not None and not bool(read.all())):
            plan.cuts.append(LinkCut(link, units, len(now), read=None if read is None else read.to(_device(model))))
    Shrinker(model, guide)._cut(plan)
