"""Units of rounding for networks that have no posterior."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.errors import NetworkError
from pyrosparse.nn import ComplexLinear
from pyrosparse.pruning import as_pruned


def test_an_eighth_of_the_root_mean_square() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    network[0].weight.data = torch.tensor([[3.0, 0, 0, 4], [0, 0, 0, 0], [-3, 4, 0, 0]])
    small = as_pruned(network, original_parameters=100)
    expected = 0.125 * (50 / 4) ** 0.5
    assert torch.equal(small.masks["0.weight"], network[0].weight != 0)
    torch.testing.assert_close(small.sigma["0.weight"], expected * (network[0].weight != 0))
    assert small.original_parameters == 100
    assert small.nonzero == 4 + 6
    rounded = ps.coding.quantise(small, 1.0).network[0].weight
    assert (rounded - network[0].weight).abs().max() <= 0.51 * expected
    assert torch.equal(rounded == 0, network[0].weight == 0)


def test_a_layer_that_was_made_from_one_with_a_posterior_keeps_its_precision() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model = ps.SparseModel(
        network, prior=ps.priors.LogUniform(), likelihood=ps.likelihoods.Categorical(num_data=9), exclude=["2"]
    )
    before = ps.prune(model, guides.AutoSparse(model, log_var=-6.0), threshold=50.0)
    small = as_pruned(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), original_parameters=9, before=before)
    assert (small.sigma["0.weight"] == before.sigma["0.weight"].median()).all()
    rms = small.network[2].weight.square().mean().sqrt()
    torch.testing.assert_close(small.sigma["2.weight"], (rms / 8).expand(2, 2))
    assert small.likelihood is before.likelihood


def test_complex_weights_and_networks_without_weights() -> None:
    small = as_pruned(ComplexLinear(3, 2), original_parameters=16)
    assert small.masks["weight"].shape == (2, 3) and small.sigma["weight"].shape == (2, 3, 2)
    assert ps.coding.encoded_size(small, c=1.0) > 0
    with pytest.raises(NetworkError, match="nothing to round"):
        as_pruned(nn.BatchNorm1d(3), original_parameters=3)
