"""The handler: which sites yield undrawn weights, and that the expected ELBO does not depend on it."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor

from pyrosparse.distributions import DropoutNormal
from pyrosparse.poutine import LocalReparamMessenger, Undrawn, gaussian_moments, local_reparam


def site(fn: dist.TorchDistribution, name: str = "w", **options: object) -> Tensor:
    with local_reparam():
        return pyro.sample(name, fn, **options)


GAUSSIANS = {
    "Normal": lambda m, s: dist.Normal(m, s).to_event(2),
    "torch Normal": torch.distributions.Normal,
    "expanded": lambda m, s: dist.Normal(m[0, 0], s[0, 0]).expand([2, 3]),
    "twice independent": lambda m, s: dist.Normal(m, s).to_event(1).to_event(1),
    "DropoutNormal": lambda m, s: DropoutNormal(m, 2 * s.log()).to_event(2),
}


@pytest.mark.parametrize("kind", GAUSSIANS)
def test_moments_are_those_of_the_distribution(kind: str) -> None:
    fn = GAUSSIANS[kind](torch.randn(2, 3), torch.rand(2, 3) + 0.1)
    moments = gaussian_moments(fn)
    assert moments is not None
    torch.testing.assert_close(moments[0], fn.mean)
    torch.testing.assert_close(moments[1], fn.variance)
    if isinstance(fn, dist.TorchDistribution):
        assert isinstance(site(fn), Undrawn)


def test_masked_weights_are_exactly_zero() -> None:
    keep = torch.tensor([[True, False, False], [False, False, False]])
    w = site(DropoutNormal(torch.randn(2, 3), torch.zeros(2, 3), keep=keep).to_event(2))
    assert isinstance(w, Undrawn)
    out = F.linear(torch.randn(1000, 3), w)
    assert float(out[:, 1].abs().max()) < 1e-3  # the variance floor is all that is left
    assert bool((w.draw() == 0)[~keep].all())


NOT_GAUSSIAN = {
    "Laplace": dist.Laplace(torch.zeros(3), torch.ones(3)),
    "LogNormal": dist.LogNormal(torch.zeros(3), torch.ones(3)),
    "Delta": dist.Delta(torch.zeros(3)),
    "multivariate": dist.MultivariateNormal(torch.zeros(3), torch.eye(3)),
}


@pytest.mark.parametrize("kind", NOT_GAUSSIAN)
def test_other_distributions_are_left_alone(kind: str) -> None:
    assert gaussian_moments(NOT_GAUSSIAN[kind]) is None
    assert not isinstance(site(NOT_GAUSSIAN[kind]), Undrawn)


def test_open_to_new_distributions() -> None:
    class Mine(dist.Laplace):
        pass

    gaussian_moments.register(Mine, lambda d: (d.loc, 2 * d.scale.square()))
    assert isinstance(site(Mine(torch.zeros(3), torch.ones(3)).to_event(1)), Undrawn)


def test_observed_and_conditioned_sites_are_left_alone() -> None:
    value = torch.ones(3)
    assert site(dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=value) is value
    with poutine.condition(data={"w": value}):
        assert site(dist.Normal(torch.zeros(3), 1.0).to_event(1)) is value


def test_excluded_sites_get_a_real_draw() -> None:
    fn = dist.Normal(torch.zeros(3), 1.0).to_event(1)

    def guide() -> dict[str, Tensor]:
        return {name: pyro.sample(name, fn) for name in ("a.weight", "b.weight", "c.bias")}

    drawn = local_reparam(guide, exclude=["a.*", "c.bias"])()
    assert {name: isinstance(w, Undrawn) for name, w in drawn.items()} == {
        "a.weight": False,
        "b.weight": True,
        "c.bias": False,
    }


def test_wraps_a_guide_or_stands_as_a_context() -> None:
    def guide(x: Tensor) -> Tensor:
        return pyro.sample("w", dist.Normal(x, 1.0).to_event(1))

    x = torch.zeros(3)
    assert isinstance(local_reparam(guide)(x), Undrawn)
    handler = local_reparam()
    assert isinstance(handler, LocalReparamMessenger)
    with handler:
        assert isinstance(guide(x), Undrawn)
    assert not isinstance(guide(x), Undrawn)


def test_a_trace_carries_the_undrawn_weight_to_the_model() -> None:
    weight = torch.randn(4, 3)

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(weight, 0.1).to_event(2))

    def model(x: Tensor) -> Tensor:
        return F.linear(x, pyro.sample("w", dist.Normal(torch.zeros(4, 3), 1.0).to_event(2)))

    x = torch.ones(500, 3)
    trace = poutine.trace(local_reparam(guide)).get_trace(x)
    with poutine.replay(trace=trace):
        out = model(x)
    assert trace.nodes["w"]["value"]._drawn is None
    assert float(out.std(0).min()) > 0.1  # examples differ: √3 · 0.1


def test_names_of_sites_are_those_of_the_warning() -> None:
    assert site(dist.Normal(torch.zeros(3), 1.0).to_event(1), name="layer.weight").site == "layer.weight"


@pytest.mark.parametrize("local", [True, False])
def test_expected_log_likelihood_is_the_closed_form(local: bool) -> None:
    """E log N(y; w·x, s²) = log N(y; μ·x, s²) − (σ²·x²)/(2 s²)."""
    x, y = torch.randn(20, 3), torch.randn(20)
    mean, std, noise = torch.randn(3), torch.rand(3) + 0.2, 0.7

    def guide() -> Tensor:
        return pyro.sample("w", dist.Normal(mean, std).to_event(1))

    draw = local_reparam(guide) if local else guide
    values = torch.stack([dist.Normal(x @ draw(), noise).log_prob(y).sum() for _ in range(2000)])
    spread = x.square() @ std.square()
    exact = dist.Normal(x @ mean, noise).log_prob(y).sum() - spread.sum() / (2 * noise**2)
    assert abs(float(values.mean() - exact)) < 5 * float(values.std()) / len(values) ** 0.5
