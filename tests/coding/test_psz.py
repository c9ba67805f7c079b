from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pyrosparse import coding, models
from pyrosparse.coding import psz
from pyrosparse.coding.psz import C_GRID
from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError, ExportError, NetworkError, PruneError, PyrosparseWarning
from tests.coding.networks import LENET_PARAMETERS, Custom, convolutional, equal, lenet


@pytest.mark.parametrize("c", [0.25, 1.0, 2.0])
def test_a_loaded_network_is_the_rounded_one_bit_for_bit(tmp_path: Path, c: float) -> None:
    pruned = lenet()
    path = tmp_path / "net.psz"
    coding.save(path, pruned, c=c)
    loaded = coding.load(path)
    assert equal(loaded, coding.quantise(pruned, c).network)
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    x = torch.rand(4, 1, 28, 28)
    assert torch.equal(loaded(x), coding.quantise(pruned, c).network(x))
    tensors = coding.read_tensors(path)
    assert all(torch.equal(value, tensors[name]) for name, value in loaded.state_dict().items())


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    sizes = []
    for name in ("one.psz", "two.psz"):
        sizes.append(coding.save(tmp_path / name, lenet(), c=0.5).bytes)
    one, two = (tmp_path / "one.psz").read_bytes(), (tmp_path / "two.psz").read_bytes()
    assert one == two
    assert sizes[0] == len(one) == coding.encoded_size(lenet(), c=0.5) == coding.encoded_size(lenet())
    loaded = coding.load(tmp_path / "one.psz")  # what was loaded is on the grid already
    coding.save(tmp_path / "three.psz", replace(lenet(), network=loaded), c=0.5)
    assert (tmp_path / "three.psz").read_bytes() == one


def test_size_of_a_pruned_lenet(tmp_path: Path) -> None:
    """2,200 weights in 472-54-25 units at 3.3 bits a value: near the order-0 entropy, all of it counted."""
    info = coding.save(tmp_path / "net.psz", lenet(), c=1.0)
    weights = [layer for layer in info.layers if layer.name.endswith("weight")]
    values = np.concatenate(
        [np.rint(v.numpy() / layer.step).reshape(-1) for layer in weights
         for v in [coding.read_tensors(tmp_path / "net.psz")[layer.name]]]
    )  # fmt: skip
    counts = np.unique(values[values != 0], return_counts=True)[1]
    assert 3.0 <= counts @ np.log2(counts.sum() / counts) / counts.sum() <= 3.6
    assert sum(layer.nonzero for layer in weights) > 2150
    assert info.bytes == (tmp_path / "net.psz").stat().st_size < 2700
    assert info.ratio == 4 * LENET_PARAMETERS / info.bytes
    coded = sum(layer.mask_bits + layer.value_bits for layer in weights)
    assert coded <= 1.03 * sum(layer.entropy_bits for layer in weights)
    assert info.sections["header"] <= 60
    assert (
        sum(layer.bytes for layer in info.layers)
        + sum(info.sections[s] for s in ("magic and version", "header", "padding", "checksum"))
        == sum(info.sections.values())
        == info.bytes
    )
    assert info.bits_per_weight == pytest.approx(coded / sum(layer.nonzero for layer in weights))


def test_a_header_is_tens_of_bytes() -> None:
    for network in (models.lenet_300_100(), models.lenet_5_caffe()):
        names = [name for name, value in network.named_parameters() if value.dim() > 1]
        sigma = {name: torch.zeros(network.get_parameter(name).shape) for name in names}
        with torch.no_grad():
            for value in network.parameters():
                value.zero_()
        data = psz.encode(network, psz.make_plan(network, sigma, 1.0), 430_500)
        assert psz.describe("net.psz", data).sections["header"] < 70


def test_large_layers_are_within_a_percent_of_the_order_0_entropy() -> None:
    network = nn.Sequential(nn.Linear(1000, 500, bias=False))
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(500, 1000, generator=generator) < 0.05
    with torch.no_grad():
        network[0].weight.copy_(torch.randn(500, 1000, generator=generator) * keep)
    sigma = {"0.weight": 0.3 * keep}
    data = psz.encode(network, psz.make_plan(network, sigma, 1.0), 500_000)
    layer = psz.describe("net.psz", data).layers[0]
    assert 8 * len(data) <= 1.01 * layer.entropy_bits


