"""SparseELBO against Pyro's TraceMeanField_ELBO, closed forms, and its own parts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

from pyrosparse import SparseELBO
from pyrosparse import distributions as psd
from pyrosparse.errors import ConfigError, FitError, NetworkError, PyrosparseWarning
from pyrosparse.guides import AutoSparse
from pyrosparse.poutine import local_reparam
from pyrosparse.priors import ARD, LogUniform
from tests.infer.cases import labelled, pair

PRIORS = {
    "log-uniform": LogUniform(),
    "sigmoid": LogUniform(kl="sigmoid"),
    "ARD": ARD(),
    "fixed precision": ARD(2.0),
    "learned precision": ARD(2.0, learn=True),
}


def value_and_gradients(
    elbo: TraceMeanField_ELBO,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    parameters: list[Tensor],
    *args: Any,
) -> tuple[float, list[Tensor]]:
    for p in parameters:
        p.grad = None
    pyro.set_rng_seed(7)
    # (Pyro's own `loss_and_grads` does nothing for parameters that no handler has seen)
    loss = elbo.differentiable_loss(model, guide, *args)
    loss.backward()
    return float(loss.detach()), [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


@pytest.mark.parametrize("local", [True, False], ids=["local", "weights"])
@pytest.mark.parametrize("name", PRIORS)
def test_is_pyros_elbo_at_scale_one(name: str, local: bool) -> None:
    """Same seed, same draws: same loss and same gradients."""
    model, guide = pair(prior=PRIORS[name], log_var=-2.0)
    x, y = labelled()
    parameters = [p for _, p in model.trained_parameters()] + list(guide.parameters())
    drawn = local_reparam(guide) if local else guide
    ours = value_and_gradients(SparseELBO(), model, drawn, parameters, x[:20], y[:20])
    theirs = value_and_gradients(TraceMeanField_ELBO(), model, drawn, parameters, x[:20], y[:20])
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert all(bool((g != 0).any()) for g in ours[1])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-5)


def regression(mask: bool) -> tuple[Callable[..., None], Callable[..., None], nn.ParameterList]:
    """A hand-written pair with a scaled plate, a vectorised local latent, and perhaps a mask."""
    parameters = nn.ParameterList([torch.zeros(3), torch.zeros(3), torch.zeros(10), torch.zeros(3)])
    loc, log_scale, local_loc, other = parameters

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with poutine.scale(scale=0.5):
            v = pyro.sample("v", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        with pyro.plate("data", 10, subsample=x), poutine.mask(mask=x[:, 0] > 0 if mask else torch.tensor(True)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("obs", dist.Normal(x @ (w + v) + z, 0.5), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.sample("w", dist.Normal(loc, log_scale.exp()).to_event(1))
        with poutine.scale(scale=0.5):
            pyro.sample("v", dist.Normal(other, 0.3).to_event(1))
        with pyro.plate("data", 10, subsample=x), poutine.mask(mask=x[:, 0] > 0 if mask else torch.tensor(True)):
            pyro.sample("z", dist.Normal(local_loc[: len(x)], 0.1))

    return model, guide, parameters


@pytest.mark.parametrize("mask", [False, True], ids=["plain", "masked"])
def test_scales_masks_and_plates_are_pyros(mask: bool) -> None:
    model, guide, parameters = regression(mask)
    x, y = torch.randn(4, 3), torch.randn(4)
    ours = value_and_gradients(SparseELBO(), model, guide, list(parameters), x, y)
    theirs = value_and_gradients(TraceMeanField_ELBO(), model, guide, list(parameters), x, y)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    torch.testing.assert_close(ours[1], theirs[1])


def test_the_plate_scales_the_likelihood_alone() -> None:
    model, guide = pair(num_data=600)
    x, y = labelled()
    few, guide_of_few = pair(num_data=60)
    pyro.set_rng_seed(1)
    many_terms = SparseELBO().terms(model, guide, x, y)
    pyro.set_rng_seed(1)
    few_terms = SparseELBO().terms(few, guide_of_few, x, y)
    torch.testing.assert_close(many_terms.log_likelihood, 10 * few_terms.log_likelihood)
    torch.testing.assert_close(many_terms.total_kl, few_terms.total_kl)


def test_terms_add_up_and_scales_multiply_the_kl_alone() -> None:
    model, guide = pair()
    x, y = labelled()

    def loss(**options: Any) -> float:
        pyro.set_rng_seed(3)
        return SparseELBO(**options).loss(model, guide, x, y)

    pyro.set_rng_seed(3)
    elbo = SparseELBO()
    terms = elbo.terms(model, guide, x, y)
    likelihood, kl = float(terms.log_likelihood), float(terms.total_kl)
    assert set(terms.kl) == set(model.sites)
    for site, family in guide.families.items():
        torch.testing.assert_close(terms.kl[site], family.kl().detach())
    assert kl == pytest.approx(sum(float(v) for v in terms.kl.values()))
    assert not terms.total_kl.requires_grad
    assert loss() == pytest.approx(kl - likelihood)
    assert loss(kl_scale=0.0) == pytest.approx(-likelihood)
    assert loss(kl_scale=0.25) == pytest.approx(0.25 * kl - likelihood)
    first = float(terms.kl["fc1.weight"])
    assert loss(site_scale={"fc1.weight": 0.0}) == pytest.approx(kl - first - likelihood)
    assert loss(kl_scale=2.0, site_scale={"fc1.weight": 0.5}) == pytest.approx(2 * kl - first - likelihood)


@pytest.mark.parametrize("weight", [math.nan, -0.1])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    model, guide = pair()
    elbo = SparseELBO(kl_scale=weight)
    with pytest.raises(ConfigError, match="kl_scale is"):
        elbo.loss(model, guide, *labelled())
    elbo = SparseELBO()
    elbo.loss(model, guide, *labelled())
    elbo.site_scale = {"fc2.weight": weight}
    with pytest.raises(ConfigError, match=r"site_scale\['fc2.weight'\] is"):
        elbo.loss(model, guide, *labelled())


def test_a_weight_of_no_site_is_refused_at_the_first_pass() -> None:
    model, guide = pair()
    with pytest.raises(ConfigError, match="no site 'fc2.wieght'; did you mean 'fc2.weight'"):
        SparseELBO(site_scale={"fc2.wieght": 0.5}).loss(model, guide, *labelled())
    with pytest.raises(ConfigError, match="no site 'obs'"):
        SparseELBO(site_scale={"obs": 0.5}).loss(model, guide, *labelled())


def test_last_has_the_parts_of_the_last_loss() -> None:
    model, guide = pair()
    x, y = labelled()
    elbo = SparseELBO(kl_scale=0.3, num_particles=3)
    loss = elbo.differentiable_loss(model, guide, x, y)
    assert elbo.last is not None
    torch.testing.assert_close(loss.detach(), 0.3 * elbo.last.total_kl - elbo.last.log_likelihood)


def test_particles_are_averaged() -> None:
    model, guide = pair(log_var=0.0)
    x, y = labelled()
    pyro.set_rng_seed(5)
    single = [SparseELBO().loss(model, guide, x, y) for _ in range(4)]
    pyro.set_rng_seed(5)
    assert SparseELBO(num_particles=4).loss(model, guide, x, y) == pytest.approx(sum(single) / 4)
    pyro.set_rng_seed(5)
    terms = SparseELBO(num_particles=4).terms(model, guide, x, y)
    assert float(terms.total_kl - terms.log_likelihood) == pytest.approx(sum(single) / 4)
    assert len(set(single)) == 4


# KL(LogNormal(m, v) ‖ Exponential(r)): none is registered
M, V, R = -0.3, 0.4, 1.5
LOG_NORMAL_TO_EXPONENTIAL = -M + math.exp(M + V / 2) * R - math.log(R) - 0.5 * math.log(2 * math.pi * math.e * V)


def scalar_pair(q: Callable[[], Any], p: Callable[[], Any], site: str = "scale") -> tuple[Any, Any]:
    return (lambda: pyro.sample(site, p())), (lambda: pyro.sample(site, q()))


def test_without_a_registered_kl_it_warns_and_estimates() -> None:
    model, guide = scalar_pair(
        lambda: dist.LogNormal(torch.tensor(M), math.sqrt(V)), lambda: dist.Exponential(torch.tensor(R)), "layer.scale"
    )
    with pytest.warns(
        PyrosparseWarning, match=r"'layer\.scale': no registered KL.*LogNormal.* to Exponential.*at the draw"
    ):
        kl = SparseELBO().terms(model, guide).kl
    assert set(kl) == {"layer.scale"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PyrosparseWarning)
        values = torch.stack([SparseELBO().terms(model, guide).kl["layer.scale"] for _ in range(1500)])
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - LOG_NORMAL_TO_EXPONENTIAL) < 5 * error


def test_the_estimate_has_the_gradient_of_the_kl() -> None:
    """d KL / d m = −1 + r·exp(m + v/2)."""
    m = torch.tensor(M, requires_grad=True)
    n = 4000
    model, guide = scalar_pair(
        lambda: dist.LogNormal(m, math.sqrt(V)).expand([n]).to_event(1),
        lambda: dist.Exponential(R).expand([n]).to_event(1),
    )
    with pytest.warns(PyrosparseWarning, match="'scale'"):
        SparseELBO().loss_and_grads(model, guide)
    assert m.grad is not None
    exact = -1.0 + R * math.exp(M + V / 2)
    spread = R * math.exp(M + V / 2) * math.sqrt(math.exp(V) - 1)
    assert abs(float(m.grad) / n - exact) < 5 * spread / n**0.5


def test_different_event_dimensions_are_refused() -> None:
    model, guide = scalar_pair(
        lambda: dist.Normal(torch.zeros(3), 1.0).to_event(1), lambda: dist.Normal(torch.zeros(3), 2.0)
    )
    with pytest.raises(ValueError, match="event_dims disagree at site 'scale'"):
        SparseELBO().loss(model, guide)


def test_a_family_without_a_registered_kl_is_named_with_its_base() -> None:
    model, guide = scalar_pair(
        lambda: dist.Normal(torch.zeros(3), 1.0).to_event(1), lambda: dist.StudentT(3.0, torch.zeros(3)).to_event(1)
    )
    with pytest.warns(PyrosparseWarning, match=r"from Independent\(Normal\) to Independent\(StudentT\)"):
        SparseELBO().loss(model, guide)


def test_an_expanded_prior_does_not_fall_back() -> None:
    """`expand(...).to_event(...)` of our priors keeps the registered KL: no warning (they are errors here)."""
    loc, log_var = torch.randn(4, 3), torch.randn(4, 3)
    q = psd.DropoutNormal(loc, log_var).to_event(2)
    for p in (psd.LogUniform(), psd.ARDNormal(), psd.ARDNormal(2.0)):
        model, guide = scalar_pair(lambda: q, lambda p=p: p.expand([4, 3]).to_event(2))
        SparseELBO().loss(model, guide)


def test_a_posterior_of_another_shape_is_refused() -> None:
    """A scalar posterior for a prior over three weights would count three times."""
    model, guide = scalar_pair(lambda: dist.Normal(0.0, 1.0), lambda: dist.Normal(torch.zeros(3), 1.0), "w")
    with pytest.raises(ValueError, match="Model and guide shapes disagree at site 'w'"):
        SparseELBO().loss(model, guide)


def test_draws_without_gradients_are_refused() -> None:
    probability = torch.tensor(0.3, requires_grad=True)
    model, guide = scalar_pair(lambda: dist.Bernoulli(probability), lambda: dist.Bernoulli(0.5))
    with pytest.raises(FitError, match="'scale': draws of Bernoulli carry no gradient"):
        SparseELBO().loss(model, guide)


def test_sites_of_one_side_only_are_said() -> None:
    _, guide = scalar_pair(lambda: dist.Normal(0.0, 1.0), lambda: dist.Normal(0.0, 1.0), "v")
    model, _ = scalar_pair(lambda: dist.Normal(0.0, 1.0), lambda: dist.Normal(0.0, 1.0), "w")
    with pytest.warns(UserWarning) as record:
        SparseELBO().loss(model, guide)
    text = " ".join(str(w.message) for w in record)
    assert "guide but not model" in text and "model but not guide" in text


def test_auxiliary_sites_count_as_kl() -> None:
    """−entropy of an auxiliary Gaussian, weighted as KL is, as Pyro's own ELBO has it at weight one."""

    def model() -> None:
        pyro.sample("w", dist.Normal(0.0, 1.0))

    def guide() -> None:
        a = pyro.sample("a", dist.Normal(0.0, 2.0), infer={"is_auxiliary": True})
        pyro.sample("w", dist.Normal(a, 1.0))

    elbo = SparseELBO(kl_scale=0.5)
    pyro.set_rng_seed(2)
    loss = elbo.loss(model, guide)
    pyro.set_rng_seed(2)
    terms = elbo.terms(model, guide)
    pyro.set_rng_seed(2)
    theirs = TraceMeanField_ELBO().loss(model, guide)
    assert set(terms.kl) == {"a", "w"}
    assert float(terms.total_kl) == pytest.approx(theirs)
    assert loss == pytest.approx(0.5 * theirs)


