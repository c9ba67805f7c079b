"""The KL by blocks: element weights in the ELBO, the control of each block, and blocks that have been sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pyro.distributions import Laplace
from torch import Tensor

from pyrosparse import SparseELBO, SparseModel, fit
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError
from pyrosparse.guides import AutoSparse, CodedFamily
from pyrosparse.infer import BlockControl
from pyrosparse.infer.schedules import mean_weight
from pyrosparse.likelihoods import Categorical
from pyrosparse.models import mlp
from pyrosparse.priors import ARD
from tests.infer.cases import CLASSES, EXAMPLES, FEATURES, batches, labelled, pair

SITE = "fc1.weight"


def coded(seed: int = 0, size: int = 6, num_data: int = EXAMPLES) -> tuple[SparseModel, AutoSparse]:
    """A net whose weights are in blocks of a few; one weight in seven is pruned."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = mlp((FEATURES, 12, CLASSES))
    model = SparseModel(network, ARD(4.0), Categorical(num_data=num_data))
    families = {}
    for name in model.sites:
        weight = network.get_parameter(name).detach().clone()
        block = torch.arange(weight.numel()).reshape(weight.shape) // size
        block[torch.arange(weight.numel()).reshape(weight.shape) % 7 == 0] = -1
        families[name] = CodedFamily(name, model.prior_of(name), weight, torch.full_like(weight, -4.0), block)
    return model, AutoSparse(model, families=families)


def test_equal_element_weights_are_one_weight() -> None:
    x, y = labelled()
    losses = []
    for scale in (0.3, None):
        model, guide = pair(prior=ARD(2.0))
        weight: float | Tensor = 0.3 if scale else torch.full(model.shape_of(SITE), 0.3)
        elbo = SparseELBO(site_scale={SITE: weight})
        torch.manual_seed(0)
        losses.append(elbo.differentiable_loss(model, guide, x, y))
    assert torch.isclose(losses[0], losses[1])


def test_element_weights_weigh_each_element() -> None:
    model, guide = pair(prior=ARD(2.0))
    x, y = labelled()
    weight = torch.rand(model.shape_of(SITE))
    elbo, zero = SparseELBO(site_scale={SITE: weight}), SparseELBO(site_scale={SITE: torch.zeros_like(weight)})
    torch.manual_seed(0)
    with_it = elbo.loss(model, guide, x, y)
    torch.manual_seed(0)
    without = zero.loss(model, guide, x, y)
    q = guide.families[SITE]
    each = 0.5 * (2.0 * (q.mean() ** 2 + q.std() ** 2) - 1 - torch.tensor(2.0).log() - 2 * q.std().log())
    assert with_it - without == pytest.approx(float((weight * each).sum()), rel=1e-4)
    assert elbo.last is not None
    assert float(elbo.last.kl[SITE]) == pytest.approx(float(each.sum()), rel=1e-4)  # terms are not weighted


def test_element_weights_need_a_registered_divergence() -> None:
    model, guide = pair()
    model.prior_of(SITE).distribution = lambda shape: Laplace(torch.zeros(shape), 1.0).to_event(2)  # type: ignore
    x, y = labelled()
    with pytest.raises(ConfigError, match="a weight for each element"):
        SparseELBO(site_scale={SITE: torch.ones(model.shape_of(SITE))}).loss(model, guide, x, y)


def test_fit_brings_each_block_to_its_bits() -> None:
    model, guide = coded(num_data=2000)
    controls = {site: BlockControl(family, bits=9.0) for site, family in guide.families.items()}
    before = torch.cat([c.block_bits() for c in controls.values()])
    x, y = labelled(examples=2000)
    history = fit(
        model, guide, TensorLoader(x, y, 50), epochs=50, lr=5e-3, lr_log_var=0.05, site_schedules=controls,
        shrink_every=0, progress=False,
    ).history  # fmt: skip
    bits = torch.cat([c.block_bits() for c in controls.values()])
    assert (before - 9.0).abs().max() > 2.0
    assert (bits - 9.0).abs().max() < 1.5
    assert history[-1]["beta_sites"][SITE] == pytest.approx(mean_weight(controls[SITE](1.0)), rel=0.1)


def test_what_is_sent_stands_still() -> None:
    model, guide = coded()
    family = guide.families[SITE]
    assert isinstance(family, CodedFamily)
    where = family.block == 2
    family.send(where, torch.full_like(family.loc, 0.25))
    control = BlockControl(family, bits=6.0)
    open_before = family.mean()[family.block == 1].clone()
    fit(model, guide, batches(), epochs=2, lr=1e-2, site_schedules={SITE: control}, shrink_every=0, progress=False)
    assert (family.mean()[where] == 0.25).all()
    assert (family.std()[where] < 1e-8).all()
    assert (family.mean()[family.block == 1] != open_before).all()
    assert (family.mean()[family.block < 0] == 0).all()
    weights = control(0.5)
    assert (weights[where] == 0).all() and (weights[family.block < 0] == 0).all()
    assert float(family.log_beta[2]) == 0.0
    assert (family.log_beta[[0, 1]] != 0).all()


def test_a_resumed_run_has_the_same_weights(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(state: object) -> None:
        if state.epoch == 3:  # type: ignore[attr-defined]
            raise StopError

    def run(folder: Path, **options: object) -> Tensor:
        model, guide = coded()
        family = guide.families[SITE]
        assert isinstance(family, CodedFamily)
        fit(
            model, guide, batches(), epochs=5, seed=1, shrink_every=0, progress=False, checkpoint=folder,
            site_schedules={SITE: BlockControl(family, bits=6.0)}, **options,
        )  # fmt: skip
        return family.log_beta

    whole = run(tmp_path / "whole")
    with pytest.raises(StopError):
        run(tmp_path / "parts", callbacks=stop)
    assert torch.equal(run(tmp_path / "parts", resume=True), whole)


@pytest.mark.parametrize("option", [{"bits": 0.0}, {"bits": 3.0, "gain": -1.0}, {"bits": 3.0, "limit": float("inf")}])
def test_numbers_must_be_positive(option: dict[str, float]) -> None:
    _, guide = coded()
    with pytest.raises(ConfigError, match="positive"):
        BlockControl(guide.families[SITE], **option)
