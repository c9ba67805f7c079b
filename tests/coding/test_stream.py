from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrosparse.coding.stream import DamagedStreamError, Meter, Reader, Stream, Writer, cheapest


def walk(stream: Stream, rng: np.random.Generator | None) -> list[np.ndarray]:
    """A bit of everything; ``rng`` makes the symbols, None reads them."""
    rates = np.array([1, 5, 50, 99], np.int64)
    weights = np.array([0, 7, 1, 100, 0, 3], np.int64)

    def draw(make: object) -> np.ndarray | None:
        return None if rng is None else make()  # type: ignore[operator]

    return [
        stream.uniform(draw(lambda: rng.integers(0, 1000, 20)), 20, 1000),
        stream.raw(draw(lambda: rng.integers(0, 1 << 40, 9)), 9, 40),
        np.array([stream.number(None if rng is None else n) for n in (0, 1, 2, 77, (1 << 48) - 1)]),
        np.array([stream.flag(None if rng is None else True)]),
        stream.categorical(draw(lambda: rng.choice([1, 2, 3, 5], 200)), 200, weights),
        stream.bernoulli(
            draw(lambda: (rng.random((4, 300)) < rates[:, None] / 100).astype(np.int8)), 4, 300, rates, 100
        ),
        stream.bernoulli(draw(lambda: (rng.random((1, 500)) < 0.1).astype(np.int8)), 1, 500, np.array([1]), 10),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_reader_undoes_writer(seed: int) -> None:
    writer, meter = Writer(), Meter()
    sent = walk(writer, np.random.default_rng(seed))
    walk(meter, np.random.default_rng(seed))
    payload, padding = writer.finish()
    reader = Reader(payload, padding)
    got = walk(reader, None)
    reader.finish()
    for one, two in zip(sent, got, strict=True):
        np.testing.assert_array_equal(one, two)
    assert writer.bits == pytest.approx(meter.bits) == pytest.approx(reader.bits)
    assert padding == 0


def test_ideal_length_is_what_the_range_coder_takes() -> None:
    rng = np.random.default_rng(0)
    bits = (rng.random((1, 200_000)) < 0.03).astype(np.int8)
    writer = Writer()
    writer.bernoulli(bits, 1, bits.size, np.array([3]), 100)
    payload, _ = writer.finish()
    p = bits.mean()
    entropy = -bits.size * (p * np.log2(0.03) + (1 - p) * np.log2(0.97))
    assert writer.bits == pytest.approx(entropy)
    assert len(payload) * 8 == pytest.approx(entropy, rel=2e-3)


def test_a_reader_refuses_more_symbols_than_the_payload_can_hold() -> None:
    reader = Reader(b"\0" * 8)
    with pytest.raises(DamagedStreamError, match="more weights"):
        reader.bernoulli(None, 1, 1 << 30, np.array([1]), 100)


def test_padding_lets_a_very_regular_array_through() -> None:
    count = (1 << 20) + (1 << 18)
    bits = np.zeros((1, count), np.int8)
    writer = Writer()
    writer.bernoulli(bits, 1, count, np.array([1]), 1 << 24)
    payload, padding = writer.finish()
    assert padding > 0
    assert not Reader(payload, padding).bernoulli(None, 1, count, np.array([1]), 1 << 24).any()
    with pytest.raises(DamagedStreamError):
        Reader(payload).bernoulli(None, 1, count, np.array([1]), 1 << 24)


def test_leftovers_are_noticed() -> None:
    writer = Writer()
    writer.uniform(np.arange(200), 200, 256)
    reader = Reader(writer.finish()[0])
    reader.uniform(None, 20, 256)
    with pytest.raises(DamagedStreamError, match="left over"):
        reader.finish()


@given(st.binary(max_size=40).map(lambda b: b[: len(b) // 4 * 4]))
@settings(max_examples=100, deadline=None)
def test_random_words_decode_or_are_refused(payload: bytes) -> None:
    reader = Reader(payload)
    try:
        walk(reader, None)
        reader.finish()
    except DamagedStreamError:
        pass


def test_cheapest_takes_the_shortest_and_then_the_first() -> None:
    costs = {"a": 64, "b": 8, "c": 8}
    assert cheapest(costs, lambda meter, name: meter.uniform(np.array([0]), 1, costs[name])) == "b"
