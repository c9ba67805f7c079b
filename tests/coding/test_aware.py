"""The quantisation-aware ending: multiples of the steps, a mask that stays, an error that does not rise."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse.coding import coarsest_ending, quantise, quantise_aware
from pyrosparse.coding.precision import layer_steps
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, DataError, PruneError
from pyrosparse.pruning import Pruned, PruneReport


def _data(seed: int) -> TensorLoader:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(400, 6, generator=generator)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
    return TensorLoader(x, y, 50)


@pytest.fixture(scope="module")
def pruned() -> Pruned:
    torch.manual_seed(0)
    net: nn.Module = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
    net = ps.train(net, _data(0), epochs=30, lr=1e-2, progress=False)
    masks: dict[str, Tensor] = {}
    sigma: dict[str, Tensor] = {}
    with torch.no_grad():
        for name in ("0.weight", "2.weight"):
            weight = net.get_parameter(name)
            masks[name] = weight.abs() > weight.abs().quantile(0.3)
            weight.mul_(masks[name])
            sigma[name] = torch.full_like(weight, 0.4) * masks[name]
    kept = {"0": (torch.arange(12), torch.arange(6)), "2": (torch.arange(2), torch.arange(12))}
    return Pruned(net, masks, sigma, kept, 110, PruneReport(threshold=3.0))


def test_weights_are_multiples_of_the_steps_and_the_mask_stays(pruned: Pruned) -> None:
    ended = quantise_aware(pruned, _data(0), c=1.0, epochs=3, progress=False)
    steps = layer_steps(dict(pruned.network.state_dict()), pruned.sigma, 1.0)
    for site, mask in pruned.masks.items():
        weight = ended.network.get_parameter(site).detach()
        levels = weight / steps[site]
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        assert not bool((weight[~mask] != 0).any())


def test_a_file_saved_with_the_same_c_holds_exactly_these_weights(pruned: Pruned, tmp_path) -> None:
    ended = quantise_aware(pruned, _data(0), c=1.0, epochs=2, progress=False)
    ps.save(tmp_path / "net.psz", ended, c=1.0)
    again = ps.load(tmp_path / "net.psz")
    for site in pruned.masks:
        torch.testing.assert_close(again.get_parameter(site), ended.network.get_parameter(site), rtol=1e-6, atol=0)


def test_it_beats_plain_rounding_at_coarse_steps(pruned: Pruned) -> None:
    val = _data(1)
    plain = ps.evaluate(quantise(pruned, 2.0).network, val).error
    ended = quantise_aware(pruned, _data(0), c=2.0, epochs=20, lr=2e-2, val_loader=val, progress=False)
    assert ended.report.error is not None
    assert ended.report.error < plain


def test_the_best_epoch_may_be_the_start(pruned: Pruned) -> None:
    val = _data(1)
    start = ps.evaluate(quantise(pruned, 0.5).network, val).error
    ended = quantise_aware(pruned, _data(0), c=0.5, epochs=1, lr=1e3, val_loader=val, progress=False)
    assert ended.report.error is not None
    # the file also rounds the biases, which the ending leaves alone: one example of 400 may differ
    assert ended.report.error <= start + 1 / 400


def test_nothing_that_was_handed_in_changes(pruned: Pruned) -> None:
    before = deepcopy(pruned.network.state_dict())
    quantise_aware(pruned, _data(0), c=1.0, epochs=1, progress=False)
    for name, value in pruned.network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("c", [0.0, -1.0, float("nan")])
def test_a_step_must_be_positive(pruned: Pruned, c: float) -> None:
    with pytest.raises(ConfigError, match="positive"):
        quantise_aware(pruned, _data(0), c=c, epochs=1)


def test_what_does_not_fit_is_refused_before_training(pruned: Pruned) -> None:
    data = _data(0)
    bad = TensorLoader(data.x, data.y + 1, 50)
    with pytest.raises(DataError, match="labels must lie between 0 and 1"):
        quantise_aware(pruned, bad, c=1.0, epochs=1, progress=False)
    with pytest.raises(DataError, match="val_loader: labels lie"):
        quantise_aware(pruned, data, c=1.0, epochs=1, val_loader=bad, progress=False)


def test_the_callers_likelihood_is_left_alone(pruned: Pruned) -> None:
    data = _data(0)
    likelihood = ps.likelihoods.Gaussian(num_data=400, learn_scale=True)
    numbers = TensorLoader(data.x, torch.nn.functional.one_hot(data.y, 2).float(), 50)
    ended = quantise_aware(pruned, numbers, c=1.0, epochs=1, likelihood=likelihood, progress=False)
    assert isinstance(ended.likelihood, ps.likelihoods.Gaussian), "the file is to be judged by it too"
    assert ended.likelihood is not likelihood
    assert float(likelihood.log_scale.detach()) == 0.0
    assert likelihood.log_scale.requires_grad
    assert likelihood.log_scale.grad is None


def test_the_coarsest_ending_within_the_tolerance(pruned: Pruned) -> None:
    val, train = _data(1), TensorLoader(_data(0).x, _data(0).y, 50, shuffle=False)
    options = {"epochs": 3, "lr": 2e-2, "val_loader": val, "progress": False}
    errors = {c: quantise_aware(pruned, train, c=c, **options).report.error for c in (0.5, 2.0, 8.0)}
    bound = ps.evaluate(pruned.network, val).error
    for tolerance in (0.0, 0.02, 0.5):
        ended, c = coarsest_ending(pruned, train, grid=(0.5, 8.0, 2.0), tolerance=tolerance, **options)
        within = [c for c, error in errors.items() if error is not None and error <= bound + tolerance]
        assert c == (max(within) if within else min(errors, key=lambda c: (errors[c], -c)))
        assert ended.report.error == errors[c]
    with pytest.raises(ConfigError, match="grid is empty"):
        coarsest_ending(pruned, _data(0), grid=(), **options)
    with pytest.raises(PruneError, match="tolerance"):
        coarsest_ending(pruned, _data(0), grid=(1.0,), tolerance=float("nan"), **options)
