from __future__ import annotations

import math
from collections import OrderedDict

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.distributions import kl_divergence

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.distributions import ARDNormal, DropoutNormal, LogUniform
from pyrosparse.errors import NetworkError, PriorError
from pyrosparse.guides.given import GivenFamily
from pyrosparse.posterior import read
from pyrosparse.pruning.shrink import cut_to


def network() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv1d(2, 4, 3),
            up=nn.ConvTranspose1d(4, 3, 2),
            act=nn.ReLU(),
            flat=nn.Flatten(),
            fc=nn.Linear(15, 2),
        )
    )


def sparse() -> tuple[ps.SparseModel, guides.AutoSparse]:
    model = ps.SparseModel(network(), ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    model.input_shape = torch.Size([2, 6])
    with torch.no_grad():
        for family in guide.families.values():
            family.log_var.uniform_(-8.0, 3.0)
    return model, guide


def test_every_site_with_its_family() -> None:
    model, guide = sparse()
    found = read(model, guide)
    assert list(found) == ["conv.weight", "up.weight", "fc.weight"]
    for site, posterior in found.items():
        family = guide.families[site]
        assert (posterior.site, posterior.shape) == (site, family.loc.shape)
        assert torch.equal(posterior.mean(), family.loc)
        assert torch.allclose(posterior.std(), (0.5 * family.log_var).exp())
        log_alpha = family.log_var - (family.loc.square() + 1e-16).log()
        assert torch.allclose(posterior.relevance(), -log_alpha)
        assert torch.equal(posterior.keep(), log_alpha <= 3.0)
        assert torch.equal(posterior.keep(-1.0), log_alpha <= -1.0)
        assert not any(
            t.requires_grad for t in (posterior.mean(), posterior.std(), posterior.relevance(), posterior.kl())
        )
        assert torch.allclose(posterior.kl(), family.kl())


def test_cut_weights_are_zero_in_the_originals_shape() -> None:
    model, guide = sparse()
    original = {site: (f.mean(), f.std(), f.relevance()) for site, f in guide.families.items()}
    kept = {
        "conv": (torch.tensor([0, 3]), torch.arange(2)),
        "up": (torch.tensor([1, 2]), torch.tensor([0, 3])),
        "fc": (torch.arange(2), torch.arange(5, 15)),  # its columns, five a unit
    }
    with torch.no_grad():
        cut_to(model, guide, kept)
    found = read(model, guide)
    conv, up, fc = (found[site] for site in ("conv.weight", "up.weight", "fc.weight"))
    alive = {site: torch.zeros(p.shape, dtype=torch.bool) for site, p in found.items()}
    alive["conv.weight"][[0, 3]] = True
    alive["up.weight"][[[0], [3]], [1, 2]] = True  # its inputs come first
    alive["fc.weight"][:, 5:] = True  # five columns a unit
    for site, posterior in found.items():
        mean, std, relevance = original[site]
        assert posterior.shape == mean.shape
        assert torch.equal(posterior.mean(), torch.where(alive[site], mean, 0.0))
        assert torch.equal(posterior.std(), torch.where(alive[site], std, 0.0))
        assert torch.equal(posterior.relevance(), torch.where(alive[site], relevance, -torch.inf))
        assert not posterior.keep(1e9)[~alive[site]].any()
        assert posterior.keep(1e9)[alive[site]].all()
    assert (conv.family.loc.shape, up.family.loc.shape, fc.family.loc.shape) == ((2, 2, 3), (2, 2, 2), (2, 10))
    assert up.expand(torch.ones(2, 2, 2), 7.0).sum() == 8 + 7 * (24 - 8)


def hand(posterior: dist.TorchDistribution, prior: dist.TorchDistribution) -> tuple[object, object]:
    def model(x: Tensor) -> None:
        w = pyro.sample("fc.weight", prior)
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("data", len(x), subsample_size=2):
            pyro.sample("obs", dist.Normal(w.sum() * x[:2, 0], noise), obs=torch.zeros(2))

    def guide(x: Tensor) -> None:
        pyro.sample("fc.weight", posterior)
        pyro.sample("noise", dist.LogNormal(0.0, 1.0))
        pyro.sample("auxiliary", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})

    return model, guide


