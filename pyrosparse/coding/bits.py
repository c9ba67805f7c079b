"""The bit-precision estimate of a pruned network: what the papers on Bayesian compression quote as "bits"."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyrosparse.coding.precision import layer_steps
from pyrosparse.pruning.pruned import Pruned

__all__ = ["LayerBits", "precision_bits"]


@dataclass(frozen=True)
class LayerBits:
    """Precision of one layer.

    :param site: name of the weight.
    :param weights: weights of the smaller layer, zeros included.
    :param each: bits of every weight; 32, those of a float, where there is no posterior deviation or one of no use.
    """

    site: str
    weights: int
    each: int

    @property
    def bits(self) -> int:
        """Bits of the layer."""
        return self.each * self.weights


def precision_bits(pruned: Pruned, *, c: float = 1.0) -> list[LayerBits]:
    r"""Bits that the weights of each layer need at the precision of its posterior.

    With the step :math:`\Delta = c\,\mathrm{median}(\sigma)` every weight of the smaller dense layer is one of the
    integers from :math:`-m` to :math:`m`, :math:`m = \mathrm{round}(\max|w|/\Delta)`, which takes
    :math:`\lceil \log_2(2m+1) \rceil` bits. An estimate after Louizos, Ullrich and Welling (2017), section 3, from
    the standard deviation and not the variance; what a network really takes is the size of its file.

    :param pruned: with posterior standard deviations.
    :param c: step in units of each layer's median posterior standard deviation.
    """
    state = {name: value.detach().cpu() for name, value in pruned.network.state_dict().items()}
    steps = layer_steps(state, pruned.sigma, c)
    found = []
    for site in pruned.masks:
        weight = state[site]
        levels = round(float(weight.abs().max()) / steps[site]) if site in steps else None
        each = 32 if levels is None else min(32, max(1, math.ceil(math.log2(2 * levels + 1))))
        found.append(LayerBits(site, weight.numel(), each))
    return found
