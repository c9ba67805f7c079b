"""Whatever is in a file: it decodes, or a CorruptFileError names it; nothing else, and not for long."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrosparse import coding
from pyrosparse.coding import container, psz
from pyrosparse.coding.container import MAGIC, pack, unpack
from pyrosparse.errors import CorruptFileError, NetworkError
from tests.coding.networks import Custom, convolutional, lenet
from tests.coding.test_container import sealed
from tests.coding.test_golden import ADAPTIVE

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def files() -> list[bytes]:
    pruned, plain, custom = lenet(nonzero=(100, 50, 20)), convolutional(), Custom()
    sigma = {"inner.weight": torch.full((8, 6), 0.1)}
    return [
        psz.encode(pruned.network, psz.make_plan(pruned.network, pruned.sigma, 1.0), 266_610),
        psz.encode(plain, psz.make_plan(plain, None, None), 300),
        psz.encode(custom, psz.make_plan(custom, sigma, 1.0), 83),
        ADAPTIVE,
    ]


FILES = files()


def try_to_read(folder: Path, data: bytes) -> str:
    """Read a file in every way; returns what happened."""
    path = folder / "net.psz"
    path.write_bytes(data)
    start = time.process_time()  # of the processor: a busy machine is no fault of the reader
    outcome = "read"
    for reader in (coding.load, coding.read_tensors, coding.info):
        try:
            str(reader(path))
        except CorruptFileError as error:
            assert "net.psz" in str(error)
            outcome = "corrupt"
        except NetworkError as error:
            assert "is whole" in str(error)  # a file of another class, and it says what it needs
            assert "network=" in str(error)
            coding.read_tensors(path)
    assert time.process_time() - start < 5
    return outcome


def test_whole_files_are_read(tmp_path: Path) -> None:
    assert [try_to_read(tmp_path, data) for data in FILES] == ["read"] * 4


@FUZZ
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    assert try_to_read(tmp_path, data) == "corrupt"
    assert try_to_read(tmp_path, MAGIC + b"\1" + data) == "corrupt"
    try_to_read(tmp_path, sealed(MAGIC + b"\1" + data))


@FUZZ
@given(st.sampled_from(FILES), st.data())
def test_altered_bytes(tmp_path: Path, original: bytes, data: st.DataObject) -> None:
    altered = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    if bytes(altered) != original:
        assert try_to_read(tmp_path, bytes(altered)) == "corrupt"


@FUZZ
@given(st.sampled_from(FILES), st.data())
def test_altered_bytes_under_a_good_checksum(tmp_path: Path, original: bytes, data: st.DataObject) -> None:
    altered = bytearray(original[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(4, len(altered) - 1))] = data.draw(st.integers(0, 255))
    try_to_read(tmp_path, sealed(bytes(altered)))


@FUZZ
@given(st.sampled_from(FILES), st.binary(max_size=300))
def test_another_payload(tmp_path: Path, original: bytes, payload: bytes) -> None:
    try_to_read(tmp_path, pack(unpack(original, "").header, payload))


ODD = [0, -1, 1, 2, 7, 1000, 10**6, 10**12, 1.5, None, "x", "S", True, [], [2], {}, {"p": 3}]


def alter(node: Any, draw: Any) -> Any:
    """Replace a random leaf of a JSON tree."""
    if isinstance(node, list | dict) and node and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(range(len(node)) if isinstance(node, list) else sorted(node)))
        node[key] = alter(node[key], draw)
        return node
    return copy.deepcopy(draw(st.sampled_from(ODD)))


@FUZZ
@given(st.sampled_from(FILES), st.data())
def test_another_header(tmp_path: Path, original: bytes, data: st.DataObject) -> None:
    frame = unpack(original, "")
    header = json.loads(json.dumps(frame.header))
    for _ in range(data.draw(st.integers(1, 3))):
        header = alter(header, data.draw)
    if isinstance(header, dict):
        try_to_read(tmp_path, pack(header, frame.payload))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": ["Q", ["L", 1_000_000, 1_000_000]], "k": "ss", "o": 1}, "claims 1,000,001,000,000 numbers"),
        ({"t": [["w", [1 << 20, 1 << 20]]], "k": "s", "o": 1}, "claims"),
        ({"t": [["w", [-1]]], "k": "s", "o": 1}, "table"),
        ({"t": [["w", [10]], ["w", [10]]], "k": "ss", "o": 1}, "table"),
        ({"t": [["w", [10]]], "k": "?", "o": 1}, "codec"),
        ({"t": [["w", [10]]], "k": "ss", "o": 1}, "codec"),
        ({"t": [["w", [10]]], "k": "i", "d": "f", "o": 1}, "type"),
        ({"t": [["w", [10]]], "k": "s", "d": "?", "o": 1}, "type"),
        ({"a": ["Q", ["ZZ", 1]], "k": "", "o": 1}, "'ZZ'"),
        ({"k": "", "o": 1}, "table"),
    ],
    ids=str,
)
def test_claims_are_checked_first(tmp_path: Path, header: dict[str, Any], words: str) -> None:
    path = tmp_path / "net.psz"
    container.write(path, pack(header, b"\0" * 8))
    with pytest.raises(CorruptFileError, match="net.psz") as caught:
        coding.load(path)
    assert words in str(caught.value)


def test_damage_behind_the_checksum_of_a_class_that_is_not_known(tmp_path: Path) -> None:
    frame = unpack(FILES[2], "net.psz")
    path = tmp_path / "net.psz"
    container.write(path, FILES[2])
    with pytest.raises(NetworkError, match="is whole"):
        coding.load(path)
    container.write(path, pack(frame.header, frame.payload + b"1" * 40))
    with pytest.raises(CorruptFileError, match="left over"):
        coding.load(path)


@pytest.mark.parametrize("codec", ["a", "i", "p", "k", "x", "u"])
@pytest.mark.parametrize("shape", [(1,), (2048, 1), (64, 1)])
def test_many_small_tensors_take_no_longer_than_a_second(tmp_path: Path, codec: str, shape: tuple[int, ...]) -> None:
    count = min(16384, (1 << 20) // shape[0])
    table = [[f"w{i}", list(shape)] for i in range(count)]
    path = tmp_path / "net.psz"
    container.write(path, pack({"t": table, "k": codec * count, "o": 1}, bytes(100)))
    start = time.process_time()
    with contextlib.suppress(CorruptFileError):
        coding.read_tensors(path)
    assert time.process_time() - start < 3  # a second on an idle machine
