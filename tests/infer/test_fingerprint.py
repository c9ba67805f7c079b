"""What a run that goes on must have in common with its start, where priors have scales and parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import guides, priors
from pyrosparse.data import TensorLoader
from pyrosparse.errors import CheckpointError
from pyrosparse.infer.evaluate import Batches
from pyrosparse.infer.fingerprint import check_same_run, fingerprint
from pyrosparse.infer.optimizer import adam
from pyrosparse.infer.pair import tied_sites
from pyrosparse.infer.settings import FitSettings
from pyrosparse.likelihoods import Categorical


def described(prior: priors.Prior, *, lr_scale: float = 0.1, data: Batches = (), **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model = ps.SparseModel(nn.Linear(4, 3), prior, Categorical(num_data=10))
    guide = guides.AutoSparse(model, **options)
    return fingerprint(FitSettings(epochs=1, lr_scale=lr_scale), model, guide, data, per_epoch=1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (priors.GroupLogUniform(), priors.GroupLogUniform(kl="sigmoid")),
        (priors.GroupHorseshoe(individual=priors.LogUniform()), priors.GroupHorseshoe(individual=priors.ARD())),
        (priors.GroupHorseshoe(1e-5), priors.GroupHorseshoe(1e-4)),
        (priors.L0(0.1), priors.L0(0.2)),
    ],
)
def test_parts_of_a_prior_tell_runs_apart(first: priors.Prior, second: priors.Prior) -> None:
    assert described(first) == described(first)
    assert described(first) != described(second)


def test_so_do_the_rate_of_scales_caps_and_the_criterion() -> None:
    prior = priors.GroupLogUniform()
    assert described(prior, lr_scale=0.1) != described(prior, lr_scale=0.2)
    assert described(prior) != described(prior, max_std=0.2)
    assert described(prior) != described(prior, criterion="information")
    # without scales their rate is read by nobody
    assert described(priors.LogUniform(), lr_scale=0.1) == described(priors.LogUniform(), lr_scale=0.2)
    assert described(priors.LogUniform()) != described(priors.LogUniform(), max_std=0.2)


def test_so_do_data_in_memory() -> None:
    x, y = torch.arange(8.0).reshape(2, 4), torch.tensor([0, 1])
    first, other = TensorLoader(x, y, 2), TensorLoader(x.flip(0), y, 2)
    assert described(priors.ARD(), data=first) == described(priors.ARD(), data=TensorLoader(x.clone(), y, 2))
    assert described(priors.ARD(), data=first) != described(priors.ARD(), data=other)
    now = described(priors.ARD(), data=first)
    folder = Path("run")
    with pytest.raises(CheckpointError, match="data was"):
        check_same_run(described(priors.ARD(), data=other), now, folder, finished=False)
    check_same_run(described(priors.ARD()), now, folder, finished=False)  # a checkpoint that does not know its data


def test_a_layer_called_scale_has_the_rate_of_layers() -> None:
    parameters = {
        name: nn.Parameter(torch.zeros(1)) for name in ("model.network.scale.bias", "_families.fc.scale.log_loc")
    }
    optimizer = adam(parameters.items(), lr=1.0, lr_scale=2.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in parameters.values()] == [1.0, 2.0]


def test_the_scales_of_a_tied_weight_get_a_real_draw_too() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    model = ps.SparseModel(network, priors.GroupHorseshoe(), Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    assert tied_sites(model, guide) == ["0.weight", "0.scale.layer", "0.scale.group"]
    with ps.poutine.local_reparam(exclude=tied_sites(model, guide)):
        assert type(guide()["0.weight"]) is torch.Tensor
    assert tied_sites(model, lambda x: None) == ["0.weight"]