def test_description_is_plain_and_readable(tmp_path: Path) -> None:
    info = coding.save(tmp_path / "net.psz", lenet(), c=1.0)
    again = coding.info(tmp_path / "net.psz")
    assert again == info
    assert json.loads(json.dumps(info.to_dict()))["layers"][0]["name"] == "fc1.weight"
    text = str(info)
    for word in ("fc1.weight", "fc3.bias", "header", "checksum", "times smaller", "total"):
        assert word in text
    assert info.c == 1.0
    assert info.architecture


def test_a_plain_module_is_stored_exactly(tmp_path: Path) -> None:
    network = convolutional()
    info = coding.save(tmp_path / "net.psz", network)
    assert info.c is None
    assert equal(coding.load(tmp_path / "net.psz"), network)
    x = torch.randn(2, 2, 9, 11)
    assert torch.equal(coding.load(tmp_path / "net.psz")(x), network(x))
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        small = nn.Sequential(nn.Linear(3, 2)).to(dtype)
        coding.save(tmp_path / "net.psz", small)
        assert equal(coding.load(tmp_path / "net.psz"), small)


@pytest.mark.parametrize("asked", [{"c": 0.5}, {"rate_weight": 0.1}])
def test_steps_without_deviations_are_said_to_mean_nothing(tmp_path: Path, asked: dict[str, float]) -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    with pytest.warns(PyrosparseWarning, match="every number is stored as it is"):
        coding.save(tmp_path / "net.psz", network, **asked)  # type: ignore[arg-type]
    assert equal(coding.load(tmp_path / "net.psz"), network)


def test_large_integers_come_back(tmp_path: Path) -> None:
    def network() -> nn.Module:
        made = nn.Linear(2, 2)
        made.register_buffer("count", torch.tensor([(1 << 40) - 1, -5, 1 - (1 << 40)]))
        return made

    coding.save(tmp_path / "net.psz", network())
    assert torch.equal(coding.read_tensors(tmp_path / "net.psz")["count"], network().count)  # type: ignore[arg-type]


def test_zeros_of_a_plain_module_are_not_paid_for(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(300, 100))
    with torch.no_grad():
        network[0].weight[torch.rand(100, 300) < 0.98] = 0
        network[0].weight[0, 0] = -0.0
    info = coding.save(tmp_path / "net.psz", network)
    assert info.ratio > 20
    assert equal(coding.load(tmp_path / "net.psz"), network)


def test_sigma_can_be_given_for_a_plain_module(tmp_path: Path) -> None:
    pruned = lenet()
    one = coding.save(tmp_path / "one.psz", pruned.network, sigma=pruned.sigma, c=1.0)
    two = coding.save(tmp_path / "two.psz", pruned, c=1.0)
    assert equal(coding.load(tmp_path / "one.psz"), coding.load(tmp_path / "two.psz"))
    assert one.original_bytes < two.original_bytes


def toy() -> tuple[nn.Module, dict[str, torch.Tensor], TensorLoader]:
    """Two classes split by one coordinate: coarse steps of the other layers do no harm up to a point."""
    torch.manual_seed(0)
    x = torch.rand(400, 2) * 2 - 1
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[-5.0, -1.5], [5.0, 1.5]]))
    return network, {"0.weight": torch.ones(2, 2)}, TensorLoader(x, y, batch_size=100, shuffle=False)


def test_c_is_the_largest_that_validation_allows(tmp_path: Path) -> None:
    from pyrosparse.infer import evaluate

    network, sigma, loader = toy()
    for tolerance in (0.0, 0.02, 0.2):
        info = coding.save(tmp_path / "n.psz", network, sigma=sigma, val_loader=loader, tolerance=tolerance)
        errors = {}
        for c in C_GRID:
            coding.save(tmp_path / "c.psz", network, sigma=sigma, c=c)
            errors[c] = evaluate(coding.load(tmp_path / "c.psz"), loader).error
        allowed = [c for c in C_GRID if errors[c] <= evaluate(network, loader).error + tolerance]
        if allowed:
            assert info.c == max(allowed)
    assert max(errors.values()) > min(errors.values())


