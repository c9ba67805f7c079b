from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse.distributions import DropoutNormal, LogUniform
from pyrosparse.errors import NetworkError
from tests.pruning.networks import apart, check_in_original_coordinates, loader, mlp, pair


def written(
    network: nn.Sequential, *, bias: bool = False, keep: Tensor | None = None, normal: bool = False
) -> tuple[Callable[..., Tensor], Callable[..., None]]:
    """Model and guide of mlp(6, 8, 3) with sites named after its parameters; fc1 reads the first four inputs only."""
    log_var = {name: torch.full_like(w, -4.0) for name, w in network.named_parameters() if name.endswith("weight")}
    log_var["fc1.weight"][:, 4:] = 10.0
    log_var["fc2.weight"][:, 2] = 10.0
    locs = {name: p.detach().clone() for name, p in network.named_parameters()}

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        w1 = pyro.sample("fc1.weight", LogUniform().expand([8, 6]).to_event(2))
        w2 = pyro.sample("fc2.weight", LogUniform().expand([3, 8]).to_event(2))
        b1 = pyro.sample("fc1.bias", dist.Normal(0.0, 1.0).expand([8]).to_event(1)) if bias else locs["fc1.bias"]
        logits = F.linear(F.relu(F.linear(x, w1, b1)), w2, locs["fc2.bias"])
        with pyro.plate("data", 100, subsample=x):
            return pyro.sample("obs", dist.Categorical(logits=logits), obs=y)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        for site, spread in log_var.items():
            loc = locs[site]
            if normal:
                pyro.sample(site, dist.Normal(loc, (0.5 * spread).exp()).to_event(2))
            else:
                pyro.sample(site, DropoutNormal(loc, spread, keep if site == "fc1.weight" else None).to_event(2))
        if bias:
            pyro.sample("fc1.bias", dist.Normal(torch.arange(8.0), 0.1).to_event(1))

    return model, guide


BATCH = (torch.randn(20, 6), torch.randint(0, 3, (20,)))


@pytest.mark.parametrize("normal", [False, True])
def test_pair_written_by_hand(normal: bool) -> None:
    network = mlp(6, 8, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5)
    model, guide = written(network, normal=normal)
    before = deepcopy(network.state_dict())
    pruned = ps.prune(model, guide, *BATCH, network=network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert pruned.network.fc1.index.tolist() == [0, 1, 2, 3]
    assert pruned.kept["fc1"][0].tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert pruned.network.fc2.weight.shape == (3, 7)
    assert pruned.original_parameters == 8 * 6 + 8 + 3 * 8 + 3
    check_in_original_coordinates(pruned, {n: p.detach() for n, p in network.named_parameters()})
    with torch.no_grad():
        network.fc1.weight[:, 4:] = 0.0
        network.fc2.weight[:, 2] = 0.0
    assert apart(network, pruned.network, BATCH[0]) < 1e-6
    assert "fc1.weight" in str(pruned.report)


def test_pair_written_by_hand_on_validation_data() -> None:
    network = mlp(6, 8, 3)
    model, guide = written(network)
    val = loader(6)
    pruned = ps.prune(model, guide, *BATCH, network=network, threshold="auto", val_loader=val)
    assert pruned.report.error <= pruned.report.dense_error + 0.002


def test_weights_that_the_guide_itself_has_masked() -> None:
    network = mlp(6, 8, 3)
    keep = torch.ones(8, 6, dtype=torch.bool)
    keep[:, 1] = False
    model, guide = written(network, keep=keep)
    pruned = ps.prune(model, guide, *BATCH, network=network, threshold=1000.0)
    assert torch.equal(pruned.masks["fc1.weight"], keep)
    assert pruned.network.fc1.index.tolist() == [0, 2, 3, 4, 5]


def test_bias_with_a_posterior_takes_its_mean() -> None:
    network = mlp(6, 8, 3)
    model, guide = written(network, bias=True)
    pruned = ps.prune(model, guide, *BATCH, network=network)
    assert torch.equal(pruned.network.fc1.bias, torch.arange(8.0)[pruned.kept["fc1"][0]])
    assert list(pruned.masks) == ["fc1.weight", "fc2.weight"]
    assert pruned.report.notes == [
        "fc1.bias: is not the weight of a layer that can be pruned; its posterior mean is used"
    ]
    assert not torch.equal(network.fc1.bias, torch.arange(8.0))


def test_pair_written_by_hand_needs_its_network() -> None:
    model, guide = written(mlp(6, 8, 3))
    with pytest.raises(NetworkError, match="give prune the network"):
        ps.prune(model, guide, *BATCH)
    with pytest.raises(
        NetworkError, match=r"site 'fc1.weight' is no parameter of the network \(it has 0.weight, 0.bias"
    ):
        ps.prune(model, guide, *BATCH, network=nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(
        NetworkError, match=r"site 'fc1.weight' has shape \(8, 6\), and the network's parameter \(7, 6\)"
    ):
        ps.prune(model, guide, *BATCH, network=mlp(6, 7, 3))


def test_posterior_of_biases_alone() -> None:
    network = mlp(6, 3)

    def model(x: Tensor) -> Tensor:
        return pyro.sample("fc1.bias", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    def guide(x: Tensor) -> Tensor:
        return pyro.sample("fc1.bias", dist.Normal(torch.ones(3), 1.0).to_event(1))

    with pytest.raises(
        NetworkError, match=r"none of the sites fc1.bias is the weight of a linear or convolution layer"
    ):
        ps.prune(model, guide, BATCH[0], network=network)


def test_guide_written_by_hand_for_a_sparse_model() -> None:
    network = mlp(6, 8, 3)
    model, _ = pair(network, None, (6,))
    _, guide = written(network)
    pruned = ps.prune(model, guide, *BATCH)
    assert pruned.network.fc1.weight.shape == (7, 4)

    def half(x: Tensor, y: Tensor | None = None) -> None:
        pyro.sample("fc1.weight", DropoutNormal(torch.ones(8, 6), torch.zeros(8, 6)).to_event(2))

    with pytest.raises(NetworkError, match=r"the guide has no Gaussian site for fc2.weight"):
        ps.prune(model, half, *BATCH)
