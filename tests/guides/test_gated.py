"""Weights behind gates: their moments, what they cost, and how they are judged while a fit goes on."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

import pyrosparse as ps
from pyrosparse import SparseModel
from pyrosparse.distributions import HardConcrete, L0Prior
from pyrosparse.guides import AutoSparse, Criterion, GroupFamily
from pyrosparse.guides.scale import Gate
from pyrosparse.infer.schedules import constant, warm_up
from pyrosparse.likelihoods import Categorical
from pyrosparse.priors import L0, GroupLogUniform
from tests.infer.cases import batches, pair

SHAPE = torch.Size((4, 5))


def gated(prior: L0) -> GroupFamily:
    """Posterior of one linear layer with gates."""
    model = SparseModel(nn.Sequential(nn.Linear(5, 4)), prior, Categorical(num_data=10))
    (family,) = AutoSparse(model, log_var=-3.0).families.values()
    assert isinstance(family, GroupFamily) and isinstance(family.scale, Gate)
    with torch.no_grad():
        family.weights.loc.normal_()
    return family


@pytest.mark.parametrize("slab", ["point", "normal"])
def test_moments_of_gated_weights_are_those_of_draws(slab: str) -> None:
    """The deviation is that around E z · μ; the mean is what is left in the network, with the gate at test time."""
    family = gated(L0(slab=slab))
    with torch.no_grad():
        family.scale.log_alpha.copy_(torch.linspace(-3.0, 3.0, SHAPE[1])[None])
    count = 200_000
    w = family.draws(count, torch.arange(SHAPE.numel())).reshape(count, *SHAPE)
    error = ((w - w.mean(0)).pow(4).mean(0) / count).sqrt() + 1e-6
    assert bool(((w.var(0) - family.std().square()).abs() < 5 * error).all())
    expected = family.scale.expected() * family.weights.mean()
    assert bool(((w.mean(0) - expected).abs() < 5 * family.std() / count**0.5 + 1e-6).all())
    at_test_time = HardConcrete(family.scale.log_alpha.detach()).gate
    torch.testing.assert_close(family.mean(), at_test_time * family.weights.mean())
    # what the posterior knows of the weights is of one distribution: E z with Var z
    family.criterion = Criterion.INFORMATION
    nats = (0.5 * torch.log1p((w.mean(0) / w.std(0)).square())).sum(0, keepdim=True)
    torch.testing.assert_close(family.relevance()[:1], (nats / 2.0).log() - 3.0, rtol=0.02, atol=0.02)


def test_the_price_of_a_gate_is_for_the_weights_that_are_left() -> None:
    """A mask of single weights: λ for each of those that stay behind an open gate, in the ELBO and in `kl`."""
    family = gated(L0(0.3, slab="normal"))
    keep = torch.rand(SHAPE) < 0.5
    keep[:, 0] = False  # a whole group
    keep[0, 1:] = True
    family.freeze(keep)
    open_ = HardConcrete(family.scale.log_alpha.detach()).presence
    expected = 0.3 * (open_ * keep).sum()
    torch.testing.assert_close(family.scale.kl(SHAPE), expected)
    (q,) = family.hidden().values()
    p = L0Prior(0.3 * SHAPE[0]).expand(q.event_shape).to_event(1)
    torch.testing.assert_close(kl_divergence(q, p), expected)


def test_criterion_of_information_waits_for_the_kl() -> None:
    """Means that cross 0 while the KL is still rising cost no unit; once it rises no more, they do."""

    def left(schedule: object, criterion: Criterion) -> list[int]:
        torch.manual_seed(0)
        model, guide = pair(prior=GroupLogUniform(groups="input"))
        site = list(model.sites)[-1]
        guide.families[site].criterion = criterion
        family = guide.families[site]
        assert isinstance(family, GroupFamily)

        def dead(*_: object) -> None:
            with torch.no_grad():  # the means of one group are 0, by whatever scale
                family.weights.loc[:, 0] = 0.0

        widths: list[int] = []

        def look(state: object) -> None:
            dead()
            widths.append(model.network.get_parameter(site).shape[1])

        dead()
        ps.fit(
            model, guide, batches(), epochs=6, lr=1e-6, lr_log_var=1e-6, lr_scale=1e-6, kl_schedule=schedule,
            device="cpu", progress=False, seed=0, callbacks=look,
        )  # fmt: skip
        return widths

    whole = left(constant(), Criterion.SCALE)[0]
    assert left(constant(), Criterion.INFORMATION)[1] == whole - 1
    widths = left(warm_up(until=0.5), Criterion.INFORMATION)
    # dead at two looks in a row, the first of them when the KL has its full weight
    assert widths[:3] == [whole] * 3
    assert widths[3] == whole - 1
