"""Complex networks in files: a bit of the mask and two integers for a weight, and every module of the library."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import coding
from pyrosparse.coding import architecture, psz
from pyrosparse.coding.adaptive import Walk
from pyrosparse.coding.bits import precision_bits
from pyrosparse.coding.codecs import fetch, send
from pyrosparse.coding.content import Content
from pyrosparse.coding.distortion import weigh_rate
from pyrosparse.coding.pairs import LARGEST_RING, code_pairs
from pyrosparse.coding.precision import make_plan, quantise
from pyrosparse.coding.stream import DamagedStreamError, Meter, Reader, Writer
from pyrosparse.data import TensorLoader
from pyrosparse.pruning import Pruned
from tests.coding.test_golden import NEWEST, assert_as_before
from tests.complex_networks import convnet, dense, kill, pair, randomise


def pruned(network: nn.Module | None = None, shape: tuple[int, ...] = (1, 8, 8), keep: float = 0.3) -> Pruned:
    torch.manual_seed(1)
    model, guide = pair(randomise(network or convnet(norm=True)), shape)
    kill(guide, {site: torch.rand(f.relevance().shape) > keep for site, f in guide.families.items()})
    return ps.prune(model, guide)


def through(pairs: np.ndarray) -> tuple[np.ndarray, float]:
    writer = Writer()
    code_pairs(writer, pairs, len(pairs))
    return code_pairs(Reader(*writer.finish()), None, len(pairs)), writer.bits


@pytest.mark.parametrize("scale", [1, 3, 40, 2000])
def test_pairs_come_back(scale: int) -> None:
    rng = np.random.default_rng(scale)
    pairs = np.rint(rng.normal(0, scale, (500, 2))).astype(np.int64)
    pairs = pairs[pairs.any(axis=1)]
    assert np.array_equal(through(pairs)[0], pairs)
    assert through(pairs[:0])[0].shape == (0, 2)


def test_every_pair_of_every_ring_comes_back() -> None:
    r = np.arange(-6, 7)
    pairs = np.stack(np.meshgrid(r, r), -1).reshape(-1, 2)
    pairs = pairs[pairs.any(axis=1)]
    got, bits = through(pairs)
    assert np.array_equal(got, pairs)
    # all of the 168 pairs are as likely
    assert bits == pytest.approx(168 * math.log2(168), rel=0.1)


def test_rings_are_taken_where_they_are_shorter() -> None:
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, 3000)
    ring = np.rint(5 * np.stack([np.cos(phase), np.sin(phase)], 1)).astype(np.int64)
    _, bits = through(ring)
    assert bits / 3000 < 6.3  # two parts, each of order-0 entropy 3.3 bits, would cost 6.6
    far = ring.copy()
    far[0, 0] = LARGEST_RING + 1
    assert np.array_equal(through(far)[0], far)


def test_one_mask_bit_for_a_weight() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((40, 50)) < 0.1
    levels = (np.rint(rng.normal(0, 4, (40, 50, 2))) * mask[..., None]).astype(np.int32)
    writer = Writer()
    for walk in (None, Walk(lag=1), Walk(turned=True)):
        send(writer, "weight", Content("p", torch.float32, levels, 0.5, walk))
    reader = Reader(*writer.finish())
    for _ in range(3):
        assert np.array_equal(fetch(reader, "weight", "p", (40, 50, 2), torch.float32).levels, levels)

    def bits(codec: str) -> float:
        meter = Meter()
        send(meter, "weight", Content(codec, torch.float32, levels, 0.5))
        return meter.lengths["weight mask"]

    density = levels.any(axis=2).mean()
    entropy = -2000 * (density * math.log2(density) + (1 - density) * math.log2(1 - density))
    assert bits("p") < 1.1 * entropy + 40 < bits("s")
    with pytest.raises(DamagedStreamError, match="without an axis of two"):
        fetch(Reader(b"", 0), "weight", "p", (40, 3), torch.float32)


def test_a_file_comes_back(tmp_path: Path) -> None:
    small = pruned()
    info = ps.save(tmp_path / "a.psz", small, c=0.5)
    ps.save(tmp_path / "b.psz", small, c=0.5)
    assert (tmp_path / "a.psz").read_bytes() == (tmp_path / "b.psz").read_bytes()
    loaded, expected = ps.load(tmp_path / "a.psz"), quantise(small, 0.5)
    for name, value in expected.network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(loaded(x), expected.network(x))
    assert info.architecture and info.bytes == (tmp_path / "a.psz").stat().st_size == coding.encoded_size(small, c=0.5)
    layer = next(layer for layer in info.layers if layer.name == "conv2.weight")
    sigma = math.exp(-3.0)
    assert layer.codec == "p" and layer.step == pytest.approx(0.5 * sigma / math.sqrt(2.0), rel=2**-7)
    assert layer.nonzero == 2 * int(expected.masks["conv2.weight"].sum())
    assert {row.site: row.kept for row in expected.report.layers}["conv2.weight"] == layer.nonzero
    assert info.original_bytes == 4 * small.original_parameters
    assert "conv2.weight" in str(info) and 2 < info.bits_per_weight < 40
    again = quantise(expected, 0.5)
    assert all(
        torch.equal(a, b) for a, b in zip(again.network.parameters(), expected.network.parameters(), strict=True)
    )


def test_exact_files(tmp_path: Path) -> None:
    network = randomise(convnet(norm=True))
    ps.save(tmp_path / "exact.psz", network)
    for name, value in ps.load(tmp_path / "exact.psz").state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = convnet(lambda: psnn.ModReLU(1), norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_a_class_of_ones_own_is_filled(tmp_path: Path) -> None:
    small = pruned(Own(), keep=0.2)
    assert not ps.save(tmp_path / "own.psz", small, c=0.5).architecture
    loaded = ps.load(tmp_path / "own.psz", network=Own())
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(loaded(x), quantise(small, 0.5).network(x))
    assert loaded.body.conv2.out_channels == small.network.body.conv2.weight.shape[0]
    assert loaded.body.norm1.num_features == small.network.body.norm1.num_features


EVERY = nn.Sequential(
    OrderedDict(
        stft=psnn.ShortTimeFourier(16, hop_length=4, window=torch.hamming_window(16)),
        conv1=psnn.ComplexConv1d(9, 4, 3, padding=1, padding_mode="circular"),
        norm1=psnn.ComplexBatchNorm1d(4, eps=1e-3),
        act1=psnn.ModReLU(4, init=-0.2),
        pool1=psnn.ComplexAvgPool1d(2),
        drop1=psnn.ComplexDropout1d(0.3),
        up1=psnn.ComplexConvTranspose1d(4, 4, 2, stride=2, bias=False),
        max1=psnn.ModulusMaxPool1d(2),
        phase=psnn.PhaseShift((4, 1)),
        act2=psnn.Cardioid(),
        act3=psnn.ZReLU(),
        flatten=nn.Flatten(),
        drop=psnn.ComplexDropout(),
        fc=psnn.ComplexSelectLinear(torch.tensor([0, 3, 4]), 32, 3),
        modulus=psnn.Modulus(),
        fc2=nn.Linear(3, 4),
        cast=psnn.ToComplex("interleaved", dim=1),
        part=psnn.ImaginaryPart(),
    )
)


def test_every_module_is_known_to_files(tmp_path: Path) -> None:
    network = randomise(EVERY).eval()
    tree = architecture.describe(network)
    assert tree is not None
    ps.save(tmp_path / "every.psz", network)
    loaded = ps.load(tmp_path / "every.psz")
    x = torch.randn(2, 64)
    assert torch.equal(loaded(x), network(x))
    two = nn.Sequential(
        psnn.FourierFeatures2d(shift=False),
        psnn.ComplexConv2d(1, 2, 3),
        psnn.CReLU(),
        psnn.ToReal("interleaved", dim=1),
        nn.Conv2d(4, 2, 1),
    )
    ps.save(tmp_path / "two.psz", two)
    assert torch.equal(ps.load(tmp_path / "two.psz")(torch.ones(1, 1, 5, 5)), two(torch.ones(1, 1, 5, 5)))


def test_rate_weighs_both_parts() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (30, 40, 2)) * (rng.random((30, 40, 1)) < 0.3)
    sigma = np.full(weights.shape, 0.5)
    plain, weighed = weigh_rate(weights, sigma, 0.25, 0.0), weigh_rate(weights, sigma, 0.25, 1.0)
    assert np.array_equal(plain, np.rint(weights / 0.25))
    dead = plain.any(axis=2) & ~weighed.any(axis=2)
    # what falls to 0 is small as a whole, and what stays moves by one at most
    assert dead.sum() > 10 and np.linalg.norm(weights[dead], axis=1).max() < 5 * 0.5
    stays = weighed.any(axis=2)
    assert np.abs(weighed - plain)[stays].max() == 1
    assert np.abs(weighed).sum() < np.abs(plain).sum()


def test_quantise_aware_ends_on_multiples_of_the_steps() -> None:
    small = pruned(dense(6, 8, 3), (6,), keep=0.6)
    x = torch.randn(64, 6)
    loader = TensorLoader(x, (x[:, 0] > 0).long(), 16)
    aware = coding.quantise_aware(small, loader, c=1.0, epochs=2, lr=0.5, progress=False)
    rounded = quantise(aware, 1.0)
    for site, alive in small.alive().items():
        weight = aware.network.get_parameter(site)
        torch.testing.assert_close(weight, rounded.network.get_parameter(site))
        assert not bool(weight[~alive].any()) and not torch.equal(weight, small.network.get_parameter(site))


def test_budget_and_bits() -> None:
    model, guide = pair(randomise(dense(20, 30, 3)), (20,))
    with torch.no_grad():
        for family in guide.families.values():
            family.log_var.copy_(torch.randn_like(family.log_var) * 2 - 4)
    whole = coding.encoded_size(ps.prune(model, guide, threshold=100.0))
    small = ps.prune(model, guide, budget=whole // 2)
    assert coding.encoded_size(small) <= whole // 2
    assert sum(layer.weights for layer in precision_bits(small)) == sum(
        p.numel() for p in small.network.parameters() if p.dim() == 3
    )


# ComplexLinear(3, 2), CReLU, RealPart: number k of the weight is ((5 k) mod 7 − 3) / 4, of the bias k/8; steps of 1/4.
GOLDEN = bytes.fromhex(
    "50535a011c430ed42890fb209e8e823823c855096a35d85c90210550fd8666b500008a28803eecadafabff8180b94f0c"
    "06adc042be51af956652"
)


def golden_network() -> nn.Sequential:
    network = nn.Sequential(psnn.ComplexLinear(3, 2), psnn.CReLU(), psnn.RealPart())
    with torch.no_grad():
        for p, make in ((network[0].weight, lambda k: (5 * k % 7 - 3) * 0.25), (network[0].bias, lambda k: k * 0.125)):
            p.copy_(make(torch.arange(p.numel())).view_as(p))
        network[0].weight[0, 1] = 0.0
    return network


@pytest.mark.parametrize("data", [GOLDEN, (NEWEST / "plane.psz").read_bytes()], ids=["1", "3"])
def test_golden_file(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "golden.psz").write_bytes(data)
    loaded, expected = ps.load(tmp_path / "golden.psz"), golden_network().state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    monkeypatch.setattr(psz, "shortest", lambda name, content, places: content)
    plan = make_plan(golden_network(), {"0.weight": torch.full((2, 3, 2), 0.25)}, 1.0)
    assert_as_before("plane", psz.encode(golden_network(), plan, 16))
