"""Which weights a threshold keeps, and a network that has only these."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.guides.family import Family

__all__ = ["count_kept", "keep_masks", "masked_network"]


def keep_masks(families: Mapping[str, Family], threshold: float, notes: list[str] | None = None) -> dict[str, Tensor]:
    """Mask of each site at a threshold; a layer that would be empty keeps its most relevant weight.

    :param families: posterior of each site.
    :param threshold: largest log α that is kept.
    :param notes: gets a line for each layer that would have been empty, which is also warned of; without it
        nothing is said.
    """
    masks: dict[str, Tensor] = {}
    for site, family in families.items():
        mask = family.keep(threshold)
        if not bool(mask.any()):
            relevance = family.relevance()
            mask = torch.zeros_like(mask)
            mask[torch.unravel_index(relevance.flatten().argmax(), mask.shape)] = True
            if notes is not None:
                note = (
                    f"{site}: no weight has {family.statistic} ≤ {threshold:.3g}; the most relevant one "
                    f"({family.statistic} = {-float(relevance.max()):.3g}) is kept, unless the units around it go"
                )
                notes.append(note)
                warnings.warn(note, PyrosparseWarning, stacklevel=3)
        masks[site] = mask
    return masks


def count_kept(families: Mapping[str, Family], masks: Mapping[str, Tensor]) -> int:
    """Weights that masks keep; a complex one counts as two numbers."""
    return sum(families[site].parts * int(mask.sum()) for site, mask in masks.items())


def masked_network(network: nn.Module, families: Mapping[str, Family], masks: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network, with the posterior means that the masks keep and 0 elsewhere, in evaluation mode.

    :param network: has a parameter for each site; left as it is.
    :param families: posterior of each site.
    :param masks: mask of each site, shape of the weights.
    """
    copy = deepcopy(network).eval()
    with torch.no_grad():
        for site, family in families.items():
            parameter = copy.get_parameter(site)
            parameter.copy_(family.kept_mean(masks[site]))
            # a SparseModel has switched it off; what the user has frozen stays frozen
            parameter.requires_grad_(True)
    return copy
