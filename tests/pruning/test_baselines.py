"""Baselines: pruning by size, ℓ1 on sizes, k-means; of complex weights by modulus and in the plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse.coding.kmeans import kmeans
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, PruneError, PyrosparseWarning
from pyrosparse.layers import sparse_layers
from pyrosparse.pruning import l1_prune, magnitude_prune
from pyrosparse.reconstruction import magnitude
from tests.complex_networks import convnet, dense, randomise


def data() -> TensorLoader:
    x = torch.randn(256, 6)
    return TensorLoader(x, (x[:, 0] > 0).long(), 64)


def sizes(network: nn.Module) -> dict[str, Tensor]:
    return {f"{n}.weight": torch.view_as_complex(m.weight.detach()).abs() for n, m in sparse_layers(network).items()}


def test_the_largest_moduli_are_kept(tmp_path: Path) -> None:
    network = randomise(convnet())
    small = magnitude_prune(network, torch.randn(4, 1, 8, 8), density=0.3)
    before = sizes(network)
    relative = torch.cat([(s / s.square().mean().sqrt()).flatten() for s in before.values()])
    least = relative.sort(descending=True).values[round(0.3 * len(relative)) - 1]
    kept = sum(int(mask.sum()) for mask in small.masks.values())
    assert round(0.3 * len(relative)) <= kept <= 1.01 * 0.3 * len(relative) + 1  # units that died are made up for
    largest = 0
    for site, size in before.items():
        largest += int((small.masks[site] & (size / size.square().mean().sqrt() >= least * (1 - 1e-6))).sum())
    assert largest > 0.8 * kept
    assert small.report.difference < 1e-4 and small.sigma == {}
    ps.save(tmp_path / "net.psz", small)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(ps.load(tmp_path / "net.psz")(x), small.network(x), atol=0.05, rtol=0)
    tuned = ps.fine_tune(small, TensorLoader(torch.randn(8, 1, 8, 8), torch.arange(8) % 3, 4), epochs=1, progress=False)
    assert tuned.nonzero == small.nonzero


def test_with_retraining_both_parts_go_together() -> None:
    network = dense(6, 10, 2)
    small, report = magnitude(network, data(), density=0.25, rounds=2, epochs=1)
    kept = 0
    for name, layer in sparse_layers(small).items():
        alive = layer.weight != 0
        assert torch.equal(alive.any(-1), alive.all(-1)), name
        kept += int(alive.any(-1).sum())
    assert kept == round(0.25 * 80) and report.kib < report.kib_before


def test_l1_makes_moduli_zero() -> None:
    loader = data()
    network = ps.infer.train(dense(6, 10, 2), loader, epochs=5, lr=0.01, progress=False)
    free = l1_prune(network, loader, penalty=0.0, epochs=1, lr=0.01, progress=False)
    assert free.report.kept == free.report.total
    small = l1_prune(network, loader, penalty=0.06, epochs=30, lr=0.01, val_loader=loader, progress=False)
    assert small.report.ratio > 2 and small.report.error is not None and small.report.error < 0.1
    for site in small.masks:
        assert bool(small.network.get_parameter(site).isfinite().all())
    # the input that says nothing is gone first
    assert int(small.masks["fc1.weight"][:, 0].sum()) == int(small.masks["fc1.weight"].sum(0).max())


def test_l1_of_one_weight_is_the_closed_form() -> None:
    """Minimum of ½E|y − Re(x̄ w)|² + λ|w|, E over Re x and Im x of variance 1: w shrinks by λ along its direction."""
    x = torch.randn(2000, 1, dtype=torch.complex64) * 2**0.5
    w = torch.tensor(0.6 - 0.8j)
    loader = TensorLoader(x, (x * w).real, 2000)
    network = nn.Sequential(psnn.ComplexLinear(1, 1, bias=False), psnn.RealPart())
    likelihood = ps.likelihoods.Gaussian(num_data=2000)
    found = l1_prune(network, loader, penalty=0.3, epochs=500, lr=0.01, likelihood=likelihood, progress=False)
    got = torch.view_as_complex(found.network[0].weight.detach()).squeeze()
    assert complex(got) == pytest.approx(complex(0.7 * w), abs=0.06)


def test_centres_in_the_plane() -> None:
    small = magnitude_prune(dense(6, 10, 3), torch.randn(2, 6), density=0.6)
    coded = kmeans(small, clusters=4)
    for site, alive in small.alive().items():
        centres = torch.from_numpy(coded.centres[site])
        before = small.network.get_parameter(site).detach()[alive]
        after = coded.pruned.network.get_parameter(site).detach()[alive]
        nearest = torch.cdist(before, centres).argmin(1)
        assert torch.equal(after, centres[nearest]) and centres.shape == (4, 2)
        assert torch.equal(coded.pruned.alive()[site], alive)
    kept = sum(int(a.sum()) for a in small.alive().values())
    # two bits an index at most, and two layers of four centres of two numbers
    assert coded.bytes <= (2 * kept + sum(a.numel() for a in small.alive().values())) / 8 + 2 * 4 * 2 * 4
    exact = kmeans(small, clusters=10_000)
    for site in small.masks:
        torch.testing.assert_close(exact.pruned.network.get_parameter(site), small.network.get_parameter(site))
    real = magnitude_prune(nn.Sequential(nn.Linear(6, 5)), torch.randn(2, 6), density=0.5)
    assert kmeans(real, clusters=2).centres["0.weight"].shape == (2, 1)
    assert len(np.unique(kmeans(real, clusters=2).pruned.network[0].weight.detach())) <= 3


def test_as_many_weights_stay_as_asked_for_where_units_die() -> None:
    """Few weights of many units: most of the largest stand in units that nothing reaches."""
    network = nn.Sequential(nn.Linear(30, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 3))
    small = magnitude_prune(network, torch.randn(4, 30), density=0.01)
    total = 30 * 200 + 200 * 100 + 100 * 3
    assert round(0.01 * total) <= small.report.kept <= 1.01 * 0.01 * total + 1
    assert small.network[0].out_features < 200


def test_l1_keeps_a_share_of_what_it_leaves() -> None:
    loader = data()
    network = dense(6, 10, 2)
    small = l1_prune(network, loader, penalty=1e-3, epochs=1, lr=0.01, density=0.25, progress=False)
    assert 0.25 * small.report.total <= small.report.kept <= 0.3 * small.report.total  # whole units at a time
    with pytest.raises(PruneError, match=r"penalty of 1000.0 leaves no weight"):
        l1_prune(network, loader, penalty=1000.0, epochs=1, progress=False)


def test_bad_options() -> None:
    network, x = dense(4, 3), torch.randn(2, 4)
    with pytest.raises(ConfigError, match="density is 0"):
        magnitude_prune(network, x, density=0)
    with pytest.raises(ConfigError, match="penalty is -1"):
        l1_prune(network, data(), penalty=-1, epochs=1)
    with pytest.raises(ConfigError, match="penalty is inf"):
        l1_prune(network, data(), penalty=float("inf"), epochs=1)
    with pytest.raises(ConfigError, match="l1_prune: density is 2"):
        l1_prune(network, data(), penalty=0.1, epochs=1, density=2)
    with pytest.raises(ConfigError, match="density is '0.5'"):
        magnitude_prune(network, x, density="0.5")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="clusters is 0"):
        kmeans(magnitude_prune(network, x, density=1.0), clusters=0)


def test_l1_leaves_frozen_weights_alone() -> None:
    network = dense(6, 10, 2)
    layers = sparse_layers(network)
    first = next(iter(layers))
    layers[first].weight.requires_grad_(False)
    before = layers[first].weight.detach().clone()
    with pytest.warns(PyrosparseWarning, match=rf"l1_prune: the weights of '{first}' are frozen"):
        small = l1_prune(network, data(), penalty=0.05, epochs=3, progress=False)
    assert torch.equal(sparse_layers(small.network)[first].weight, before) and f"{first}.weight" not in small.masks
    for layer in layers.values():
        layer.weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="weights of all layers are frozen"):
        l1_prune(network, data(), penalty=0.05, epochs=1, progress=False)


class Tied(nn.Module):
    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(3, 3, bias=False) for _ in range(3))
        if shared:
            self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x))) * 0.0


def test_l1_shrinks_shared_weights_once() -> None:
    loader = TensorLoader(torch.randn(64, 3), torch.zeros(64, dtype=torch.int64), 64)
    network = Tied(shared=True)
    small = l1_prune(network, loader, penalty=1e-2, epochs=4, lr=0.01, density=1.0, progress=False).network
    lost = [(p - q).abs().max() for p, q in ((network.a.weight, small.a.weight), (network.c.weight, small.c.weight))]
    torch.testing.assert_close(lost[0], lost[1], rtol=1e-3, atol=1e-6)
