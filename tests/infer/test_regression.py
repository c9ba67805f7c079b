"""Bayesian linear regression, where the best mean-field posterior is known in closed form.

For ``y = X w + noise`` with noise N(0, s²) and prior w ~ N(0, 1/τ), the posterior is N(m, Λ⁻¹) with Λ = XᵀX/s² + τ
and m = Λ⁻¹Xᵀy/s². Among factorised Gaussians the one nearest in KL has the mean m and the variances 1/diag(Λ).
"""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import SparseELBO, SparseModel, guides, likelihoods, priors
from pyrosparse.data import TensorLoader
from pyrosparse.guides import AutoSparse
from pyrosparse.infer.schedules import constant, cosine
from pyrosparse.poutine import local_reparam

# so many data that the noise of one step's gradient moves the mean by 2 % of a posterior standard deviation only
N, FEATURES, NOISE, PRECISION = 2000, 4, 4.0, 20.0


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated inputs, so that 1/diag(Λ) and diag(Λ⁻¹) differ, by half and more."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, FEATURES, generator=generator) + 1.5 * torch.randn(N, 1, generator=generator)
    y = x @ torch.tensor([[1.0], [-0.5], [0.0], [0.3]]) + NOISE * torch.randn(N, 1, generator=generator)
    return x, y


def closed_form(x: Tensor, y: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean and mean-field variances; ``scale`` divides the weight of the prior (β)."""
    precision = x.T @ x / NOISE**2 + scale * PRECISION * torch.eye(FEATURES)
    mean = torch.linalg.solve(precision, x.T @ y / NOISE**2)[:, 0]
    return mean, scale / precision.diag()


def linear_pair() -> tuple[SparseModel, AutoSparse]:
    """Starts at the least-squares solution, which the prior shifts by two posterior standard deviations."""
    network = nn.Linear(FEATURES, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.linalg.lstsq(*problem()).solution.T)
    model = SparseModel(
        network,
        priors.ARD(precision=PRECISION),
        likelihoods.Gaussian(num_data=N, scale=NOISE),
    )
    return model, guides.ARD(model, log_var=-5.0)


def assert_posterior(guide: AutoSparse, mean: Tensor, variance: Tensor, *, rough: bool = False) -> None:
    """Means within 5 % of a posterior standard deviation, and these within 8 %: noise of the last steps.

    When rough, 25 % and 15 %: with one draw of the weights for all data the noise is √N times as large.
    """
    family = guide.families["weight"]
    assert float(((family.mean()[0] - mean) / variance.sqrt()).abs().max()) < (0.25 if rough else 0.05)
    assert float((family.std()[0] / variance.sqrt() - 1).abs().max()) < (0.15 if rough else 0.08)


def test_the_oracle_tells_the_two_variances_apart() -> None:
    x, _ = problem()
    precision = x.T @ x / NOISE**2 + PRECISION * torch.eye(FEATURES)
    assert float((precision.inverse().diag() * precision.diag()).min()) > 1.5


@pytest.mark.parametrize("local", [True, False], ids=["local", "weights"])
def test_fit_finds_it(local: bool) -> None:
    x, y = problem()
    model, guide = linear_pair()
    ps.fit(
        model,
        guide,
        TensorLoader(x, y, batch_size=N, shuffle=False),
        epochs=350,
        lr=0.05,
        lr_log_var=0.05,
        lr_schedule=cosine(hold=0.2),
        shrink_every=0,
        local_reparam=local,
        device="cpu",
    )
    assert_posterior(guide, *closed_form(x, y), rough=not local)


def test_fit_finds_it_from_small_batches() -> None:
    """The likelihood of a batch stands for the whole data set: num_data / B."""
    x, y = problem()
    model, guide = linear_pair()
    loader = TensorLoader(x, y, batch_size=200)
    ps.fit(model, guide, loader, epochs=35, lr=0.05, lr_log_var=0.05, lr_schedule=cosine(hold=0.2), device="cpu")
    assert_posterior(guide, *closed_form(x, y), rough=True)


def test_fit_with_another_weight_of_the_kl() -> None:
    """β multiplies the KL: prior precision and entropy alike."""
    x, y = problem()
    model, guide = linear_pair()
    ps.fit(
        model,
        guide,
        TensorLoader(x, y, batch_size=N, shuffle=False),
        epochs=350,
        lr=0.05,
        lr_log_var=0.05,
        lr_schedule=cosine(hold=0.2),
        shrink_every=0,
        kl_schedule=constant(4.0),
        device="cpu",
    )
    assert_posterior(guide, *closed_form(x, y, scale=4.0))


@pytest.mark.parametrize(
    ("elbo", "local"),
    [(TraceMeanField_ELBO, True), (Trace_ELBO, True), (SparseELBO, True), (TraceMeanField_ELBO, False)],
)
def test_stock_svi_finds_it(elbo: type[Trace_ELBO], local: bool) -> None:
    x, y = problem()
    model, guide = linear_pair()
    optimizer = pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.99})
    svi = SVI(model, local_reparam(guide) if local else guide, optimizer, loss=elbo())
    for _ in range(400):
        svi.step(x, y)
    assert_posterior(guide, *closed_form(x, y), rough=not local)
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, Trace_ELBO, SparseELBO])
def test_two_instances_of_one_class_are_both_trained(elbo: type[Trace_ELBO]) -> None:
    """Pyro's global store would merge parameters of equal names and train those of the first pair only."""
    pairs = []
    for seed in range(2):
        model = SparseModel(
            nn.Sequential(nn.Linear(FEATURES, 3), nn.Tanh(), nn.Linear(3, 1)),
            priors.ARD(learn=True),
            likelihoods.Gaussian(num_data=N, learn_scale=True),
        )
        pairs.append((model, AutoSparse(model), problem(seed)))
    for model, guide, data in pairs:
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss=elbo())
        parameters = dict(model.trained_parameters()) | dict(guide.named_parameters())
        assert len(parameters) == 2 + 2 + 1 + 4  # biases, precisions, noise scale, means and log variances
        x, y = (values[:100] for values in data)
        before = {name: p.detach().clone() for name, p in parameters.items()}
        losses = [svi.step(x, y) for _ in range(40)]
        assert not [name for name, p in parameters.items() if torch.equal(p, before[name])]
        assert sum(losses[-5:]) < sum(losses[:5])
    assert not list(pyro.get_param_store().keys())


def test_a_pair_under_two_optimisers_is_the_same_pair() -> None:
    """Stock SVI, then fit: they train the same parameters."""
    x, y = problem()
    model, guide = linear_pair()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=TraceMeanField_ELBO())
    for _ in range(50):
        svi.step(x, y)
    after = guide.families["weight"].mean()
    loader = TensorLoader(x, y, batch_size=N)
    options = {"lr": 0.05, "lr_log_var": 0.05, "lr_schedule": cosine(hold=0.1), "shrink_every": 0}
    ps.fit(model, guide, loader, epochs=300, device="cpu", **options)
    assert not torch.equal(after, guide.families["weight"].mean())
    assert_posterior(guide, *closed_form(x, y))
