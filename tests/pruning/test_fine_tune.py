from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse.coding import quantise, quantise_aware
from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError
from pyrosparse.nn import SelectLinear
from tests.pruning.networks import mlp, ones, pair


@pytest.fixture
def pruned() -> ps.Pruned:
    network = mlp(6, 12, 3)
    masks = ones(network)
    masks["fc1"][:, 4] = False
    masks["fc1"][::2, 1] = False
    masks["fc2"][1, 5:] = False
    return ps.prune(*pair(network, masks, (6,)))


@pytest.fixture
def loader() -> TensorLoader:
    x = torch.randn(200, 6)
    return TensorLoader(x, x[:, :3].argmax(1), batch_size=40)


def test_zeros_stay_and_the_rest_learns(pruned: ps.Pruned, loader: TensorLoader) -> None:
    before, random = deepcopy(pruned), torch.get_rng_state()
    tuned = ps.fine_tune(pruned, loader, epochs=5, lr=0.01, progress=False)
    for site in pruned.masks:
        old, new = pruned.network.get_parameter(site), tuned.network.get_parameter(site)
        assert torch.equal(new == 0, old == 0)
        assert not torch.equal(new, old)
    assert isinstance(tuned.network.fc1, SelectLinear)
    assert ps.evaluate(tuned.network, loader).log_likelihood > ps.evaluate(pruned.network, loader).log_likelihood
    assert not tuned.network.training
    assert tuned.nonzero == pruned.nonzero
    # the original is as it was
    assert all(torch.equal(v, before.network.state_dict()[k]) for k, v in pruned.network.state_dict().items())
    assert pruned.report == before.report
    assert all(p.grad is None for p in pruned.network.parameters())
    assert tuned.kept is pruned.kept
    assert not torch.equal(torch.get_rng_state(), random), "the loader shuffles with torch's own generator"


def test_best_epoch_is_returned(pruned: ps.Pruned, loader: TensorLoader) -> None:
    """Of a run whose rate is far too large, the start; of a good one, an epoch that is better."""
    start = ps.evaluate(pruned.network, loader).error
    wild = ps.fine_tune(pruned, loader, epochs=2, lr=50.0, lr_schedule=lambda t: 1.0, val_loader=loader, progress=False)
    assert wild.report.error <= start
    good = ps.fine_tune(pruned, loader, epochs=10, lr=0.02, val_loader=loader, progress=False)
    assert good.report.error < start
    assert good.report.error == ps.evaluate(good.network, loader).error
    assert pruned.report.error is None


def test_start_may_be_the_best(loader: TensorLoader) -> None:
    """Labels that are the network's own: nothing can be better."""
    network = mlp(6, 12, 3)
    pruned = ps.prune(*pair(network, None, (6,)))
    with torch.no_grad():
        y = pruned.network(loader.x).argmax(1)
    own = TensorLoader(loader.x, y, batch_size=40)
    tuned = ps.fine_tune(pruned, own, epochs=2, lr=1.0, val_loader=own, progress=False)
    assert tuned.report.error == 0.0
    assert all(torch.equal(v, pruned.network.state_dict()[k]) for k, v in tuned.network.state_dict().items())


def test_no_epochs_is_a_copy(pruned: ps.Pruned, loader: TensorLoader) -> None:
    tuned = ps.fine_tune(pruned, loader, epochs=0, progress=False)
    assert tuned.network is not pruned.network
    assert all(torch.equal(v, pruned.network.state_dict()[k]) for k, v in tuned.network.state_dict().items())
    assert tuned.report.error is None


