"""A file written once must decode to the same weights for ever, and the coder must still write its bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pyrosparse import coding
from pyrosparse.coding import psz
from pyrosparse.coding.container import unpack

# Linear(4, 3), ReLU, Linear(3, 2): parameter i holds ((k (7 + i)) mod 5 - 2) / 4 at place k; steps of 1/4.
FILE = bytes.fromhex(
    "50535a0118430e54a075401fa1c4b331300c62110623190832c2b81600005c51803ee2f197dd5062ec898c0f7f7773e3"
    "5d4ee448d92c6ded087de5283e54a3d9d60e"
)


def network() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        for i, value in enumerate(network.parameters()):
            places = torch.arange(value.numel())
            value.copy_(((places * (7 + i) % 5 - 2) * 0.25).view_as(value))
    return network


def test_reads(tmp_path: Path) -> None:
    (tmp_path / "golden.psz").write_bytes(FILE)
    loaded, expected = coding.load(tmp_path / "golden.psz"), network().state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_writes() -> None:
    sigma = {"0.weight": torch.full((3, 4), 0.25), "2.weight": torch.full((2, 3), 0.25)}
    data = psz.encode(network(), psz.make_plan(network(), sigma, 1.0), 23)
    golden, mine = unpack(FILE, "golden.psz"), unpack(data, "new.psz")
    assert mine.header == golden.header  # how well deflate packs it may differ between zlib's versions
    assert mine.payload == golden.payload
