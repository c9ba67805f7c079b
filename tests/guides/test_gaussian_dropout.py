"""Gaussian dropout: the noise is that of dropout, and α is shared by those who share it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pyrosparse as ps
from pyrosparse import distributions as psd
from pyrosparse import guides, priors
from pyrosparse.data import TensorLoader
from pyrosparse.errors import NetworkError, PriorError
from pyrosparse.guides import GaussianDropout, GaussianDropoutFamily, Share
from pyrosparse.likelihoods import Categorical, Gaussian


def model(network: nn.Module | None = None, prior: priors.Prior | None = None) -> ps.SparseModel:
    torch.manual_seed(0)
    return ps.SparseModel(network or nn.Linear(6, 4), prior or priors.LogUniform(), Categorical(num_data=100))


@pytest.mark.parametrize(
    ("share", "shape"), [("layer", (1, 1)), ("input", (1, 6)), ("output", (4, 1)), ("weight", (4, 6))]
)
def test_who_shares_alpha(share: str, shape: tuple[int, ...]) -> None:
    family = GaussianDropout(model(), share=share, rate=0.2).families["weight"]
    assert isinstance(family, GaussianDropoutFamily)
    assert family.log_alpha.shape == shape
    assert_close(family.log_alpha.detach().exp(), torch.full(shape, 0.25))
    assert_close(family.std(), 0.5 * family.mean().abs(), rtol=1e-4, atol=1e-7)
    assert_close(family.relevance(), torch.full((4, 6), math.log(4.0)), rtol=1e-3, atol=1e-3)
    assert_close(family.kl().detach(), 24 * psd.kl_log_uniform(torch.tensor(-math.log(4.0))), rtol=1e-3, atol=1e-3)


def test_transposed_convolutions_share_along_the_right_axis() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(3, 5, 2))
    family = GaussianDropout(model(network), share="output").families["0.weight"]
    assert family.log_alpha.shape == (1, 5, 1, 1)  # type: ignore[union-attr]


def test_noise_has_the_moments_of_dropout() -> None:
    """Dropout at rate p keeps a weight with probability 1 − p and divides by it: variance p/(1 − p)·w²."""
    rate, draws = 0.3, 40_000
    family = GaussianDropout(model(), rate=rate, learn=False).families["weight"]
    weight = family.mean()
    dropped = torch.nn.functional.dropout(weight.expand(draws, 4, 6), rate)
    gaussian = family.distribution().sample((draws,))
    for drawn in (dropped, gaussian):
        error = 5 * weight.abs() * math.sqrt(rate / (1 - rate) / draws)
        assert bool(((drawn.mean(0) - weight).abs() <= error + 1e-7).all())
        assert_close(drawn.var(0), rate / (1 - rate) * weight.square(), rtol=0.06, atol=1e-7)


def test_a_fixed_rate_is_not_trained_and_a_bound_is_kept() -> None:
    fixed = GaussianDropout(model(), learn=False)
    assert [name.rpartition(".")[2] for name, _ in fixed.named_parameters()] == ["loc"]
    x, y = torch.randn(100, 6), torch.randint(0, 4, (100,))
    owner = model()
    bounded = GaussianDropout(owner, share="weight", rate=0.3, max_alpha=1.0)
    ps.fit(
        owner, bounded, TensorLoader(x, y, 50), epochs=20, lr=1e-3, lr_log_var=0.1, device="cpu", progress=False, seed=0
    )
    bounded()
    log_alpha = bounded.families["weight"].log_alpha
    assert float(log_alpha.detach().max()) <= 1e-6  # type: ignore[union-attr, operator]
    free = GaussianDropout(owner, share="weight", rate=0.3)
    assert float(free.families["weight"].log_alpha.detach().max()) < 0  # type: ignore[union-attr, operator]


def test_inputs_of_no_use_get_more_noise() -> None:
    """Regression on one of four inputs. Multiplicative noise ranks them right, and is too rough to go on to α = ∞."""
    torch.manual_seed(1)
    x = torch.randn(400, 4)
    y = 2.0 * x[:, :1] + 0.1 * torch.randn(400, 1)
    owner = ps.SparseModel(nn.Linear(4, 1), priors.LogUniform(), Gaussian(num_data=400, scale=0.1))
    guide = GaussianDropout(owner, share=Share.INPUT, rate=0.1)
    ps.fit(
        owner, guide, TensorLoader(x, y, 100), epochs=150, lr=0.02, lr_log_var=0.1, shrink_every=0, device="cpu",
        progress=False, seed=0,
    )  # fmt: skip
    relevance = guide.families["weight"].relevance().flatten()
    assert float(relevance[0] - relevance[1:].max()) > 5.0


def test_live_shrinking_cuts_alpha_along() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    owner = model(network)
    guide = GaussianDropout(owner, share="output")
    first = guide.families["0.weight"]
    with torch.no_grad():
        first.log_alpha[2] = 9.0  # type: ignore[index, union-attr, operator]
    x, y = torch.randn(100, 6), torch.randint(0, 4, (100,))
    ps.fit(owner, guide, TensorLoader(x, y, 50), epochs=2, lr=1e-5, device="cpu", progress=False, seed=0)
    assert first.log_alpha.shape == (4, 1)  # type: ignore[union-attr]
    assert first.mean().shape == (4, 6)
    assert owner.kept["0"][0].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": "layers"}, "share='layers' is unknown; did you mean 'layer'"),
        ({"rate": 0}, "rate is 0; give a dropout rate"),
        ({"rate": 1.0}, "rate is 1.0"),
        ({"max_alpha": -1.0}, "max_alpha is -1.0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PriorError, match=message):
        GaussianDropout(model(), **options)


def test_other_priors_and_models_are_refused() -> None:
    with pytest.raises(PriorError, match="site 'weight' has the prior ARD"):
        GaussianDropout(model(prior=priors.ARD()))
    with pytest.raises(NetworkError, match="GaussianDropout needs a SparseModel, not a Linear"):
        GaussianDropout(nn.Linear(2, 2))  # type: ignore[arg-type]
    assert isinstance(GaussianDropout(model()), guides.AutoSparse)
