"""Priors of complex weights: distributions, what they refuse, and which prior they name instead."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

import pyrosparse.nn as psnn
from pyrosparse import SparseModel
from pyrosparse import distributions as dist
from pyrosparse.errors import PriorError
from pyrosparse.likelihoods import Categorical
from pyrosparse.priors import ARD, ComplexARD, ComplexLogUniform, LogUniform, Prior

SHAPE = torch.Size([4, 3])


@pytest.mark.parametrize("prior", [ComplexLogUniform(), ComplexARD(), ComplexARD(2.0), ComplexARD(2.0, learn=True)])
def test_one_event_of_pairs(prior: Prior) -> None:
    p = prior.distribution(SHAPE)
    assert p.batch_shape == torch.Size() and p.event_shape == (*SHAPE, 2) == p.sample().shape
    q = dist.ComplexNormal(torch.randn(*SHAPE, 2), torch.randn(SHAPE)).to_event(2)
    assert float(kl_divergence(q, p).detach()) > 0


def test_kl_of_the_reference_values() -> None:
    # formulas.md at log α = 0: Ein(1) and log 2; a fixed precision in closed form
    q = dist.ComplexNormal(torch.tensor([[1.0, 0.0]]), torch.zeros(1)).to_event(1)
    one = torch.Size([1])
    assert float(kl_divergence(q, ComplexLogUniform().distribution(one))) == pytest.approx(0.7966, abs=1e-4)
    assert float(kl_divergence(q, ComplexARD().distribution(one))) == pytest.approx(math.log(2.0), abs=1e-6)
    assert float(kl_divergence(q, ComplexARD(3.0).distribution(one))) == pytest.approx(
        6.0 - 1.0 - math.log(3.0), abs=1e-5
    )
    half = float(kl_divergence(q, ComplexLogUniform(1.0).distribution(one)))
    assert half == pytest.approx(0.7966 / 2, abs=1e-4)


@pytest.mark.parametrize("rho", [0.5, math.inf, "2"])
def test_rho_out_of_range(rho: float) -> None:
    with pytest.raises(PriorError, match="rho is"):
        ComplexLogUniform(rho)


@pytest.mark.parametrize(
    ("prior", "layer", "other"),
    [
        (LogUniform(), psnn.ComplexLinear(4, 2), "ComplexLogUniform"),
        (ARD(), psnn.ComplexConv2d(4, 2, 1), "ComplexARD"),
        (ComplexLogUniform(), nn.Linear(4, 2), "LogUniform"),
        (ComplexARD(), nn.Conv2d(4, 2, 1), "ARD"),
    ],
)
def test_the_door_names_the_layer_and_the_right_prior(prior: Prior, layer: nn.Module, other: str) -> None:
    network = nn.Sequential(nn.Flatten(), layer)
    kinds = ("complex", "real") if other.startswith("Complex") else ("real", "complex")
    with pytest.raises(PriorError, match=rf"layer '1': it serves {kinds[1]} .* are {kinds[0]}; use priors\.{other}$"):
        SparseModel(network, prior, Categorical(num_data=1))
