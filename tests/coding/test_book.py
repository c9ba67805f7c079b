"""Codebooks in files: k-means centres, the nearest one for each weight, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pyrosparse import coding
from pyrosparse.coding.book import code_book, look_up, make_book
from pyrosparse.coding.content import Content
from pyrosparse.coding.stream import DamagedStreamError, Reader, Writer
from pyrosparse.errors import NetworkError
from pyrosparse.nn import ComplexLinear
from tests.coding.networks import equal, lenet
from tests.coding.test_codecs import there_and_back


def test_each_weight_takes_the_nearest_centre(tmp_path: Path) -> None:
    pruned = lenet()
    info = coding.save(tmp_path / "net.psz", pruned, codebook=16)
    loaded = coding.load(tmp_path / "net.psz")
    assert [layer.codec for layer in info.layers if layer.name.endswith("weight")] == ["k"] * 3
    assert info.sections["fc1.weight codebook"] >= 30
    for site in pruned.masks:
        before, after = (n.get_parameter(site).detach().double() for n in (pruned.network, loaded))
        centres = after.unique()
        assert len(centres) <= 17
        assert not after[before == 0].any()
        nearest = (before[before != 0][:, None] - centres[centres != 0]).abs().min(dim=1).values
        assert torch.equal((before - after)[before != 0].abs(), nearest)
    assert equal(loaded, coding.quantise(pruned, 0.5, codebook=16).network)
    assert info.bytes == coding.encoded_size(pruned, codebook=16)
    coding.save(tmp_path / "again.psz", loaded, sigma=pruned.sigma, c=0.5, codebook=16)
    assert equal(coding.load(tmp_path / "again.psz"), loaded)


def test_what_k_means_made_is_stored_as_it_is(tmp_path: Path) -> None:
    found = coding.kmeans(lenet(), clusters=8)
    info = coding.save(tmp_path / "net.psz", found.pruned.network, codebook=8)
    for site in found.centres:
        assert torch.equal(
            coding.load(tmp_path / "net.psz").get_parameter(site), found.pruned.network.get_parameter(site)
        )
    assert {layer.codec for layer in info.layers if layer.name.endswith("weight")} == {"k"}


def test_points_of_the_plane(tmp_path: Path) -> None:
    network = nn.Sequential(ComplexLinear(30, 20))
    name, weight = next(iter(network.named_parameters()))
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(20, 30, 1, generator=generator) < 0.5
    weight.data = torch.randn(20, 30, 2, generator=generator) * keep
    info = coding.save(tmp_path / "net.psz", network, codebook=5)
    got = coding.load(tmp_path / "net.psz").state_dict()[name]
    assert info.layers[0].codec == "k"
    assert info.layers[0].nonzero == 2 * int(keep.sum())
    points = got[keep[..., 0]].unique(dim=0)
    assert len(points) == 5
    distance = torch.cdist(weight.detach()[keep[..., 0]], points)
    assert torch.allclose((weight.detach() - got)[keep[..., 0]].norm(dim=1), distance.min(dim=1).values, atol=1e-6)


@pytest.mark.parametrize("values", [[], [1.5], [-2.0, -0.5, 0.25, 3.0], [1e-9, 1.0], [0.1, -1e30]])
def test_books_travel(values: list[float]) -> None:
    book, levels = make_book(np.array([[*values, 0.0]]), 8, plane=False)
    np.testing.assert_array_equal(look_up(book, levels).ravel(), np.float32([*values, 0.0]))
    if values:
        content = Content("k", torch.float32, levels.astype(np.int32), book=book, inner="s")
        there_and_back(content, levels.shape)


@pytest.mark.parametrize("centres", [[np.nan], [np.inf], [0.0], [1.0, -1.0]])
def test_books_that_cannot_have_been_written_are_refused(centres: list[float]) -> None:
    writer = Writer()
    writer.flag(False)  # float32
    writer.number(len(centres))
    writer.raw(np.float32(centres).view(np.uint32).astype(np.int64), len(centres), 32)
    with pytest.raises(DamagedStreamError, match="codebook"):
        code_book(Reader(*writer.finish()), None, plane=False)


@pytest.mark.parametrize("clusters", [0, -1, 5000])
def test_a_codebook_has_a_size(tmp_path: Path, clusters: int) -> None:
    with pytest.raises(NetworkError, match="codebook must be"):
        coding.save(tmp_path / "net.psz", lenet(), codebook=clusters)