def test_likelihood_with_a_parameter_is_left_alone() -> None:
    network = mlp(6, 12, 2)
    likelihood = ps.likelihoods.Gaussian(num_data=50, scale=3.0, learn_scale=True)
    model = ps.SparseModel(network, ps.priors.LogUniform(), likelihood)
    guide = ps.guides.AutoSparse(model)
    model.input_shape = torch.Size([6])
    x = torch.randn(50, 6)
    loader = TensorLoader(x, x[:, :2] * 2.0, batch_size=10)
    pruned = ps.prune(model, guide)
    before = likelihood.log_scale.detach().clone()
    tuned = ps.fine_tune(pruned, loader, epochs=5, lr=0.02, likelihood=likelihood, progress=False)
    assert torch.equal(likelihood.log_scale, before)
    assert tuned.likelihood is not likelihood
    assert float(tuned.likelihood.log_scale.detach()) < float(before), "it is trained along"

    def error(net: nn.Module) -> Tensor:
        return (net(x) - x[:, :2] * 2.0).square().mean()

    assert error(tuned.network) < error(pruned.network)


def test_what_does_not_fit_is_refused_before_training(pruned: ps.Pruned, loader: TensorLoader) -> None:
    bad = TensorLoader(loader.x, loader.y + 1)
    with pytest.raises(DataError, match="labels must lie between 0 and 2"):
        ps.fine_tune(pruned, bad, epochs=1, progress=False)
    with pytest.raises(DataError, match="val_loader: labels lie"):
        ps.fine_tune(pruned, loader, epochs=1, val_loader=bad, progress=False)


def test_frozen_parameters_are_not_tuned(loader: TensorLoader) -> None:
    network = mlp(6, 12, 3)
    network.fc1.bias.requires_grad_(False)
    pruned = ps.prune(*pair(network, None, (6,)))
    tuned = ps.fine_tune(pruned, loader, epochs=1, lr=0.1, progress=False)
    assert torch.equal(tuned.network.fc1.bias, pruned.network.fc1.bias)
    assert not torch.equal(tuned.network.fc2.bias, pruned.network.fc2.bias)


@pytest.mark.parametrize("learn_scale", [True, False])
def test_numbers_all_the_way_to_the_file(tmp_path: Path, learn_scale: bool) -> None:
    """A regression is trained and measured as one at every station, though nobody says so again."""
    x = torch.randn(200, 6)
    y = torch.stack([2.0 * x[:, 0] - x[:, 1], x[:, 2]], 1)
    loader = TensorLoader(x, y, batch_size=20)
    torch.manual_seed(0)
    network = mlp(6, 12, 2)
    likelihood = ps.likelihoods.Gaussian(num_data=200, scale=0.5, learn_scale=learn_scale)
    model = ps.SparseModel(network, ps.priors.LogUniform(), likelihood)
    guide = ps.guides.AutoSparse(model)
    fit = ps.fit(model, guide, loader, epochs=3, lr=5e-3, val_loader=loader, device="cpu", progress=False)
    assert "val_accuracy" not in fit.history[-1]
    pruned = ps.prune(model, guide, val_loader=loader)
    assert isinstance(pruned.likelihood, ps.likelihoods.Gaussian)
    assert pruned.likelihood is not model.likelihood
    scale = pruned.likelihood.log_scale.detach().clone()

    tuned = ps.fine_tune(pruned, loader, epochs=30, lr=5e-3, val_loader=loader, progress=False)
    assert tuned.report.error < 0.7 * pruned.report.error
    assert (not torch.equal(tuned.likelihood.log_scale.detach(), scale)) == learn_scale
    assert torch.equal(pruned.likelihood.log_scale.detach(), scale)

    before = tuned.likelihood.log_scale.detach().clone()
    aware = quantise_aware(tuned, loader, c=0.5, epochs=2, val_loader=loader, progress=False)
    assert aware.report.error <= ps.evaluate(quantise(tuned, 0.5).network, loader, likelihood=likelihood).error * 1.05
    assert torch.equal(aware.likelihood.log_scale.detach(), before)
    assert torch.equal(tuned.likelihood.log_scale.detach(), before)
    assert tuned.likelihood.log_scale.grad is None

    info = ps.save(tmp_path / "net.psz", aware, val_loader=loader, tolerance=0.01)
    metrics = ps.evaluate(ps.load(tmp_path / "net.psz"), loader, likelihood=aware.likelihood)
    assert info.c is not None
    assert metrics.metric == "mean squared error"
    assert metrics.error <= ps.evaluate(aware.network, loader, likelihood=aware.likelihood).error + 0.01
