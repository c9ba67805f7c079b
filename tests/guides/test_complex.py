"""Complex networks as models: sites, posterior families, fits, summaries, draws, and guides written by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI
from torch import Tensor, nn
from torch.func import functional_call

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import distributions as psd
from pyrosparse import guides
from pyrosparse.data import TensorLoader
from pyrosparse.errors import PriorError
from pyrosparse.guides.dropout import ComplexDropoutFamily
from pyrosparse.guides.given import GivenFamily
from pyrosparse.infer.schedules import constant, cosine
from pyrosparse.layers import SPARSE_LAYERS, axes
from pyrosparse.posterior import read
from tests.complex_networks import convnet, dense, kill, pair

LAYERS = [
    psnn.ComplexLinear(4, 6),
    psnn.ComplexConv1d(4, 6, 3),
    psnn.ComplexConv2d(4, 6, 3),
    psnn.ComplexConv3d(4, 6, 3),
    psnn.ComplexConvTranspose1d(4, 6, 3),
    psnn.ComplexConvTranspose2d(4, 6, 3),
    psnn.ComplexConvTranspose3d(4, 6, 3),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda m: type(m).__name__)
def test_sites(layer: nn.Module) -> None:
    assert isinstance(layer, SPARSE_LAYERS)
    model = ps.SparseModel(layer, ps.priors.ComplexARD(), ps.likelihoods.Categorical(num_data=1))
    site = model.sites["weight"]
    assert (*site.shape, 2) == layer.weight.shape and site.parts == 2
    assert (site.shape[site.out_axis], site.shape[site.in_axis]) == (6, 4) and (site.out_axis, site.in_axis) == axes(
        layer
    )
    assert site.total == layer.weight.numel()
    assert model.shape_of("weight") == site.shape and model.weights()["weight"].shape == layer.weight.shape
    family = guides.AutoSparse(model).families["weight"]
    assert isinstance(family, ComplexDropoutFamily)
    assert torch.equal(family.mean(), layer.weight) and family.relevance().shape == site.shape
    assert dict(model.trained_parameters()).keys() == {"network.bias"}


def test_the_answers_of_the_family() -> None:
    loc = torch.randn(3, 4, 2)
    family = ComplexDropoutFamily("weight", ps.priors.ComplexLogUniform(), loc, -3.0)
    assert family.log_var.shape == (3, 4)
    square = loc.square().sum(-1)
    torch.testing.assert_close(family.relevance(), square.log() + 3.0, atol=1e-5, rtol=0)
    torch.testing.assert_close(family.std(), torch.full((3, 4, 2), math.exp(-1.5) / math.sqrt(2.0)))
    draws = family.draws(20_000, torch.tensor([5]))
    assert draws.shape == (20_000, 1, 2)
    covariance = torch.cov(draws[:, 0].T)
    # standard error of a variance v from n draws: v √(2/n)
    torch.testing.assert_close(covariance, math.exp(-3.0) / 2 * torch.eye(2), atol=6 * 0.025 * 0.01, rtol=0)
    keep = family.keep(0.0)
    family.freeze(keep)
    assert bool((family.mean()[~keep] == 0).all()) and bool((family.std()[~keep] == 0).all())
    assert torch.equal(family.relevance() > -torch.inf, keep)
    family.max_std = 0.1
    family()
    assert float(family.log_var.detach().max()) <= 2 * math.log(0.1) + 1e-6
    with pytest.raises(PriorError, match="serves LogUniform and ComplexLogUniform"):
        guides.SparseVD(pair(dense(4, 3), (4,), prior=ps.priors.ComplexARD())[0])
    guides.ARD(pair(dense(4, 3), (4,), prior=ps.priors.ComplexARD())[0])


def test_the_posterior_of_a_complex_regression_is_the_closed_form() -> None:
    """y = Re(x·w) + noise is a real regression on [Re x, −Im x]; the parts of w have the prior precision 2τ each."""
    noise, tau = 2.0, 20.0
    x = torch.randn(1000, 4, dtype=torch.complex64) * torch.tensor([0.5, 1.0, 2.0, 1.0])
    y = (x @ torch.tensor([1.0 + 1.0j, -0.5j, 0.0, 0.2])).real[:, None] + noise * torch.randn(1000, 1)
    design = torch.cat([x.real, -x.imag], 1)
    precision = design.T @ design / noise**2 + 2 * tau * torch.eye(8)
    mean = torch.linalg.solve(precision, design.T @ y / noise**2).reshape(2, 4).T
    # of circular factorised Gaussians the nearest one has the mean of both parts' precisions
    variance = 4.0 / precision.diag().reshape(2, 4).sum(0)
    network = nn.Sequential(psnn.ComplexLinear(4, 1, bias=False), psnn.RealPart())
    likelihood = ps.likelihoods.Gaussian(num_data=1000, scale=noise)
    model = ps.SparseModel(network, ps.priors.ComplexARD(tau), likelihood)
    guide = guides.AutoSparse(model)
    loader = TensorLoader(x, y, 1000)
    options = {"lr_schedule": cosine(), "kl_schedule": constant(1.0), "shrink_every": 0, "progress": False}
    ps.fit(model, guide, loader, epochs=400, lr=0.03, lr_log_var=0.1, **options)
    assert model.complex_input
    family = guide.families["0.weight"]
    assert isinstance(family, ComplexDropoutFamily)
    found = family.mean()[0]
    # in posterior standard deviations of a part
    assert float(((found - mean).abs() / (0.5 * variance).sqrt()[:, None]).max()) < 0.15
    torch.testing.assert_close(family.log_var.detach()[0].exp(), variance, rtol=0.05, atol=0)
    predicted = ps.predict(model, guide, x[:50], draws=400)
    by_hand = (torch.view_as_real(x[:50]).square().sum(-1) @ (0.5 * variance)).sqrt()
    torch.testing.assert_close(predicted.std[:, 0], by_hand, rtol=0.25, atol=0)


def test_a_complex_weight_counts_as_two_numbers() -> None:
    model, guide = pair(dense(6, 2), (6,))
    kill(guide, {"fc1.weight": torch.tensor([[True] * 3 + [False] * 3, [False] * 6])})
    summary = ps.summarize(model, guide)
    assert (summary.kept, summary.total, summary.rows[0].shape) == (18, 24, (2, 6))
    assert summary.rows[0].log_alpha_high > 19


def test_resume_is_the_same_run(tmp_path: Any) -> None:
    x, y = torch.randn(64, 4), torch.randint(0, 3, (64,))

    def run(epochs: int, stop: int | None, **options: Any) -> Tensor:
        pyro.set_rng_seed(0)
        model, guide = pair(dense(4, 6, 3), (4,))
        halt = (lambda state: setattr(state, "stop", state.epoch == stop),)
        ps.fit(model, guide, TensorLoader(x, y, 16), epochs=epochs, seed=1, callbacks=halt, progress=False, **options)
        return guide.families["fc1.weight"].mean()

    whole = run(4, None, checkpoint=tmp_path / "a")
    run(4, 2, checkpoint=tmp_path / "b")
    assert torch.equal(run(4, None, checkpoint=tmp_path / "b", resume=True), whole)


def test_arviz_has_a_dimension_for_the_parts() -> None:
    model, guide = pair(convnet(), (1, 8, 8))
    kill(guide, {"conv1.weight": torch.tensor([[[[True] + [False] * 2] + [[False] * 3] * 2]] * 4)})
    data = ps.to_arviz(model, guide, draws=300, max_weights=40, prior=True)
    whole = data.posterior["conv1.weight"]
    assert whole.dims[-1] == "conv1.weight_part" and whole.shape == (1, 300, 4, 1, 3, 3, 2)
    assert list(whole["conv1.weight_part"].values) == ["real", "imaginary"]
    some = data.posterior["conv2.weight"]
    assert some.shape == (1, 300, 40, 2) and data.prior["conv2.weight"].shape == some.shape
    family = guide.families["conv2.weight"]
    at = tuple(data.constant_data[f"conv2.weight.at_{axis}"].values for axis in ("out", "in", "row", "column"))
    mean, std = family.mean().numpy()[at], family.std().numpy()[at]
    assert np.abs((some.values[0].mean(0) - mean) / std * math.sqrt(300)).max() < 5
    assert data.constant_data["conv1.weight.mean"].shape == (4, 1, 3, 3, 2)
    assert data.constant_data["conv1.weight.kept"].shape == (4, 1, 3, 3)
    assert int(data.constant_data["conv1.weight.kept"].sum()) == 32


def written_by_hand(network: nn.Module, relation: Tensor | None = None) -> tuple[Any, Any]:
    shape = network.fc1.weight.shape[:-1]
    start = torch.randn(*shape, 2)

    def model(x: Tensor, y: Tensor) -> None:
        weight = pyro.sample("fc1.weight", psd.ComplexLogUniform().expand(shape).to_event(2))
        logits = functional_call(network, {"fc1.weight": weight}, (x,))
        pyro.sample("obs", pyro.distributions.Categorical(logits=logits).to_event(1), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        loc = pyro.param("loc", start.clone())
        log_var = pyro.param("log_var", torch.full(shape, -6.0))
        pyro.sample("fc1.weight", psd.ComplexNormal(loc, log_var, relation).to_event(2))

    return model, guide


def test_a_pair_written_by_hand_can_be_read() -> None:
    network = dense(4, 3)
    relation = torch.tensor([0.6, 0.3]).expand(3, 4, 2)
    model, guide = written_by_hand(network, relation)
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), ps.SparseELBO()).step(x, y)
    posterior = read(model, guide, x, y)["fc1.weight"]
    assert isinstance(posterior.family, GivenFamily) and posterior.shape == (3, 4) and posterior.family.parts == 2
    loc, log_var = pyro.param("loc").detach(), pyro.param("log_var").detach()
    torch.testing.assert_close(posterior.mean(), loc)
    torch.testing.assert_close(posterior.relevance(), loc.square().sum(-1).log() - log_var, atol=1e-4, rtol=0)
    q = psd.ComplexNormal(loc, log_var, relation)
    torch.testing.assert_close(posterior.std(), q.variance.sqrt())
    assert float(posterior.kl()) == pytest.approx(float(_kl(q)), rel=1e-5)
    posterior.family.freeze(torch.zeros(3, 4, dtype=torch.bool))
    assert not bool(posterior.mean().any()) and not bool(posterior.std().any())
    assert ps.summarize(model, guide, x, y).total == 24


def _kl(q: psd.ComplexNormal) -> Tensor:
    return torch.distributions.kl_divergence(q, psd.ComplexLogUniform().expand(q.batch_shape)).sum()
