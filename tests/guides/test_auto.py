"""AutoSparse: a family for every site, starting at the network's weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import nn

from pyrosparse import SparseModel, guides
from pyrosparse.errors import NetworkError, PriorError
from pyrosparse.guides import ARD, AutoSparse, SparseVD
from pyrosparse.likelihoods import Categorical
from pyrosparse.models import mlp
from pyrosparse.priors import ARD as ARDPrior
from pyrosparse.priors import LogUniform


def model_of(prior: Any = None, **options: Any) -> SparseModel:
    return SparseModel(mlp((4, 5, 3)), prior or LogUniform(), Categorical(num_data=10), **options)


def test_a_family_for_every_site_in_the_models_order() -> None:
    model = model_of()
    guide = AutoSparse(model)
    assert list(guide.families) == list(model.sites)
    for site, family in guide.families.items():
        assert family.site == site and family.prior is model.prior_of(site)


def test_means_start_at_the_weights_and_variances_where_told() -> None:
    network = mlp((4, 5, 3))
    model = SparseModel(network, LogUniform(), Categorical(num_data=10))
    for log_var in (-6.0, -10.0):
        guide = AutoSparse(model, log_var=log_var)
        for site, family in guide.families.items():
            assert torch.equal(family.mean(), network.get_parameter(site))
            torch.testing.assert_close(family.std(), torch.full_like(family.mean(), log_var / 2).exp())
    assert AutoSparse(model).families["fc1.weight"].log_var.unique().item() == -6.0


def test_the_means_are_the_guides_own() -> None:
    model = model_of()
    guide = AutoSparse(model)
    with torch.no_grad():
        guide.families["fc1.weight"].loc.fill_(3.0)
    assert float(model.network.get_parameter("fc1.weight").max()) < 3.0
    other = AutoSparse(model)
    assert float(other.families["fc1.weight"].mean().max()) < 3.0


def test_draws_every_site_whatever_the_data() -> None:
    model = model_of()
    guide = AutoSparse(model)
    trace = poutine.trace(guide).get_trace(torch.randn(2, 4), torch.zeros(2))
    assert set(trace.stochastic_nodes) == set(model.sites)
    drawn = guide()
    assert {site: w.shape for site, w in drawn.items()} == {site: s.shape for site, s in model.sites.items()}


def test_draws_have_the_posteriors_moments() -> None:
    guide = AutoSparse(model_of(), log_var=-1.0)
    family = guide.families["fc2.weight"]
    n = 4000
    with torch.no_grad():
        draws = torch.stack([guide()["fc2.weight"] for _ in range(n)])
    std = family.std()
    assert float(((draws.mean(0) - family.mean()) / std).abs().max()) < 5 / n**0.5
    assert float((draws.std(0) / std - 1).abs().max()) < 5 / (2 * n) ** 0.5


def test_parameters_and_state() -> None:
    guide = AutoSparse(model_of())
    assert {name.rsplit(".", 1)[1] for name, _ in guide.named_parameters()} == {"loc", "log_var"}
    assert sum(p.numel() for p in guide.parameters()) == 2 * (20 + 15)
    other = AutoSparse(model_of())
    other.load_state_dict(guide.state_dict())
    assert torch.equal(other.families["fc1.weight"].loc, guide.families["fc1.weight"].loc)


def test_masks_are_a_part_of_the_state() -> None:
    guide, other = AutoSparse(model_of()), AutoSparse(model_of())
    keep = torch.rand(5, 4) > 0.5
    guide.families["fc1.weight"].freeze(keep)
    state = deepcopy(guide.state_dict())
    other.load_state_dict(state)
    assert torch.equal(other.families["fc1.weight"].frozen, keep)
    assert other.families["fc2.weight"].frozen is None
    # and a state from before the mask was fixed has none
    guide.load_state_dict(AutoSparse(model_of()).state_dict())
    assert guide.families["fc1.weight"].frozen is None


def test_mixed_priors() -> None:
    model = model_of(LogUniform(), priors={"fc2": ARDPrior()})
    guide = AutoSparse(model)
    assert isinstance(guide.families["fc1.weight"].prior, LogUniform)
    assert isinstance(guide.families["fc2.weight"].prior, ARDPrior)
    for kind, site in ((SparseVD, "fc2.weight"), (ARD, "fc1.weight")):
        with pytest.raises(PriorError, match=rf"{kind.__name__}: site '{site}'.*use AutoSparse"):
            kind(model)


def test_single_methods_refuse_others() -> None:
    assert SparseVD(model_of(LogUniform()), log_var=-4.0).families["fc1.weight"].log_var.unique().item() == -4.0
    assert set(ARD(model_of(ARDPrior())).families) == {"fc1.weight", "fc2.weight"}
    with pytest.raises(PriorError, match="SparseVD: site 'fc1.weight' has the prior ARD"):
        SparseVD(model_of(ARDPrior()))
    with pytest.raises(PriorError, match="ARD: site 'fc1.weight' has the prior LogUniform"):
        guides.ARD(model_of(LogUniform()))


def test_a_bare_network_is_refused() -> None:
    with pytest.raises(NetworkError, match="needs a SparseModel, not a Linear"):
        AutoSparse(nn.Linear(2, 2))
    with pytest.raises(NetworkError, match="SparseVD needs a SparseModel, not the class SparseModel"):
        SparseVD(SparseModel)  # type: ignore[arg-type]


def test_families_must_be_those_of_every_site() -> None:
    model = model_of()
    ready = dict(AutoSparse(model).families)
    missing = ready.pop(next(iter(ready)))
    with pytest.raises(PriorError, match=f"families has none for site '{missing.site}'"):
        AutoSparse(model, families=ready)


@pytest.mark.parametrize("log_var", [float("nan"), float("inf"), "-6", None])
def test_an_initial_log_variance_must_be_finite(log_var: Any) -> None:
    with pytest.raises(PriorError, match="log_var is"):
        AutoSparse(model_of(), log_var=log_var)


def test_the_guide_of_a_network_that_is_one_layer() -> None:
    model = SparseModel(nn.Linear(4, 3), LogUniform(), Categorical(num_data=10))
    assert set(AutoSparse(model)()) == {"weight"}