def test_length_is_weighed_where_validation_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrosparse.infer import evaluate

    monkeypatch.setattr(psz, "RATE_GRID", (0.0, 0.1))
    pruned = lenet()
    torch.manual_seed(0)
    x = torch.rand(200, 784)
    loader = TensorLoader(x, pruned.network(x).argmax(-1), batch_size=200, shuffle=False)
    plain = coding.save(tmp_path / "plain.psz", pruned, val_loader=loader, tolerance=0.1)
    weighed = coding.save(tmp_path / "n.psz", pruned, val_loader=loader, tolerance=0.1, rate_weight=None)
    assert plain.rate_weight == 0
    assert weighed.rate_weight
    assert weighed.bytes < plain.bytes
    assert evaluate(coding.load(tmp_path / "n.psz"), loader).error <= 0.1
    again = coding.save(tmp_path / "again.psz", pruned, c=weighed.c, rate_weight=weighed.rate_weight)
    assert (tmp_path / "again.psz").read_bytes() == (tmp_path / "n.psz").read_bytes()
    rounded = coding.quantise(pruned, weighed.c or 0.0, rate_weight=weighed.rate_weight or 0.0)
    assert equal(coding.load(tmp_path / "again.psz"), rounded.network)
    assert again.bytes == coding.encoded_size(pruned, c=weighed.c, rate_weight=weighed.rate_weight or 0.0)
    assert coding.info(tmp_path / "n.psz").rate_weight is None


def test_complex_weights_and_convolutions_with_the_adaptive_codec(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rates = np.outer(rng.gamma(0.3, size=32), rng.gamma(0.3, size=72)).clip(0, 0.8)
    values = np.where(rng.random(rates.shape) < rates, rng.integers(1, 4, rates.shape), 0)
    network = nn.Sequential(nn.Conv2d(8, 32, 3), nn.Linear(36, 32, dtype=torch.complex64))
    real = torch.from_numpy(values).float()
    with torch.no_grad():
        network[0].weight.copy_(real.view(32, 8, 3, 3))  # type: ignore[operator]
        network[1].weight.copy_(torch.view_as_complex(real.view(32, 36, 2)))  # type: ignore[operator]
    sigma = {"0.weight": torch.ones(32, 8, 3, 3), "1.weight": torch.ones(32, 36)}
    info = coding.save(tmp_path / "n.psz", network, sigma=sigma, c=1.0, rate_weight=0.01)
    assert [layer.codec for layer in info.layers if len(layer.shape) > 1] == ["a", "a"]
    state = coding.load(tmp_path / "n.psz").state_dict()
    for name in sigma:
        assert torch.equal(state[name], network.state_dict()[name])


def test_a_layer_of_which_rounding_leaves_nothing_is_named(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    sigma = {"0.weight": torch.full((3, 4), 10.0), "1.weight": torch.full((2, 3), 1e-3)}
    with pytest.warns(PyrosparseWarning, match=r"at c = 4 every weight of 0.weight is rounded to 0.*smaller c"):
        coding.save(tmp_path / "n.psz", network, sigma=sigma, c=4.0)


def test_when_no_c_is_good_enough_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, sigma, loader = toy()
    monkeypatch.setattr(psz, "C_GRID", (50.0, 100.0))
    with pytest.warns(PyrosparseWarning, match="smaller c"):
        info = coding.save(tmp_path / "n.psz", network, sigma=sigma, val_loader=loader)
    assert info.c == 50.0
    with pytest.raises(PruneError, match="tolerance"):
        coding.save(tmp_path / "n.psz", network, sigma=sigma, val_loader=loader, tolerance=-1.0)


def test_other_classes_need_a_network(tmp_path: Path) -> None:
    network = Custom()
    path = tmp_path / "net.psz"
    info = coding.save(path, network)
    assert not info.architecture
    with pytest.raises(NetworkError, match="network="):
        coding.load(path)
    assert equal(coding.load(path, network=Custom()), network)
    assert list(coding.read_tensors(path)) == list(network.state_dict())


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="create the folder"):
        coding.save(tmp_path / "nowhere" / "net.psz", lenet())
    assert os.listdir(tmp_path) == []


def test_missing_files_are_not_corrupt_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        coding.load(tmp_path / "net.psz")
