"""Small files that ask for much: memory, time, or recursion."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyrosparse import coding
from pyrosparse.coding import architecture
from pyrosparse.coding.adaptive import Walk, code_adaptive
from pyrosparse.coding.codecs import fetch, send
from pyrosparse.coding.container import pack
from pyrosparse.coding.content import Content
from pyrosparse.coding.steps import code_step
from pyrosparse.coding.stream import Reader, Writer
from pyrosparse.errors import CorruptFileError
from tests.coding.test_container import sealed

MEBIBYTE = 1 << 20


def adaptive(writer: Writer) -> None:
    """All lines and all columns of a matrix are alive."""
    code_step(writer, 1.0)
    writer.flag(False)
    for value, size in ((0, 3), (0, 5), (0, 4)):
        writer.choice(value, size)
    writer.flag(True)
    writer.flag(True)


def grouped(writer: Writer) -> None:
    """All exponents of the rows are 0, which costs nothing a row."""
    code_step(writer, 1.0)
    writer.choice(0, 2)
    writer.choice(0, 8)
    writer.flag(False)
    writer.number(0)
    writer.number(0)
    writer.choice(0, 6)
    writer.number(1)
    writer.number(0)
    writer.choice(0, 3)


def bitmap(writer: Writer) -> None:
    """Every position up to 2^26 is in an index map of 17,000."""
    writer.choice(1, 4)
    writer.number(1 << 26)
    writer.number(1 << 26)


@pytest.mark.parametrize(
    ("header", "send"),
    [
        ({"t": [["w", [1 << 24, 0]]], "k": "a", "o": 1}, adaptive),
        ({"t": [["w", [1 << 24, 0]]], "k": "g", "o": 1}, grouped),
        ({"a": ["L", 0, 1 << 24, {"bias": False}], "k": "g", "o": 1}, grouped),
        ({"t": [["index", [17_000]]], "k": "i", "o": 1}, bitmap),
    ],
    ids=["adaptive", "groups", "linear", "bitmap"],
)
def test_a_few_bytes_do_not_take_much_memory(
    tmp_path: Path, header: dict[str, Any], send: Callable[[Writer], None]
) -> None:
    writer = Writer()
    writer.name = "w"
    send(writer)
    data = pack(header, writer.finish()[0])
    assert len(data) < 100
    path = tmp_path / "net.psz"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CorruptFileError):
        coding.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * MEBIBYTE


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("shape", [(1, 32768), (2, 32768)])
def test_a_long_line_takes_no_more_memory_than_others(shape: tuple[int, int], lag: int) -> None:
    """What is in between, several times as large as the line, is held for a part of it at a time."""
    levels = np.random.default_rng(0).integers(-40, 40, shape).astype(np.int32)
    writer = Writer()
    send(writer, "w", Content("a", torch.float32, levels, 0.1, walk=Walk(lag=lag)))
    tracemalloc.start()
    got = fetch(Reader(*writer.finish()), "w", "a", shape, torch.float32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(got.levels, levels)
    assert peak < 130 * levels.size


@pytest.mark.parametrize("depth", [40, 300, 600, 900])
def test_arguments_that_are_nested_deep(tmp_path: Path, depth: int) -> None:
    argument: list[Any] = []
    for _ in range(depth):
        argument = [argument]
    path = tmp_path / "net.psz"
    path.write_bytes(pack({"a": ["Q", ["SM", {"dim": argument}]], "k": "", "o": 1}, b""))
    with pytest.raises(CorruptFileError, match="deep"):
        coding.load(path)


@pytest.mark.parametrize("node", [["B2", 1], ["L", 1, 1], ["ZB2", 1], ["ZC2", 1, 1, 1], ["R"]], ids=str)
def test_many_layers_take_no_longer_than_a_second(tmp_path: Path, node: list[Any]) -> None:
    path = tmp_path / "net.psz"
    path.write_bytes(pack({"a": ["Q", *[node] * (architecture.MOST_LAYERS - 1)], "k": "", "o": 1}, b""))
    start = time.process_time()
    if node == ["R"]:
        assert not coding.info(path).layers
    else:
        with pytest.raises(CorruptFileError):
            coding.info(path)
    assert time.process_time() - start < 2  # a second on an idle machine


def test_planes_that_few_of_a_long_row_reach() -> None:
    row = np.ones((1, 100_000), np.int32)
    row[0, 5] = 300_000  # 242 planes
    writer = Writer()
    code_adaptive(writer, row, row.shape, Walk(head=4))
    reader = Reader(*writer.finish(row.size))
    start = time.process_time()
    np.testing.assert_array_equal(code_adaptive(reader, None, row.shape, None), row)
    assert time.process_time() - start < 0.6


@pytest.mark.parametrize("step", ["NaN", "Infinity", "1e999", "0", "-1", "[1]"])
def test_steps_that_are_no_positive_numbers(tmp_path: Path, step: str) -> None:
    text = f'{{"a":["R"],"k":"","c":{step},"o":1}}'.encode()
    path = tmp_path / "net.psz"
    path.write_bytes(sealed(b"PSZ\3" + bytes([len(text)]) + text + b"\0"))
    with pytest.raises(CorruptFileError, match="no JSON|not a positive number"):
        coding.info(path)
