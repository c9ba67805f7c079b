"""Live shrinking: dead units leave network, guide and optimiser while training goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from pyrosparse.errors import PruneError
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family
from pyrosparse.layers import everything, weight_name
from pyrosparse.model import SparseModel
from pyrosparse.pruning.graph import Links, Units, find_links
from pyrosparse.pruning.masks import masked_network
from pyrosparse.pruning.proof import proved, reference_input
from pyrosparse.pruning.removal import ColumnCut, Removal, UnitCut, plan_removal
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
            model = self.model
            self._links = find_links(
                model.network, self._layers(), model.input_shape, complex_input=model.complex_input
            )
        return self._links

    def step(self, *, undecided: Collection[str] = ()) -> Removal:
        """Cut what has been dead twice; returns the plan that was carried out (falsy when nothing went).

        :param undecided: sites whose weights all count as alive for now.
        """
        links = self.links
        families = self._families()
        weights = {layer: self.model.network.get_parameter(weight_name(layer)).detach() for layer in self._layers()}
        masks = {layer: everything(self.model.network.get_submodule(layer)) for layer in weights}
        masks |= {la: f.keep(self.threshold) for la, f in families.items() if f.site not in undecided}
        weights |= {layer: family.kept_mean(masks[layer]) for layer, family in families.items()}
        wanted = plan_removal(self.model.network, links, masks, weights)
        cuttable, leavable = self._dead_twice(wanted, links)
        plan = plan_removal(self.model.network, links, masks, weights, cuttable=cuttable, leavable=leavable)
        if plan:
            assert self.model.input_shape is not None  # or there would be no links
            like = next(self.model.network.parameters())
            x = reference_input(self.model.input_shape, like, complex_input=self.model.complex_input)
            alive = {site: masks[self.model.sites[site].layer] for site in self.guide.families}
            plan = proved(masked_network(self.model.network, self.guide.families, alive), plan, x)
            self.cut(plan)
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

    def _dead_twice(self, plan: Removal, links: Links) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Which units of the flow may go now, and which columns of a layer: dead in this plan and at the last check."""
        if links.flow is None:
            return None, {}
        dead_now: dict[str, Tensor] = {}

        def twice(key: str, original: Tensor, dead: Tensor) -> Tensor:
            before = self.dead.get(key, torch.empty(0, dtype=torch.int64))
            dead_now[key] = torch.cat([dead_now.get(key, before[:0]), original[dead.cpu()]])
            return (dead.cpu() & torch.isin(original, before)).to(dead.device)

        stay = plan.staying if plan else torch.ones_like(links.flow.of_input)
        cuttable = torch.zeros_like(stay)
        for units in links.links:
            key = units.producers[0] if units.producers else f"input of {next(iter(units.consumers))}"
            cuttable[units.ids] = twice(key, self.original(units), ~stay[units.ids])
        leavable = {}
        for layer in links.flow.choosers:
            staying = stay[links.flow.columns(layer)]  # the others go with all their columns
            unread = staying & ~plan.columns(layer) if plan else ~staying
            leavable[layer] = twice(f"columns of {layer}", self.model.kept[layer][1], unread)
        self.dead = {key: dead for key, dead in dead_now.items() if len(dead)}
        return cuttable, leavable

    def original(self, units: Units) -> Tensor:
        """Original indices of units, in the layer that gives them or in the one that reads these features."""
        layer, side = (units.producers[0], 0) if units.producers else (next(iter(units.consumers)), 1)
        flow = self.links.flow
        assert flow is not None
        place = flow.columns(layer) if side else flow.gives[layer]
        return self.model.kept[layer][side][torch.isin(place, units.ids).cpu()]

    def cut(self, plan: Removal) -> None:
        """Carry out a plan, and write down which of the original's units are left."""
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
        self._links = None


def cut_to(model: SparseModel, guide: AutoSparse, kept: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Cut a model and guide down to units that are known, without folding: for resuming.

    :param kept: layer → (outputs, inputs) that stay, in the original's indices, as ``model.kept`` has them.
    :raises PruneError: if the model has already lost some of them.
    """
    shrinker = Shrinker(model, guide)
    links = shrinker.links
    for layer, sides in kept.items():
        if not all(bool(torch.isin(want, now).all()) for want, now in zip(sides, model.kept[layer], strict=True)):
            raise PruneError(f"{layer}: the model has lost units that are asked for: make model and guide anew")
    plan = Removal(links.flow)
    if links.flow is None:
        return
    device = links.flow.of_input.device
    for units in links.links:
        layer, side = (units.producers[0], 0) if units.producers else (next(iter(units.consumers)), 1)
        keep = torch.isin(shrinker.original(units), kept[layer][side])
        if not bool(keep.all()):
            plan.cuts.append(UnitCut(units, keep.to(device)))
    for layer in links.flow.choosers:
        read = torch.isin(model.kept[layer][1], kept[layer][1]).to(device)
        if not torch.equal(read, plan.columns(layer)):
            plan.cuts.append(ColumnCut(layer, read))
    shrinker.cut(plan)