@pytest.mark.parametrize("prior", [LogUniform(), ARDNormal()])
def test_pair_written_by_hand(prior: dist.TorchDistribution) -> None:
    loc, log_var = torch.randn(3, 2), torch.randn(3, 2)
    q, p = DropoutNormal(loc, log_var).to_event(2), prior.expand([3, 2]).to_event(2)
    found = read(*hand(q, p), torch.randn(5, 3))
    assert list(found) == ["fc.weight"]
    posterior = found["fc.weight"]
    assert posterior.shape == (3, 2)
    assert torch.equal(posterior.mean(), loc)
    assert torch.allclose(posterior.std(), (0.5 * log_var).exp())
    assert torch.allclose(posterior.relevance(), (loc.square() + 1e-16).log() - log_var, atol=1e-5)
    assert torch.allclose(posterior.kl(), kl_divergence(q, p))


def test_normal_posterior_and_prior() -> None:
    q, p = dist.Normal(torch.ones(3, 2), 0.5).to_event(2), dist.Normal(torch.zeros(3, 2), 2.0).to_event(2)
    posterior = read(*hand(q, p), torch.randn(5, 3))["fc.weight"]
    assert torch.allclose(posterior.relevance(), torch.full((3, 2), math.log(4.0)))
    one = math.log(4.0) + (0.25 + 1.0) / 8.0 - 0.5
    assert float(posterior.kl()) == pytest.approx(6 * one)


def test_mask_of_the_guides_own() -> None:
    keep = torch.tensor([[True, False], [False, True]])
    q = DropoutNormal(torch.ones(2, 2), torch.zeros(2, 2), keep).to_event(2)
    posterior = read(*hand(q, LogUniform().expand([2, 2]).to_event(2)), torch.randn(5, 3))["fc.weight"]
    assert torch.equal(posterior.keep(1e9), keep)
    assert torch.equal(posterior.relevance() == -torch.inf, ~keep)
    assert torch.equal(posterior.mean() != 0, keep)
    assert torch.equal(posterior.std() != 0, keep)


def test_weight_without_variance_is_as_relevant_as_can_be() -> None:
    q = dist.Normal(torch.ones(2), torch.full((2,), 1e-30), validate_args=False).to_event(1)
    posterior = read(*hand(q, dist.Normal(torch.zeros(2), 1.0).to_event(1)), torch.randn(5, 3))["fc.weight"]
    assert posterior.keep(-100.0).all()


def test_autoguide_of_pyro_has_no_gaussian_site_of_its_own() -> None:
    """AutoNormal draws unconstrained values elsewhere and its sites are deltas: said, not guessed."""

    def model(x: Tensor) -> Tensor:
        return pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    guide = AutoNormal(model)
    guide(torch.zeros(1))
    with pytest.raises(NetworkError, match="no latent site with a Gaussian distribution"):
        read(model, guide, torch.zeros(1))


def test_given_family_can_be_masked_and_refuses_other_distributions() -> None:
    q = DropoutNormal(torch.ones(2, 2), torch.zeros(2, 2)).to_event(2)
    prior = LogUniform().expand([2, 2]).to_event(2)
    family = GivenFamily("w", q, prior)
    first = torch.tensor([[True, True], [False, True]])
    family.freeze(first)
    family.freeze(torch.tensor([[False, True], [True, True]]))
    left = torch.tensor([[False, True], [False, True]])
    assert torch.equal(family.mean() != 0, left)
    assert torch.equal(family.std() != 0, left)
    assert torch.equal(family.keep(10.0), left)
    assert first.sum() == 3
    assert set(family.weight_tensors()) == {"mean", "variance", "frozen"}
    with pytest.raises(PriorError, match="site 'w': the posterior is a Laplace"):
        GivenFamily("w", dist.Laplace(0.0, 1.0), prior)


def test_pair_without_a_known_divergence_says_so() -> None:
    q = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    posterior = read(*hand(q, dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1)), torch.randn(5, 3))["fc.weight"]
    assert posterior.keep().dtype == torch.bool
    with pytest.raises(
        PriorError, match="site 'fc.weight': no KL divergence is registered from .*Normal.* to .*StudentT"
    ):
        posterior.kl()
