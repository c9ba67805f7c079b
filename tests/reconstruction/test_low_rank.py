"""Factorisations: optimal, only where they save, and equal to the layer they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, PruneError
from pyrosparse.nn import SelectLinear
from pyrosparse.reconstruction import factorise, low_rank, reconstruct
from pyrosparse.reconstruction.low_rank import low_rank_map, smallest_rank
from pyrosparse.reconstruction.sizes import network_bytes
from tests.reconstruction.networks import convnet, loader, mlp


def test_no_map_of_the_same_rank_is_better() -> None:
    """Against the singular value decomposition of M R^½, and against random maps."""
    M, A = torch.randn(6, 9, dtype=torch.float64), torch.randn(9, 9, dtype=torch.float64)
    R = A @ A.T / 9
    values, vectors = torch.linalg.eigh(R)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    U, found = low_rank_map(M, R)
    torch.testing.assert_close(found, torch.linalg.svdvals(M @ root).square())
    for r in range(1, 6):
        D = M - U[:, :r] @ U[:, :r].T @ M
        error = (D @ R * D).sum()
        torch.testing.assert_close(error, found[r:].sum())
        E = M - U[:, :r] @ (U[:, :r].T @ M + 0.01 * torch.randn(r, 9, dtype=torch.float64))
        assert (E @ R * E).sum() > error


def test_ranks() -> None:
    values = torch.tensor([90.0, 9.0, 0.9, 0.1], dtype=torch.float64)
    assert [smallest_rank(values, e) for e in (0.0, 0.005, 0.011, 0.2, 0.99)] == [4, 3, 2, 1, 1]
    assert smallest_rank(torch.zeros(3, dtype=torch.float64), 0.1) == 1


LAYERS = {
    "linear": (nn.Linear(40, 30), (40,)),
    "no bias": (nn.Linear(40, 30, bias=False), (40,)),
    "features": (SelectLinear(torch.arange(0, 40, 2), 40, 30), (40,)),
    "convolution": (nn.Conv2d(5, 24, (3, 2), stride=2, padding=1, dilation=(1, 2)), (5, 9, 9)),
    "circular": (nn.Conv1d(6, 24, 3, padding=1, padding_mode="circular"), (6, 11)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_for_one(name: str) -> None:
    layer, shape = LAYERS[name]
    with torch.no_grad():  # a map of rank 4
        W = layer.weight.flatten(1)
        layer.weight.copy_((torch.randn(len(W), 4) @ torch.randn(4, W.shape[1])).reshape(layer.weight.shape))
    data = TensorLoader(torch.randn(300, *shape), torch.zeros(300), 50)
    for source in (data, None):
        small, report = factorise(nn.Sequential(layer), source, error=1e-9)
        assert report["0"].rank == 4
        torch.testing.assert_close(small(data.x), layer(data.x), rtol=1e-3, atol=1e-3)
        assert report.kib == pytest.approx(network_bytes(small) / 1024)
        assert report.kib < report.kib_before
        assert all(p.requires_grad for p in small.parameters())


def test_the_error_is_what_was_said_and_the_mean_is_exact() -> None:
    data = TensorLoader(3 + torch.randn(400, 30) @ torch.randn(30, 30), torch.zeros(400), 100)
    network = nn.Sequential(nn.Linear(30, 30))
    small, report = factorise(network, data, error=0.1)
    y, y_hat = network(data.x).detach(), small(data.x).detach()
    torch.testing.assert_close(y.mean(0), y_hat.mean(0), rtol=1e-4, atol=1e-4)
    error = float((y - y_hat).square().sum() / (y - y.mean(0)).square().sum())
    assert report["0"].error == pytest.approx(error, rel=1e-3)
    assert error <= 0.1
    blind, _ = factorise(network, None, error=0.1)
    assert small[0][0].out_features < 15
    assert isinstance(blind[0], nn.Linear)  # the weights alone do not show that few directions matter


def test_a_factorisation_that_saves_nothing_is_not_made() -> None:
    network, data = convnet(), loader(1, 10, 10)
    small, report = factorise(network, data, error=0.0)
    assert all(row.rank is None for row in report.rows)
    assert report.kib == report.kib_before
    torch.testing.assert_close(small(data.x), network.eval()(data.x))


def test_the_bias_that_a_factorisation_brings_is_counted() -> None:
    """Rank 3 of 8 × 6 would save 6 numbers of 48, and costs 8 more for a bias that was not there."""
    x = torch.randn(200, 6)
    data = TensorLoader(x, torch.zeros(200), 50)
    W = torch.randn(8, 3) @ torch.randn(3, 6)
    for bias, rank in ((True, 3), (False, None)):
        network = nn.Sequential(nn.Linear(6, 8, bias=bias))
        network[0].weight.data = W
        small, report = factorise(network, data, error=1e-6)
        assert report["0"].rank == rank
        assert network_bytes(small) <= network_bytes(network)


def test_low_rank_without_data() -> None:
    network = nn.Sequential(nn.Linear(50, 40), nn.ReLU(), nn.Linear(40, 3))
    _, report = low_rank(network, error=0.3)
    assert report["0"].error <= 0.3
    assert report.ratio > 1
    small, report = low_rank(network, kib=4)
    assert 3 < report.kib <= 4
    assert network_bytes(small) / 1024 == pytest.approx(report.kib)
    for options in ({}, {"error": 0.1, "kib": 3.0}):
        with pytest.raises(ConfigError, match="and not both"):
            low_rank(network, **options)
    with pytest.raises(PruneError, match="out of reach"):
        low_rank(network, kib=0.1)
    with pytest.raises(ConfigError, match="factorisation is 1"):
        factorise(network, None, error=1.0)


def test_a_report_is_not_shared() -> None:
    network, data = mlp().eval(), loader(20)
    small, report = reconstruct(network, data, lam_ratio=0.01)
    _, first = factorise(small, data, error=0.01, report=report)
    first.notes.append("of the first")
    _, second = factorise(small, data, error=0.02, report=report)
    assert "of the first" not in [*report.notes, *second.notes]