def test_factors_and_missing_data() -> None:
    """`pyro.factor` counts as likelihood; a model without latent sites has no KL."""

    def model(y: Tensor) -> None:
        pyro.sample("obs", dist.Normal(0.0, 1.0), obs=y)
        pyro.factor("bonus", torch.tensor(2.0))

    y = torch.tensor(0.7)
    terms = SparseELBO().terms(model, lambda y: None, y)
    assert float(terms.log_likelihood) == pytest.approx(float(dist.Normal(0.0, 1.0).log_prob(y)) + 2.0)
    assert terms.kl == {} and float(terms.total_kl) == 0.0


def test_stands_wherever_pyro_takes_a_loss() -> None:
    model, guide = pair(log_var=-3.0)
    x, y = labelled()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), loss=SparseELBO())
    before = [p.detach().clone() for p in guide.parameters()]
    losses = [svi.step(x, y) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all(not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))
    module = SparseELBO()(model, guide)
    assert {id(p) for p in guide.parameters()} <= {id(p) for p in module.parameters()}
    pyro.set_rng_seed(9)
    value = module(x, y)
    pyro.set_rng_seed(9)
    assert float(value.detach()) == pytest.approx(SparseELBO().loss(model, guide, x, y))


def test_expected_loss_is_the_same_with_and_without_local_draws() -> None:
    model, guide = pair(log_var=-1.0, prior=ARD(1.0))
    x, y = labelled()

    def losses(drawn: AutoSparse | Callable[..., Any], n: int) -> Tensor:
        return torch.tensor([SparseELBO().loss(model, drawn, x, y) for _ in range(n)])

    n = 150
    weights, local = losses(guide, n), losses(local_reparam(guide), n)
    error = (weights.var() / n + local.var() / n).sqrt()
    assert abs(float((weights.mean() - local.mean()) / error)) < 5
    assert float(local.var()) < 0.5 * float(weights.var())  # the point of it


