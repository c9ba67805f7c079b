"""Weights that two layers share: one tensor in the file, and one parameter in the network that is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import coding
from pyrosparse.coding import container, psz
from pyrosparse.coding.adaptive import Walk
from pyrosparse.coding.content import Content
from pyrosparse.coding.decode import read_specs
from pyrosparse.coding.precision import Plan, make_plan
from pyrosparse.errors import CorruptFileError, NetworkError
from tests.coding.networks import equal, thin
from tests.coding.test_golden import NEWEST, assert_as_before, numbers


class Twins(nn.Module):
    """A class that files do not know; it reads and writes by the same matrix."""

    def __init__(self, size: int = 30, *, tied: bool = True) -> None:
        super().__init__()
        self.into, self.middle, self.out = nn.Linear(size, size), nn.PReLU(), nn.Linear(size, size)
        if tied:
            self.out.weight = self.into.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.middle(self.into(x)))


def stack(size: int = 30, *, tied: bool = True) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 4))
    if tied:
        network[2].weight = network[0].weight
    return network.eval()


def deviations(network: nn.Module, name: str) -> dict[str, Tensor]:
    weight = network.get_parameter(name)
    return {name: thin(weight, weight.numel() // 4, torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("rounded", [False, True])
def test_a_shared_matrix_is_sent_once(tmp_path: Path, rounded: bool) -> None:
    network = stack()
    sigma = deviations(network, "0.weight") if rounded else None
    info = coding.save(tmp_path / "one.psz", network, sigma=sigma)
    apart = stack(tied=False)
    apart.load_state_dict(network.state_dict())
    both = None if sigma is None else sigma | {"2.weight": sigma["0.weight"]}
    twice = coding.save(tmp_path / "two.psz", apart, sigma=both)
    shared = {layer.name: layer for layer in info.layers}
    assert (shared["2.weight"].codec, shared["2.weight"].bytes) == ("w", 0)
    second = next(layer.bytes for layer in twice.layers if layer.name == "2.weight")
    assert info.bytes <= twice.bytes - second + 12
    assert info.architecture
    assert info.original_bytes == 4 * sum(p.numel() for p in network.parameters())
    assert info.nonzero == sum(int((p != 0).sum()) for p in coding.load(tmp_path / "one.psz").parameters())
    loaded = coding.load(tmp_path / "one.psz")
    assert loaded[2].weight is loaded[0].weight
    assert equal(loaded, coding.load(tmp_path / "two.psz"))  # nothing else has changed
    if not rounded:
        assert equal(loaded, network)


def test_what_the_plan_measures_is_what_is_read(tmp_path: Path) -> None:
    network = Twins()
    sigma = deviations(network, "into.weight")
    coding.save(tmp_path / "net.psz", network, sigma=sigma, c=1.0)
    loaded = coding.load(tmp_path / "net.psz", network=Twins())
    assert equal(loaded, make_plan(network, sigma, 1.0).apply(network))


def test_the_name_with_deviations_is_the_one_that_is_sent(tmp_path: Path) -> None:
    network = stack()
    info = coding.save(tmp_path / "net.psz", network, sigma=deviations(network, "2.weight"), c=0.5)
    assert [layer.codec for layer in info.layers if layer.name.endswith("weight")][:2][0] == "w"
    assert {layer.step > 0 for layer in info.layers if layer.name in {"0.bias", "2.bias"}} == {True}
    loaded = coding.load(tmp_path / "net.psz")
    assert loaded[2].weight is loaded[0].weight
    assert [name for name, _ in coding.iter_tensors(tmp_path / "net.psz")][-1] == "0.weight"


@pytest.mark.parametrize("tied", [True, False])
def test_a_class_of_ones_own_is_tied_as_the_file_says(tmp_path: Path, tied: bool) -> None:
    network = Twins().eval()
    coding.save(tmp_path / "net.psz", network)
    template = Twins(40, tied=tied)
    loaded = coding.load(tmp_path / "net.psz", network=template)
    assert equal(loaded, network)
    assert loaded.out.weight is loaded.into.weight
    assert (template.out.weight is template.into.weight) == tied
    with pytest.raises(NetworkError, match="whole"):
        coding.load(tmp_path / "net.psz")


def test_a_layer_that_stands_twice(tmp_path: Path) -> None:
    layer = nn.Linear(6, 6)
    network = nn.Sequential(layer, nn.ReLU(), layer).eval()
    coding.save(tmp_path / "net.psz", network)
    loaded = coding.load(tmp_path / "net.psz", network=copy.deepcopy(network))
    assert equal(loaded, network)
    assert loaded[0].weight is loaded[2].weight


def test_compressed_rows_are_shared_too(tmp_path: Path) -> None:
    coding.save(tmp_path / "net.psz", stack())
    loaded = coding.load(tmp_path / "net.psz", layout="csr")
    assert loaded[0].weight is loaded[2].weight
    tensors = coding.read_tensors(tmp_path / "net.psz", layout="csr")
    assert list(tensors) == list(stack().state_dict())
    assert tensors["0.weight"] is tensors["2.weight"]


def test_from_posterior_to_file(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    network[2].weight = network[0].weight
    model = ps.SparseModel(network, ps.priors.LogUniform(), ps.likelihoods.Categorical(64))
    x = torch.randn(64, 8)
    data = [(x, (x[:, 0] > 0).long())]
    guide = ps.guides.AutoSparse(model)
    ps.fit(model, guide, data, epochs=2, shrink_every=0, progress=False)
    small = ps.prune(model, guide, threshold=3.0)
    ps.save(tmp_path / "net.psz", small, c=0.5)
    loaded = coding.load(tmp_path / "net.psz")
    assert loaded[0].weight is loaded[2].weight
    assert torch.equal(loaded(x), coding.quantise(small, 0.5).network(x))


def claim(tmp_path: Path, **changed: Any) -> Path:
    """A file with another header over the same payload."""
    coding.save(tmp_path / "net.psz", stack())
    frame = container.read(tmp_path / "net.psz")
    (tmp_path / "net.psz").write_bytes(container.pack(frame.header | changed, frame.payload, frame.padding))
    return tmp_path / "net.psz"


@pytest.mark.parametrize("targets", [None, [], [0, 0], [2], [1], [-1], [4], [6], ["0.weight"], [0.0], [True], {}, 3])
def test_other_claims_are_refused(tmp_path: Path, targets: object) -> None:
    path = claim(tmp_path, w=targets)
    for read in (coding.load, coding.read_tensors, coding.info):
        with pytest.raises(CorruptFileError, match="shared|shares"):
            read(path)


def test_only_parameters_are_shared(tmp_path: Path) -> None:
    tree = ["Q", ["B1", 5], ["B1", 5]]
    letters = "xxxxi" + "xxwxi"
    (tmp_path / "net.psz").write_bytes(container.pack({"a": tree, "k": letters, "o": 20, "w": [2]}, b""))
    with pytest.raises(CorruptFileError, match="no parameter"):
        coding.load(tmp_path / "net.psz")


def test_a_network_without_such_parameters_is_told(tmp_path: Path) -> None:
    coding.save(tmp_path / "net.psz", Twins(6))
    network = Twins(6)
    del network.out.weight
    network.out.register_buffer("weight", torch.zeros(6, 6))
    with pytest.raises(NetworkError, match=r"out\.weight and into\.weight are one parameter"):
        coding.load(tmp_path / "net.psz", network=network)


def test_many_names_take_no_memory(tmp_path: Path) -> None:
    network = nn.Sequential(*(nn.Linear(200, 200, bias=False) for _ in range(100)))
    for layer in network[1:]:
        layer.weight = network[0].weight
    coding.save(tmp_path / "net.psz", network)
    loaded = coding.load(tmp_path / "net.psz", layout="csr")
    assert len(list(loaded.parameters())) == 1


def golden() -> tuple[nn.Sequential, bytes]:
    """Two layers of one matrix, by whole numbers, and the bytes that are written for them today."""
    levels = numbers((20, 20), 11, 5)
    network = nn.Sequential(nn.Linear(20, 20, bias=False), nn.ReLU(), nn.Linear(20, 20, bias=False))
    network[2].weight = network[0].weight
    with torch.no_grad():
        network[0].weight.copy_(torch.from_numpy(levels * np.float32(0.25)))
    content = Content("s", torch.float32, levels, 0.25, walk=Walk(False, 1, -1, 1))
    return network, psz.encode(network, Plan({"0.weight": content}, 1.0, {"2.weight": "0.weight"}), 400)


def test_the_file_of_the_format() -> None:
    network, data = golden()
    assert_as_before("shared", data)
    frame = container.read(NEWEST / "shared.psz")
    assert (frame.header["k"], frame.header["w"]) == ("sw", [0])
    assert read_specs(frame, "file")[2] == {"2.weight": "0.weight"}
    assert equal(coding.load(NEWEST / "shared.psz"), network)
