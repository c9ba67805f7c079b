from __future__ import annotations

import time

import numpy as np
import pytest

from pyrosparse.coding.stream import Reader, Writer


def some(seed: int) -> list[tuple[int, int]]:
    """Symbols and sizes of alphabets, ends of the interval among them."""
    generator = np.random.default_rng(seed)
    found = []
    for size in generator.choice([2, 3, 7, 256, 1000, 1 << 20], int(generator.integers(0, 40))).tolist():
        found.append((int(generator.choice([0, size - 1, generator.integers(size)])), size))
    return found


@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_shorter_bytes_decode_to_the_same(first: int) -> None:
    whole = short = 0
    for seed in range(first, first + 250):
        writer, symbols = Writer(), some(seed)
        for symbol, size in symbols:
            writer.choice(symbol, size)
        whole += 4 * len(writer._encoder.get_compressed())
        payload, _ = writer.finish()
        short += len(payload)
        assert 8 * len(payload) < writer.bits + 16
        reader = Reader(payload)
        assert [reader.choice(None, size) for _, size in symbols] == [symbol for symbol, _ in symbols]
        reader.finish()
    assert short < whole - 250


def test_a_long_payload_is_finished_in_no_time() -> None:
    writer = Writer()
    writer.uniform(np.arange(1 << 20) * 7919 % 65536, 1 << 20, 65536)
    start = time.process_time()
    payload, _ = writer.finish()
    assert time.process_time() - start < 1
    assert len(payload) == pytest.approx(1 << 21, abs=1 << 10)
