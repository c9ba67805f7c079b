"""The range coder and its models by docs/file-format-decoder.md alone, against the library that writes files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyrosparse.coding.stream import COIN, Writer

BITS = 24


class Decoder:
    """A range decoder in whole numbers."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.place = payload, 8
        self.low, self.width = 0, (1 << 64) - 1
        self.point = int.from_bytes(payload[:8].ljust(8, b"\0"), "big")

    def symbol(self, ends: Sequence[int]) -> int:
        """Fetch one symbol; ``ends`` are the ends of the symbols' shares of 2^24."""
        unit = self.width >> BITS
        quantile = (self.point - self.low) % (1 << 64) // unit
        symbol = next(i for i, end in enumerate(ends) if quantile < end)
        start = ends[symbol - 1] if symbol else 0
        self.low = (self.low + unit * start) % (1 << 64)
        self.width = unit * (ends[symbol] - start)
        if self.width < 1 << 32:
            word = self.payload[self.place : self.place + 4].ljust(4, b"\0")
            self.place += 4
            self.low, self.width = (self.low << 32) % (1 << 64), self.width << 32
            self.point = (self.point << 32) % (1 << 64) | int.from_bytes(word, "big")
        return symbol


def uniform(size: int) -> list[int]:
    each = (1 << BITS) // size
    return [*(each * (i + 1) for i in range(size - 1)), 1 << BITS]


def categorical(shares: Sequence[float]) -> list[int]:
    """Ends of shares that were divided in float64; sums from the left, products cut off, at least one for each."""
    total = 0.0
    for share in shares:
        total += share
    scale = ((1 << BITS) - len(shares)) / total
    ends, so_far = [], 0.0
    for i, share in enumerate(shares[:-1]):
        so_far += share
        ends.append(int(so_far * scale) + i + 1)
    return [*ends, 1 << BITS]


def bernoulli(rate: float) -> list[int]:
    return categorical([1.0 - rate, rate])


def test_uniform_symbols() -> None:
    rng = np.random.default_rng(0)
    writer, sent = Writer(), []
    for size in (2, 3, 8, 100, 65536, 1 << 20, 77777):
        symbols = rng.integers(0, size, 5)
        writer.uniform(symbols, 5, size)
        sent.append((size, symbols))
    decoder = Decoder(writer.finish()[0])
    for size, symbols in sent:
        assert [decoder.symbol(uniform(size)) for _ in symbols] == symbols.tolist()


def test_categorical_symbols() -> None:
    rng = np.random.default_rng(1)
    writer, sent = Writer(), []
    for size in (2, 3, 7, 50, 900):
        weights = rng.integers(1, 1 << int(rng.integers(2, 30)), size)
        symbols = rng.integers(0, size, 40)
        writer.categorical(symbols, 40, weights)
        sent.append((weights, symbols))
    decoder = Decoder(writer.finish()[0])
    for weights, symbols in sent:
        ends = categorical([w / int(weights.sum()) for w in weights.tolist()])
        assert [decoder.symbol(ends) for _ in symbols] == symbols.tolist()


def test_coins_and_rates() -> None:
    rng = np.random.default_rng(2)
    writer = Writer()
    ones = np.concatenate([rng.integers(1, COIN, 300), [1, COIN - 1, COIN // 2]])
    bits = rng.integers(0, 2, len(ones)).astype(np.int8)
    writer.coins(bits, ones)
    some = rng.integers(0, 2, (3, 50)).astype(np.int8)
    rates = np.array([1, 17, 94], np.int64)
    writer.bernoulli(some, 3, 50, rates, 95)
    decoder = Decoder(writer.finish()[0])
    assert [decoder.symbol(bernoulli(one / COIN)) for one in ones.tolist()] == bits.tolist()
    for row, rate in zip(some, rates.tolist(), strict=True):
        assert [decoder.symbol(bernoulli(rate / 95)) for _ in row] == row.tolist()
