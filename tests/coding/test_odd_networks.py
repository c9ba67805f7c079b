"""Networks that are stored in ways one might not think of."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from pyrosparse import coding
from pyrosparse.coding.codecs import fetch, send
from pyrosparse.coding.floats import exact
from pyrosparse.coding.stream import Reader, Writer
from pyrosparse.errors import NetworkError, PyrosparseWarning


class Buffered(nn.Module):
    def __init__(self, value: torch.Tensor, name: str = "extra") -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.layer.register_buffer(name, value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint16, torch.float8_e5m2])
def test_types_that_files_do_not_hold_are_named(tmp_path: Path, dtype: torch.dtype) -> None:
    with pytest.raises(NetworkError, match=r"layer\.extra is of type .*convert it"):
        coding.save(tmp_path / "net.psz", Buffered(torch.ones(5).to(dtype)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("network", [nn.Linear(3, 3, device="meta"), nn.Sequential(nn.LazyLinear(3))], ids=str)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_networks_without_values(tmp_path: Path, network: nn.Module) -> None:
    with pytest.raises(NetworkError, match="no values yet"):
        coding.save(tmp_path / "net.psz", network)


@pytest.mark.parametrize("value", [torch.linspace(0, 1, 4), torch.tensor([True, False, True, True])], ids=["f", "b"])
def test_an_index_that_is_no_map_of_inputs(tmp_path: Path, value: torch.Tensor) -> None:
    network = Buffered(value, "index")
    sigma = {"layer.weight": torch.full((3, 4), 0.1)}
    coding.save(tmp_path / "net.psz", network, sigma=sigma, c=1.0)
    loaded = coding.load(tmp_path / "net.psz", network=deepcopy(network))
    torch.testing.assert_close(loaded.layer.index, value, rtol=1e-3, atol=0)
    assert (loaded.layer.weight - network.layer.weight).abs().max() <= 0.051


def test_sparse_weights_can_be_stored_again(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(30, 20))
    coding.save(tmp_path / "one.psz", network)
    coding.save(tmp_path / "two.psz", coding.load(tmp_path / "one.psz", layout="csr"))
    assert (tmp_path / "one.psz").read_bytes() == (tmp_path / "two.psz").read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_exact_numbers_take_their_own_width(tmp_path: Path, dtype: torch.dtype) -> None:
    network = nn.Linear(60, 40).to(dtype)
    info = coding.save(tmp_path / "net.psz", network)
    numbers = sum(p.numel() for p in network.parameters())
    assert info.bytes <= numbers * dtype.itemsize + 60
    loaded = coding.load(tmp_path / "net.psz")
    assert all(
        torch.equal(a, b) and b.dtype == dtype for a, b in zip(network.parameters(), loaded.parameters(), strict=True)
    )


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    network = nn.Module()
    network.weight = nn.Parameter(torch.ones([1] * 9))
    with pytest.raises(NetworkError, match="not written"):
        coding.save(tmp_path / "net.psz", network)
    assert not list(tmp_path.iterdir())


def test_settings_without_deviations(tmp_path: Path) -> None:
    network = nn.Linear(5, 4)
    with pytest.warns(PyrosparseWarning, match="biases too"):
        coding.save(tmp_path / "net.psz", network, bias_bits=4)
    with pytest.warns(PyrosparseWarning, match="no tensor got a codebook"):
        coding.save(tmp_path / "net.psz", nn.BatchNorm1d(5), codebook=4)
    with pytest.raises(NetworkError, match="whole number"):
        coding.save(tmp_path / "net.psz", network, codebook=2.5)  # type: ignore[arg-type]


def test_sections_add_up_whatever_the_tensors_are_called(tmp_path: Path) -> None:
    network = nn.Module()
    network.header = nn.Parameter(torch.ones(3))
    network.register_buffer("checksum", torch.tensor([5, 9]))
    info = coding.save(tmp_path / "net.psz", network)
    assert sum(info.sections.values()) == info.bytes


def test_bfloat16_of_version_2_is_float32() -> None:
    """Up to version 2 an exact bfloat16 took the 32 bits of a float32."""
    numbers = torch.tensor([[1.5, 0.0, -3.25]], dtype=torch.bfloat16)
    wide = exact(numbers.float())
    assert exact(numbers).levels.max() < 1 << 16
    writer = Writer()
    writer.version = 2
    send(writer, "w", wide)
    payload, padding = writer.finish()
    words = payload + bytes(-len(payload) % 4)
    older = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))  # little-endian words
    got = fetch(Reader(older, padding, version=2), "w", "x", (1, 3), torch.bfloat16)
    assert torch.equal(got.tensor(), numbers)
