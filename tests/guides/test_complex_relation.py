"""Posteriors with a relation: parts of unequal variance, and correlated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import guides
from pyrosparse.data import TensorLoader
from pyrosparse.errors import PriorError
from pyrosparse.guides.dropout import ComplexDropoutFamily
from pyrosparse.infer.schedules import constant, cosine
from pyrosparse.poutine import local_reparam
from pyrosparse.poutine.undrawn_complex import UndrawnPairs
from pyrosparse.pruning.shrink import Shrinker
from tests.complex_networks import dense, kill, pair


def related(sizes: tuple[int, ...], prior: ps.priors.Prior | None = None) -> tuple[ps.SparseModel, guides.AutoSparse]:
    """A model and its guide with random relations."""
    model, _ = pair(dense(*sizes), (sizes[0],), prior=prior)
    guide = guides.AutoSparse(model, relation=True, log_var=-3.0)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            if name.endswith("relation"):
                parameter.normal_()
    return model, guide


def test_the_posterior_of_a_regression_is_the_closed_form() -> None:
    """y = Re(x·w) + noise with one weight: its parts are seen unequally, and the exact posterior has a relation."""
    torch.manual_seed(0)
    noise, tau = 2.0, 20.0
    x = (torch.randn(500, 1) + 0.3 * torch.randn(500, 1)) * torch.tensor([0.8 + 0.6j]) + 0.2j * torch.randn(500, 1)
    y = (x * (1.0 - 0.5j)).real + noise * torch.randn(500, 1)
    design = torch.cat([x.real, -x.imag], 1)
    precision = design.T @ design / noise**2 + 2 * tau * torch.eye(2)
    covariance = torch.linalg.inv(precision)
    mean = covariance @ design.T @ y[:, 0] / noise**2
    network = nn.Sequential(psnn.ComplexLinear(1, 1, bias=False), psnn.RealPart())
    model = ps.SparseModel(network, ps.priors.ComplexARD(tau), ps.likelihoods.Gaussian(num_data=500, scale=noise))
    guide = guides.AutoSparse(model, relation=True)
    ps.fit(
        model,
        guide,
        TensorLoader(x, y, 500),
        epochs=500,
        lr=0.03,
        lr_log_var=0.05,
        lr_schedule=cosine(),
        kl_schedule=constant(1.0),
        shrink_every=0,
        progress=False,
    )
    family = guide.families["0.weight"]
    std = covariance.diag().sqrt()
    assert float(((family.mean().flatten() - mean).abs() / std).max()) < 0.15
    torch.testing.assert_close(family.std().flatten(), std, rtol=0.05, atol=0)
    draws = family.draws(50_000, torch.tensor([0]))[:, 0]
    torch.testing.assert_close(torch.cov(draws.T), covariance, rtol=0.1, atol=0.05 * float(covariance.diag().min()))


@pytest.mark.parametrize("prior", [None, ps.priors.ComplexARD(), ps.priors.GroupLogUniform()])
def test_every_station_takes_it(prior: ps.priors.Prior | None) -> None:
    torch.manual_seed(0)
    model, guide = related((6, 5, 3), prior)
    with local_reparam():
        undrawn = guide()["fc1.weight"]
    if prior is None:
        assert isinstance(undrawn, UndrawnPairs) and len(undrawn.moments) == 3
    circular = ps.summarize(model, guides.AutoSparse(model, log_var=-3.0))
    summary = ps.summarize(model, guide)
    # a relation is information: it costs nats
    assert summary.kl_bits > circular.kl_bits and summary.kept == circular.kept
    loader = TensorLoader(torch.randn(64, 6), torch.randint(3, (64,)), 32)
    ps.fit(model, guide, loader, epochs=2, lr=1e-2, shrink_every=0, progress=False)
    pruned = ps.prune(model, guide)
    assert torch.equal(pruned.masks["fc1.weight"], guide.families["fc1.weight"].keep())
    assert pruned.sigma["fc1.weight"].shape == (5, 6, 2)
    ps.to_arviz(model, guide, draws=3)


def test_it_shrinks_with_its_weights() -> None:
    torch.manual_seed(0)
    model, guide = related((6, 5, 3))
    family = guide.families["fc1.weight"]
    assert isinstance(family, ComplexDropoutFamily) and family.relation is not None
    before = family.relation.detach().clone()
    dead = torch.zeros(5, 6, dtype=torch.bool)
    dead[[1, 3]] = True
    kill(guide, {"fc1.weight": dead})
    shrinker = Shrinker(model, guide)
    shrinker.step()
    assert shrinker.step()
    assert torch.equal(family.relation, before[[0, 2, 4]])


def test_a_mask_leaves_out_what_is_gone() -> None:
    model, guide = related((4, 3))
    family = guide.families["fc1.weight"]
    keep = torch.rand(3, 4) < 0.5
    family.freeze(keep)
    draws = family.draws(5, torch.arange(12))
    assert torch.equal((draws != 0).all(-1).all(0), keep.flatten()) and not bool(draws[:, ~keep.flatten()].any())
    again = guides.AutoSparse(model, relation=True)
    again.load_state_dict(guide.state_dict())
    assert torch.equal(again.families["fc1.weight"].std(), family.std())


def test_a_relation_needs_complex_weights() -> None:
    model = ps.SparseModel(nn.Linear(3, 2), ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=1))
    with pytest.raises(PriorError, match="relation=True is for Gaussian posteriors of complex weights"):
        guides.AutoSparse(model, relation=True)


@pytest.mark.parametrize("prior", [None, ps.priors.GroupLogUniform()])
def test_covariance_is_that_of_the_draws(prior: ps.priors.Prior | None) -> None:
    torch.manual_seed(0)
    model, guide = related((3, 2), prior)
    family = guide.families["fc1.weight"]
    covariance = family.covariance()
    assert covariance is not None
    draws = family.draws(100_000, torch.arange(6))
    parts = draws - draws.mean(0)
    measured = (parts[..., 0] * parts[..., 1]).mean(0)
    std = family.std().reshape(6, 2).prod(-1)
    torch.testing.assert_close(covariance.flatten() / std, measured / std, atol=0.03, rtol=0)
    circular = guides.AutoSparse(model, log_var=-3.0).families["fc1.weight"].covariance()
    assert (circular is None) == (prior is None)
