"""Reading tensor by tensor, dense or in compressed rows, in little more memory than the network takes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import nn

from pyrosparse import coding
from pyrosparse.coding import decode as decoding
from pyrosparse.coding.content import Content
from pyrosparse.errors import ConfigError, CorruptFileError
from tests.coding.networks import convolutional, lenet


def test_tensors_come_one_by_one(tmp_path: Path) -> None:
    coding.save(tmp_path / "net.psz", lenet(), c=1.0)
    expected = coding.load(tmp_path / "net.psz").state_dict()
    found = list(coding.iter_tensors(tmp_path / "net.psz"))
    assert [name for name, _ in found][0] == "fc1.index"
    assert {name for name, _ in found} == set(expected)
    for name, value in found:
        assert torch.equal(value, expected[name])


def test_what_is_no_file_is_refused_before_the_first_tensor(tmp_path: Path) -> None:
    (tmp_path / "net.psz").write_bytes(b"PSZ")
    with pytest.raises(CorruptFileError):
        coding.iter_tensors(tmp_path / "net.psz")
    with pytest.raises(ConfigError, match="'dense' or 'csr'"):
        coding.load(tmp_path / "net.psz", layout="coo")


def test_compressed_rows(tmp_path: Path) -> None:
    coding.save(tmp_path / "net.psz", lenet(), c=1.0)
    dense, sparse = (coding.load(tmp_path / "net.psz", layout=layout) for layout in ("dense", "csr"))
    x = torch.randn(5, 784)
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-5, atol=1e-5)
    tensors = coding.read_tensors(tmp_path / "net.psz", layout="csr")
    for site in lenet().masks:
        assert tensors[site].layout is torch.sparse_csr
        assert torch.equal(tensors[site].to_dense(), dense.get_parameter(site))
    assert tensors["fc1.bias"].layout is torch.strided
    coding.save(tmp_path / "conv.psz", convolutional())
    assert coding.read_tensors(tmp_path / "conv.psz", layout="csr")["0.weight"].layout is torch.strided


def test_no_more_than_one_layer_is_held_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, size = 12, 200
    network = nn.Sequential(*(nn.Linear(size, size, bias=False) for _ in range(layers)))
    sigma = {}
    for name, value in network.named_parameters():
        keep = torch.rand(value.shape, generator=torch.Generator().manual_seed(len(name))) < 0.2
        value.data *= keep
        sigma[name] = 0.02 * keep
    coding.save(tmp_path / "net.psz", network, sigma=sigma, c=1.0)
    alive, most = [0], [0]

    class Watched(Content):
        def __init__(self, **parts: object) -> None:
            super().__init__(**parts)  # type: ignore[arg-type]
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self) -> None:
            alive[0] -= 1

    real = decoding.fetch

    def fetch(*args: object, **options: object) -> Content:
        assert alive[0] == 0, "an earlier layer is still there in integers"
        content = real(*args, **options)  # type: ignore[arg-type]
        return Watched(**vars(content))

    monkeypatch.setattr(decoding, "fetch", fetch)
    for read in (coding.load, coding.read_tensors, coding.info):
        read(tmp_path / "net.psz")
        assert most[0] == 1
    monkeypatch.undo()
    one = 4 * size * size
    peaks = []
    for held in (False, True):
        tracemalloc.start()
        kept = []
        for _, value in coding.iter_tensors(tmp_path / "net.psz"):
            if held:
                kept.append(value.numpy())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # numpy's memory is traced, and tensors share it: what is held are all layers, against the last one and that which
    # is being decoded; nothing else grows with their number
    assert abs(peaks[1] - peaks[0] - (layers - 2) * one) < one
    assert peaks[0] < 6 * one