def test_kl_of_a_masked_posterior_is_that_of_what_is_kept() -> None:
    model, guide = pair()
    x, y = labelled()
    family = guide.families["fc2.weight"]
    full = family.kl()
    keep = torch.zeros(8, 12, dtype=torch.bool)
    keep[:, :6] = True
    family.freeze(keep)
    terms = SparseELBO().terms(model, guide, x, y)
    part = psd.kl_log_uniform((family.log_var - family.loc.square().log())[:, :6]).sum()
    torch.testing.assert_close(terms.kl["fc2.weight"], part.detach())
    assert float(part.detach()) < float(full.detach())


def test_hand_written_pair_with_the_librarys_distributions() -> None:
    loc, log_var = torch.randn(2, 3, requires_grad=True), torch.full((2, 3), -3.0, requires_grad=True)

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", psd.LogUniform().expand([2, 3]).to_event(2))
        with pyro.plate("data", 50, subsample=x):
            pyro.sample("obs", dist.Categorical(logits=F.linear(x, w)), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.sample("w", psd.DropoutNormal(loc, log_var).to_event(2))

    x, y = torch.randn(10, 3), torch.randint(2, (10,))
    kl = SparseELBO().terms(model, local_reparam(guide), x, y).kl["w"]
    torch.testing.assert_close(kl, psd.kl_log_uniform(log_var - loc.square().log()).sum().detach())


def test_an_error_in_the_model_has_no_trace_behind_it() -> None:
    import pyrosparse as ps
    import pyrosparse.nn as psnn

    network = nn.Sequential(psnn.ToComplex(), psnn.ComplexLinear(3, 2), psnn.ComplexBatchNorm1d(2), psnn.RealPart())
    model = ps.SparseModel(network, ps.priors.ComplexLogUniform(), ps.likelihoods.Categorical(num_data=4))
    with pytest.raises(NetworkError, match="needs more than one value") as caught:
        SparseELBO().loss(model, AutoSparse(model), torch.randn(1, 3), torch.zeros(1, dtype=torch.int64))
    assert "Trace Shapes" not in str(caught.value)
