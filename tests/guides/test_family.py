"""Families: which prior gets which, and the questions that each of them answers."""

from __future__ import annotations

from collections.abc import Iterator

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyrosparse import SparseModel
from pyrosparse import distributions as psd
from pyrosparse.errors import PriorError
from pyrosparse.guides import AutoSparse, DropoutFamily, Family, family_of, register_family
from pyrosparse.guides.family import _FAMILIES, DEFAULT_THRESHOLD
from pyrosparse.guides.given import GivenFamily
from pyrosparse.likelihoods import Categorical
from pyrosparse.priors import ARD, LogUniform, Prior

# log α = −6.2, 0, 3 (up to rounding, hence not used as a border), 13.8, about 34
LOC = torch.tensor([[1.0, 0.1, 0.05], [1e-3, 0.0, -2.0]])
LOG_VAR = torch.tensor([[-6.2, -4.6, -4.0], [0.0, -3.0, -1.0]])


@pytest.fixture
def registry() -> Iterator[dict[type[Prior], object]]:
    """The table of families, given back as it was."""
    before = dict(_FAMILIES)
    yield _FAMILIES
    _FAMILIES.clear()
    _FAMILIES.update(before)


class Laplace(Prior):
    def distribution(self, shape: torch.Size) -> dist.TorchDistribution:
        return dist.Laplace(0.0, 1.0).expand(shape).to_event(len(shape))


def dropout_family(prior: Prior | None = None) -> DropoutFamily:
    family = family_of("fc.weight", prior or LogUniform(), LOC, 0.0)
    assert isinstance(family, DropoutFamily)
    with torch.no_grad():
        family.log_var.copy_(LOG_VAR)
    return family


def given_family() -> GivenFamily:
    posterior = dist.Normal(LOC, (0.5 * LOG_VAR).exp()).to_event(2)
    return GivenFamily("fc.weight", posterior, psd.LogUniform().expand(LOC.shape).to_event(2))


@pytest.mark.parametrize("make", [dropout_family, given_family])
def test_no_threshold_brings_back_what_a_mask_has_removed(make: type[Family]) -> None:
    family, mask = make(), LOC > 0.06
    family.freeze(mask)
    assert torch.equal(family.keep(float("inf")), mask)
    assert not bool(family.keep(-float("inf")).any())


def test_a_pair_without_a_known_divergence_says_so(registry: dict[type[Prior], object]) -> None:
    register_family(Laplace)(DropoutFamily)
    with pytest.raises(PriorError, match=r"'fc\.weight': no KL divergence is registered from .* to .*\(Laplace\)"):
        dropout_family(Laplace()).kl()


@pytest.mark.parametrize("make", [dropout_family, given_family])
def test_the_answers_agree_with_their_definitions(make: type[Family]) -> None:
    family = make()
    log_alpha = LOG_VAR - (LOC.square() + 1e-16).log()
    torch.testing.assert_close(family.relevance(), -log_alpha)
    torch.testing.assert_close(family.mean(), LOC)
    torch.testing.assert_close(family.std(), (0.5 * LOG_VAR).exp())
    for threshold in (-1.0, 1.0, 3.0, 20.0):
        assert torch.equal(family.keep(threshold), log_alpha <= threshold)
    assert torch.equal(family.keep(), log_alpha <= DEFAULT_THRESHOLD)
    q = family.distribution()
    assert q.event_shape == LOC.shape
    torch.testing.assert_close(q.mean, LOC)
    torch.testing.assert_close(family.kl().detach(), psd.kl_log_uniform(log_alpha).sum())
    for answer in (family.relevance(), family.mean(), family.std()):
        assert not answer.requires_grad


@pytest.mark.parametrize("prior", [LogUniform(), LogUniform(kl="sigmoid"), ARD(), ARD(3.0), ARD(learn=True)])
def test_the_kl_is_that_of_the_two_distributions(prior: Prior) -> None:
    family = dropout_family(prior)
    expected = kl_divergence(family.distribution(), prior.distribution(LOC.shape))
    assert expected.shape == torch.Size()
    torch.testing.assert_close(family.kl(), expected)


@pytest.mark.parametrize("make", [dropout_family, given_family])
def test_a_mask_is_for_good(make: type[Family]) -> None:
    family = make()
    first = torch.tensor([[True, False, True], [True, True, False]])
    family.freeze(first)
    family.freeze(torch.tensor([[True, True, False], [True, True, True]]))
    alive = torch.tensor([[True, False, False], [True, True, False]])
    assert torch.equal(family.mean() != 0, alive & (LOC != 0))
    assert torch.equal(family.std() > 0, alive)
    assert torch.equal(family.relevance() == -torch.inf, ~alive)
    assert not bool(family.keep(1e6)[~alive].any())


