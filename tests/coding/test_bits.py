"""Bits of a layer: the integers that its posterior can tell apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse.coding import precision_bits
from pyrosparse.likelihoods import Categorical


def pruned(sigma: float, largest: float) -> ps.Pruned:
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    with torch.no_grad():
        network.weight.uniform_(0.5 * largest, 0.9 * largest)
        network.weight[0, 0] = -largest
    model = ps.SparseModel(network, ps.priors.LogUniform(), Categorical(num_data=10))
    guide = ps.guides.AutoSparse(model, log_var=2.0 * math.log(sigma))
    return ps.prune(model, guide, threshold=10.0, example=torch.zeros(1, 4))


@pytest.mark.parametrize(("sigma", "largest", "bits"), [(0.5, 1.0, 3), (0.25, 1.0, 4), (0.125, 1.0, 5), (1.0, 7.0, 4)])
def test_bits_are_those_of_the_signed_integers(sigma: float, largest: float, bits: int) -> None:
    """From −m to m: 2m + 1 values, so 5 for m = 2, 9 for 4, 17 for 8, 15 for 7."""
    (layer,) = precision_bits(pruned(sigma, largest))
    assert (layer.site, layer.weights, layer.each, layer.bits) == ("weight", 12, bits, 12 * bits)


def test_a_coarser_step_needs_fewer() -> None:
    small = pruned(0.125, 1.0)
    assert [precision_bits(small, c=c)[0].each for c in (0.5, 1.0, 2.0, 4.0)] == [6, 5, 4, 3]


def test_without_a_deviation_there_is_no_precision() -> None:
    small = pruned(0.125, 1.0)
    small.sigma.clear()
    assert precision_bits(small)[0].each == 32
