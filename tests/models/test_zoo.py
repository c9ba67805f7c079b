"""The networks: their sizes are those of the papers, and each has a ready Pyro model."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from pyro.infer import Predictive
from torch import nn

import pyrosparse as ps
from pyrosparse import SparseELBO, models
from pyrosparse.errors import ConfigError
from pyrosparse.guides import AutoSparse
from pyrosparse.priors import ARD, LogUniform

SHAPES = {"digits_mlp": (1, 8, 8), "lenet_300_100": (1, 28, 28), "lenet_5_caffe": (1, 28, 28)}
WEIGHTS = {"digits_mlp": 50_200, "lenet_300_100": 266_200, "lenet_5_caffe": 430_500}
BIASES = {"digits_mlp": 410, "lenet_300_100": 410, "lenet_5_caffe": 580}
SMALL = list(SHAPES)


@pytest.mark.parametrize("name", SMALL)
def test_sizes_and_shapes(name: str) -> None:
    network = models.build(name)
    assert type(network) is nn.Sequential
    assert network(torch.randn(2, *SHAPES[name])).shape == (2, 10)
    counts = {
        kind: sum(p.numel() for n, p in network.named_parameters() if n.endswith(kind)) for kind in ("weight", "bias")
    }
    assert counts == {"weight": WEIGHTS[name], "bias": BIASES[name]}


@pytest.mark.parametrize("name", ["digits_mlp", "lenet_300_100"])
def test_flat_images_too(name: str) -> None:
    network = models.build(name).eval()
    x = torch.randn(2, *SHAPES[name])
    torch.testing.assert_close(network(x), network(x.flatten(1)))


def test_names_of_the_layers() -> None:
    assert [n for n, _ in models.lenet_300_100().named_children()] == ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3"]
    assert [n for n, m in models.lenet_5_caffe().named_children() if isinstance(m, nn.Conv2d | nn.Linear)] == [
        "conv1", "conv2", "fc1", "fc2",
    ]  # fmt: skip


def test_options() -> None:
    assert models.lenet_5_caffe(7, channels=(2, 3), hidden=4)(torch.randn(1, 1, 28, 28)).shape == (1, 7)
    assert models.build("lenet_300_100", num_classes=4)(torch.randn(1, 784)).shape == (1, 4)
    network = models.mlp((3, 4, 5, 2))
    assert [n for n, _ in network.named_children()] == ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3"]
    assert [n for n, _ in models.mlp((3, 2)).named_children()] == ["flatten", "fc1"]
    assert models.mlp(np.array([3, 2]))(torch.randn(1, 3)).shape == (1, 2)  # type: ignore[arg-type]
    for sizes in ((), (3,), (3, 0, 2), (3, -1), (3, 2.0), "abc"):
        with pytest.raises(ConfigError, match="sizes are"):
            models.mlp(sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SMALL)
def test_ready_pyro_models(name: str) -> None:
    model = models.sparse(name, num_data=600)
    assert all(isinstance(model.prior_of(site), LogUniform) for site in model.sites)
    assert model.original_parameters == WEIGHTS[name] + BIASES[name]
    assert sum(site.total for site in model.sites.values()) == WEIGHTS[name]
    guide = AutoSparse(model)
    x = torch.randn(2, *SHAPES[name])
    assert Predictive(model, guide=guide, num_samples=1)(x)["obs"].shape == (1, 2)
    terms = SparseELBO().terms(model, guide, x, torch.tensor([0, 9]))
    assert set(terms.kl) == set(model.sites)
    assert float(terms.log_likelihood) < 0 < float(terms.total_kl)


def test_another_prior_and_options() -> None:
    model = models.sparse("digits_mlp", num_data=10, prior=ARD(2.0), num_classes=4)
    assert isinstance(model.prior_of("fc1.weight"), ARD)
    assert model.sites["fc3.weight"].shape == (4, 100)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'lenet300100' in the zoo; did you mean 'lenet_300_100'"):
        models.build("lenet300100")


def test_every_network_is_public() -> None:
    assert set(models.ZOO) < set(models.__all__)
    assert ps.models is models
    for name in models.ZOO:
        assert models.ZOO[name] is getattr(models, name)
        assert inspect.getdoc(models.ZOO[name])
