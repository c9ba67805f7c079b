"""A file written once must decode to the same weights for ever, and the coder must still write its bytes."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyrosparse import coding
from pyrosparse.coding import precision, psz
from pyrosparse.coding.adaptive import Walk
from pyrosparse.coding.container import unpack
from pyrosparse.coding.content import Content
from pyrosparse.coding.groups import Groups
from pyrosparse.nn import ComplexLinear, SelectLinear

# Linear(4, 3), ReLU, Linear(3, 2): parameter i holds ((k (7 + i)) mod 5 - 2) / 4 at place k; steps of 1/4.
FILE = bytes.fromhex(
    "50535a0118430e54a075401fa1c4b331300c62110623190832c2b81600005c51803ee2f197dd5062ec898c0f7f7773e3"
    "5d4ee448d92c6ded087de5283e54a3d9d60e"
)

# A SelectLinear of 36 pixels in 64 and 20 units, walked over the pixels in their places, and a Linear(20, 3).
ADAPTIVE = bytes.fromhex(
    "50535a0124430e549c3e35360379ccc800c527c0103486ba0b6c29c886c4d2cc44a8f986c666c6b5000031720a61759e"
    "d39aa6a14883e7a6edc250c6b6c0c55a1f9a4d3fa1fcef0068a1dbdc1dfe9abb3e8f4ebb4a7116cb3e91c942fdb520b3"
    "be3a1900730898331f400b143554b4a0c664053cb0ae282a6e1ed3661760062a4be42479c1c02b3faf4ee20d3e40cd1c"
    "4d424b01d1f3fbd5a55a5d4ad9c300dff5cbd6876e12b9295aaf51de24ac93030891fd4eb67fd261268775d51118ec3f"
    "4e887a6ec3eec9bc5fb086e18662e1863bf2b827bdbeb2a05df30bf43906bb815042a510097601d85cfe7d7532b65028"
    "b3705ed76624c8ffc8737f3200001ba2d40cbbd948bf6445ba15025d31609c867e958b3ad2be3b631796820de89791b8"
    "c1c8cdb86d94f2b4e20a"
)


FOLDER = Path(__file__).with_name("golden")
NEWEST = FOLDER / "version_3"


def assert_as_before(name: str, data: bytes) -> None:
    """Compare a file that is written today with one of the newest version that was written once."""
    golden, mine = unpack((NEWEST / f"{name}.psz").read_bytes(), name), unpack(data, "new.psz")
    assert mine.header == golden.header  # how well deflate packs it may differ between zlib's versions
    assert mine.payload == golden.payload


def network() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        for i, value in enumerate(network.parameters()):
            places = torch.arange(value.numel())
            value.copy_(((places * (7 + i) % 5 - 2) * 0.25).view_as(value))
    return network


@pytest.mark.parametrize("data", [FILE, (NEWEST / "dense.psz").read_bytes()], ids=["1", "3"])
def test_reads(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "golden.psz").write_bytes(data)
    loaded, expected = coding.load(tmp_path / "golden.psz"), network().state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psz, "shortest", lambda name, content, places: content)
    sigma = {"0.weight": torch.full((3, 4), 0.25), "2.weight": torch.full((2, 3), 0.25)}
    data = psz.encode(network(), psz.make_plan(network(), sigma, 1.0), 23)
    assert_as_before("dense", data)


def spots() -> nn.Sequential:
    """Four units that each look at a square of an 8 by 8 image of which the rim is cut: all by whole numbers."""
    place = torch.arange(64)
    index = place[(place % 8 > 0) & (place % 8 < 7) & (place > 7) & (place < 56)]
    network = nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc1=SelectLinear(index, 64, 20), fc2=nn.Linear(20, 3)))
    unit, x, y = torch.arange(20)[:, None], index % 8, index // 8
    near = (x - 1 - unit % 4).clamp(0) + (y - 1 - unit // 4).clamp(0) < 3
    size = 1 + (3 * unit + 5 * x + 7 * y) % 4 * ((x + y + unit) % 3)
    with torch.no_grad():
        network.fc1.weight.copy_(torch.where(near & (size != 2), size * (1 - 2 * (unit % 2)), 0) * 0.25)
        for value in (network.fc1.bias, network.fc2.weight, network.fc2.bias):
            value.copy_((torch.arange(value.numel()) % 5 - 2).view_as(value) * 0.25)
    return network.eval()


def spots_file(monkeypatch: pytest.MonkeyPatch) -> bytes:
    walks = {"fc1.weight": Walk(True, 8, -1, 1, start=2), "fc2.weight": Walk(False, 1, 1, 0, whole=True)}

    def adaptive(name: str, content: Content, *, places: object) -> Content:
        return replace(content, codec="a", walk=walks[name]) if name in walks else content

    monkeypatch.setattr(psz, "shortest", adaptive)
    network = spots()
    sigma = {
        f"{name}.weight": torch.full_like(network.get_parameter(f"{name}.weight"), 0.25) for name in ("fc1", "fc2")
    }
    return psz.encode(network, psz.make_plan(network, sigma, 1.0), 1363)


@pytest.mark.parametrize("data", [ADAPTIVE, (NEWEST / "spots.psz").read_bytes()], ids=["1", "3"])
def test_reads_the_adaptive_codec(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "golden.psz").write_bytes(data)
    loaded, expected = coding.load(tmp_path / "golden.psz"), spots().state_dict()
    assert coding.info(tmp_path / "golden.psz").layers[0].codec == "a"
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_writes_the_adaptive_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_before("spots", spots_file(monkeypatch))


ROOT = 181 / 128  # the step of a group: of its layer, times powers of this and of two


def numbers(shape: tuple[int, ...], factor: int, most: int) -> NDArray[np.int32]:
    """Integers from -most to most, about half of them 0, by whole numbers alone."""
    places = np.arange(math.prod(shape), dtype=np.int64)
    mixed = (places * places * 7 + places * factor + 3) % 97
    return np.where(mixed % 2 == 0, mixed % (2 * most + 1) - most, 0).astype(np.int32).reshape(shape)


def made() -> dict[str, tuple[dict[str, Tensor], bytes]]:
    """What each file of the folder holds, by a formula, and the bytes that are written for it today."""
    rows, columns = numbers((20,), 5, 4).astype(np.int64), numbers((30,), 3, 2).astype(np.int64)
    levels, pairs = numbers((20, 30), 11, 5), numbers((12, 10, 2), 13, 3)
    book = np.float32([[-0.1], [-2.5], [0.25], [3.0]])
    points = np.float32([[0.5, -1.0], [-3.0, 0.125], [0.0, 2.0]])
    real, plane = nn.Sequential(nn.Linear(30, 20, bias=False)), nn.Sequential(ComplexLinear(10, 12, bias=False))
    name = next(iter(dict(plane.named_parameters())))
    factors = {axis: np.array([2.0 ** (e // 2) * (ROOT if e % 2 else 1.0) for e in each]) for axis, each in
               ((0, rows), (1, columns))}  # fmt: skip
    walk = Walk(False, 1, -1, 1)  # a walk that is given is not chosen again, nor is the codec

    def file(network: nn.Module, site: str, values: NDArray[np.floating], **content: Any) -> Any:
        plan = precision.Plan({site: Content(dtype=torch.float32, **content)}, 1.0)
        return {site: torch.from_numpy(values.astype(np.float32))}, psz.encode(network, plan, 600)

    chosen = {-1: -0.1, -2: -2.5, 0: 0.0, 1: 0.25, 2: 3.0}
    few = np.clip(levels, -2, 2)
    which = np.abs(pairs[..., 0])
    return {
        "static.psz": file(real, "0.weight", levels * 0.25, codec="s", levels=levels, step=0.25, walk=walk),
        "adaptive.psz": file(real, "0.weight", levels * 0.25, codec="a", levels=levels, step=0.25, walk=walk),
        "pairs.psz": file(plane, name, pairs * 0.25, codec="p", levels=pairs, step=0.25, walk=walk),
        "rows.psz": file(
            real, "0.weight", levels * (0.375 * factors[0])[:, None],
            codec="g", levels=levels, step=0.375, groups=Groups(0, rows), inner="s", walk=walk,
        ),
        "columns.psz": file(
            real, "0.weight", levels * (0.375 * factors[1])[None],
            codec="g", levels=levels, step=0.375, groups=Groups(1, columns), inner="a", walk=walk,
        ),
        "codebook.psz": file(
            real, "0.weight", np.vectorize(chosen.get)(few), codec="k", levels=few, book=book, inner="s", walk=walk
        ),
        "points.psz": file(
            plane, name, np.concatenate([np.zeros((1, 2), np.float32), points])[which],
            codec="k", levels=which, book=points, inner="a", walk=walk,
        ),
    }  # fmt: skip


MADE = cache(made)
NAMES = ("static", "adaptive", "pairs", "rows", "columns", "codebook", "points")


@pytest.mark.parametrize("folder", [FOLDER, NEWEST], ids=["2", "3"])
@pytest.mark.parametrize("name", NAMES)
def test_reads_what_was_written_before(name: str, folder: Path) -> None:
    expected, _ = MADE()[f"{name}.psz"]
    assert unpack((folder / f"{name}.psz").read_bytes(), name).version == (3 if folder is NEWEST else 2)
    for site, value in coding.read_tensors(folder / f"{name}.psz").items():
        assert torch.equal(value.view(torch.int32), expected[site].view(torch.int32))
    network = coding.load(folder / f"{name}.psz")
    assert all(torch.equal(network.state_dict()[site], value) for site, value in expected.items())


@pytest.mark.parametrize("name", NAMES)
def test_writes_what_was_written_before(name: str) -> None:
    assert_as_before(name, MADE()[f"{name}.psz"][1])
    assert made()[f"{name}.psz"][1] == MADE()[f"{name}.psz"][1]