def test_a_mask_takes_its_weights_out_of_the_kl_and_of_draws() -> None:
    family = dropout_family()
    alive = torch.tensor([[True, False, False], [True, True, False]])
    family.freeze(alive)
    log_alpha = LOG_VAR - (LOC.square() + 1e-16).log()
    torch.testing.assert_close(family.kl().detach(), psd.kl_log_uniform(log_alpha)[alive].sum())
    assert torch.equal(family.distribution().rsample() != 0, alive)
    family.kl().backward()
    assert family.loc.grad is not None and bool((family.loc.grad[~alive] == 0).all())


def test_tensors_with_the_axes_of_the_weight() -> None:
    family = dropout_family()
    assert set(family.weight_tensors()) == {"loc", "log_var"}
    family.freeze(torch.ones(2, 3, dtype=torch.bool))
    tensors = family.weight_tensors()
    assert set(tensors) == {"loc", "log_var", "frozen"}
    assert all(t.shape == LOC.shape for t in tensors.values())
    assert tensors["loc"] is family.loc


def test_the_initial_mean_is_a_copy() -> None:
    weight = LOC.clone()
    family = family_of("w", LogUniform(), weight, -5.0)
    assert isinstance(family, DropoutFamily)
    weight.zero_()
    assert torch.equal(family.mean(), LOC)
    assert family.log_var.unique().item() == -5.0


@pytest.mark.parametrize("prior", [LogUniform(), ARD(), ARD(2.0)])
def test_our_priors_get_the_dropout_family(prior: Prior) -> None:
    assert type(family_of("w", prior, LOC, -6.0)) is DropoutFamily


def test_subclasses_get_the_family_of_their_base_unless_they_have_their_own(
    registry: dict[type[Prior], object],
) -> None:
    class Mine(LogUniform):
        pass

    class MineToo(Mine):
        pass

    assert type(family_of("w", MineToo(), LOC, -6.0)) is DropoutFamily

    @register_family(Mine)
    class MyFamily(DropoutFamily):
        pass

    assert type(family_of("w", Mine(), LOC, -6.0)) is MyFamily
    assert type(family_of("w", MineToo(), LOC, -6.0)) is MyFamily
    assert type(family_of("w", LogUniform(), LOC, -6.0)) is DropoutFamily


def test_unknown_priors_are_refused() -> None:
    with pytest.raises(PriorError, match=r"site 'fc1.weight'.*Laplace.*register_family"):
        family_of("fc1.weight", Laplace(), LOC, -6.0)
    model = SparseModel(nn.Linear(4, 3), Laplace(), Categorical(num_data=10))
    with pytest.raises(PriorError, match="no posterior family is registered for the prior Laplace"):
        AutoSparse(model)


def test_a_users_own_prior_and_family_by_registration(registry: dict[type[Prior], object]) -> None:
    @register_family(Laplace)
    class Scale(Family):
        def __init__(self, site: str, prior: Prior, weight: Tensor, log_var: float) -> None:
            super().__init__(site, prior)
            self.center, self.spread = nn.Parameter(weight), nn.Parameter(torch.full_like(weight, log_var / 2))

        def distribution(self) -> dist.TorchDistribution:
            return dist.Laplace(self.center, self.spread.exp()).to_event(self.center.dim())

        def relevance(self) -> Tensor:
            return self.center.detach().abs() / self.spread.detach().exp()

        def mean(self) -> Tensor:
            return self.center.detach()

        def std(self) -> Tensor:
            return 2**0.5 * self.spread.detach().exp()

        def freeze(self, keep: Tensor) -> None:
            raise NotImplementedError

        def weight_tensors(self) -> dict[str, Tensor]:
            return {"center": self.center, "spread": self.spread}

    model = SparseModel(nn.Linear(4, 3), Laplace(), Categorical(num_data=10))
    guide = AutoSparse(model, log_var=-2.0)
    family = guide.families["weight"]
    assert isinstance(family, Scale)
    assert torch.equal(family.mean(), model.network.get_parameter("weight"))
    assert guide()["weight"].shape == (3, 4)
    expected = kl_divergence(dist.Laplace(family.center, family.spread.exp()), dist.Laplace(0.0, 1.0)).sum()
    torch.testing.assert_close(family.kl(), expected)


def test_only_gaussians_can_be_read() -> None:
    with pytest.raises(PriorError, match=r"'w': the posterior is a Independent.*Gaussians only"):
        GivenFamily("w", dist.Laplace(LOC, 1.0).to_event(2), psd.LogUniform().expand(LOC.shape).to_event(2))
