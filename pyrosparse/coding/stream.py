"""One description of the data, three uses: measure it, write it, read it.

A codec is written once, as a walk over a :class:`Stream`. Each method takes the symbols (``None`` when
they are being read) and returns them, so that writer and reader cannot drift apart. :class:`Meter` only
adds up the ideal length and serves to choose between two ways of coding; :class:`Writer` drives
constriction's range coder; :class:`Reader` undoes it.

Everything that a model is made of is an integer, and the only arithmetic on the way to constriction is one
correctly rounded division, so that a file decodes to the same symbols on every machine. ``perfect=False``
is passed explicitly: its default has changed between versions of constriction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.container import VERSION
from pyrosparse.coding.interval import WORD, shortest_in

__all__ = ["DamagedStreamError", "Meter", "Reader", "Stream", "Writer", "admitted", "cheapest"]

Ints = NDArray[np.int64]
Bits = NDArray[np.int8]
Choice = TypeVar("Choice")

LARGEST_UNIFORM = 1 << 20  # constriction's models have 24 bits of precision
LARGEST_ALPHABET = 1 << 14
COIN = 1 << 22  # denominator of the probabilities of `coins`
LONGEST_NUMBER = 48  # bits of an integer sent by `number`
NUMBER_LENGTHS = np.repeat(np.array([64, 4]), [11, LONGEST_NUMBER - 10])  # how likely each length is: most are short
ROUNDING_LOSS = 2.0**-7  # more bits than a symbol loses where the range coder's interval is narrowest
BLOCK = 1 << 18  # positions coded in one call when each row has its own rate

# How many symbols, and how many numbers, a payload of a given size may hold: what bounds the time and the memory that
# a hostile file can take. A network that is sparser than one weight in some thousands gets padding.
FREE_SYMBOLS = 1 << 20
SYMBOLS_PER_BYTE = 1 << 10


class DamagedStreamError(Exception):
    """What was read cannot have been written; turned into ``CorruptFileError`` where the file is known."""


def admitted(length: int) -> int:
    """How many symbols, and how many numbers, are read from a payload of so many bytes, its padding included."""
    return FREE_SYMBOLS + SYMBOLS_PER_BYTE * length


class Stream:
    """What the three streams share: lengths in bits, by section.

    :param version: of the format; what a codec sends may depend on it.
    """

    reading = False

    def __init__(self, version: int = VERSION) -> None:
        self.version = version
        self.lengths: dict[str, float] = {}  # section -> ideal bits
        self.symbols = 0
        self.work = 0  # that costs no bits, in symbols
        self.name = ""  # tensor that is being coded
        self.places: Ints | None = None  # original positions of its inputs
        self.steps: dict[str, float] = {}  # of the tensors so far
        self._section = ""

    @property
    def bits(self) -> float:
        """Ideal length so far, in bits."""
        return sum(self.lengths.values())

    def section(self, name: str) -> None:
        """Count what follows under ``name``."""
        self._section = name
        self.lengths.setdefault(name, 0.0)

    def charge(self, bits: float, symbols: int = 0) -> None:
        """Add an ideal length to the current section."""
        self.lengths[self._section] = self.lengths.get(self._section, 0.0) + float(bits)
        self.symbols += symbols

    def admit(self, count: int) -> None:
        """Count work that costs no bits as so many symbols, since these bound a reader's time and memory."""
        self._admit(count)
        self.work += count

    def _admit(self, count: int) -> None:
        """Refuse more symbols than the payload can hold (readers only)."""

    def _code(self, symbols: Any, count: int, model: Callable[[], Any], each: Any = None) -> Any:
        """Send or fetch symbols, with one parameter ``each`` or none; a meter does neither."""
        assert symbols is not None
        return symbols

    def uniform(self, symbols: Ints | None, count: int, size: int) -> Ints:
        """``count`` symbols from ``0 … size - 1``, all as likely; costs ``count * log2(size)`` bits."""
        if not 1 <= size <= LARGEST_UNIFORM:
            raise DamagedStreamError(f"a uniform alphabet of {size} symbols")
        if size == 1 or count == 0:  # nothing to say
            return np.zeros(count, np.int64)
        self._admit(count)
        symbols = self._code(symbols, count, lambda: _models().Uniform(size))
        self.charge(count * np.log2(size), count)
        return symbols

    def flag(self, value: bool | None) -> bool:
        """One bit."""
        return bool(self.choice(None if value is None else int(value), 2))

    def choice(self, value: int | None, size: int) -> int:
        """One symbol from ``0 … size - 1``."""
        return int(self.uniform(None if value is None else np.array([value], np.int64), 1, size)[0])

    def chance(self, value: int | None, weights: Ints) -> int:
        """One symbol with probabilities proportional to integer weights."""
        return int(self.categorical(None if value is None else np.array([value], np.int64), 1, weights)[0])

    def raw(self, values: Ints | None, count: int, width: int) -> Ints:
        """``count`` non-negative integers of ``width`` bits each, as they are."""
        if not 0 <= width <= 64:
            raise DamagedStreamError(f"integers of {width} bits")
        unsigned = np.zeros(count, np.uint64)
        given = None if values is None else values.astype(np.uint64)
        for low in range(0, width, 16):
            size = min(16, width - low)
            part = None
            if given is not None:
                part = ((given >> np.uint64(low)) & np.uint64((1 << size) - 1)).astype(np.int64)
            unsigned |= self.uniform(part, count, 1 << size).astype(np.uint64) << np.uint64(low)
        return unsigned.astype(np.int64)

    def number(self, value: int | None) -> int:
        """One non-negative integer below 2^48: its length in bits, then the bits below the leading one."""
        size = None if value is None else int(value).bit_length()
        if self.version < 3:
            length = self.choice(size, LONGEST_NUMBER + 1)
        else:
            length = self.chance(size, NUMBER_LENGTHS)
        if length <= 1:
            return length
        lead = 1 << (length - 1)
        rest = self.raw(None if value is None else np.array([value - lead], np.int64), 1, length - 1)
        return lead + int(rest[0])

    def categorical(self, symbols: Ints | None, count: int, weights: Ints) -> Ints:
        """``count`` symbols ``0 … len(weights) - 1`` with probabilities proportional to integer weights."""
        size = len(weights)
        if not 1 <= size <= LARGEST_ALPHABET or weights.min() < 0 or not weights.any():
            raise DamagedStreamError("a histogram that is empty, too long or negative")
        used = np.flatnonzero(weights)
        if len(used) == 1 or count == 0:
            return np.full(count, used[0], np.int64)
        self._admit(count)
        # Symbols that never occur get no share of the probability at all.
        share = weights[used].astype(np.float64) / float(weights.sum())
        ranks = None
        if symbols is not None:
            rank = np.zeros(size, np.int64)
            rank[used] = np.arange(len(used))
            ranks = rank[symbols]
        ranks = self._code(ranks, count, lambda: _models().Categorical(share, perfect=False))
        self.charge(-float(np.bincount(ranks, minlength=len(used)) @ np.log2(share)), count)
        return used[ranks]

    def bernoulli(self, bits: Bits | None, rows: int, width: int, ones: Ints, out_of: int) -> Bits:
        """Bits of shape ``(rows, width)``; in row ``r`` a one has probability ``ones[r] / out_of``."""
        if rows * width == 0:
            return np.zeros((rows, width), np.int8)
        if out_of <= 0 or ones.min() <= 0 or ones.max() >= out_of:
            raise DamagedStreamError("a rate that is not inside (0, 1)")
        self._admit(rows * width)
        rates = ones.astype(np.float64) / float(out_of)
        out = np.empty((rows, width), np.int8) if bits is None else bits
        if rows == 1:
            rate = float(rates[0])
            for start in range(0, width, BLOCK):
                part = out[0, start : start + BLOCK]
                given = None if bits is None else part
                part[:] = self._code(given, len(part), lambda: _models().Bernoulli(rate, perfect=False))
        else:
            step = max(1, BLOCK // width)
            for start in range(0, rows, step):
                block = out[start : start + step]
                given = None if bits is None else block.reshape(-1)
                each = np.repeat(rates[start : start + step], width)
                got = self._code(given, len(each), lambda: _models().Bernoulli(perfect=False), each)
                block[:] = got.reshape(-1, width)
        total = out.sum(axis=1, dtype=np.int64)
        cost = -(total @ np.log2(rates) + (width - total) @ np.log2(1 - rates))
        self.charge(float(cost), rows * width)
        return out

    def coins(self, bits: Bits | None, ones: Ints) -> Bits:
        """Bits that each have a probability of their own: a one comes with ``ones / 2^22``."""
        count = len(ones)
        if count == 0:
            return np.zeros(0, np.int8)
        self._admit(count)
        rates = ones.astype(np.float64) * (1.0 / COIN)  # exact
        bits = self._code(bits, count, lambda: _models().Bernoulli(perfect=False), rates).astype(np.int8)
        self.charge(-float(np.log2(np.where(bits, rates, 1.0 - rates)).sum()), count)
        return bits


class Meter(Stream):
    """Adds up what coding would cost, and codes nothing."""


class Writer(Stream):
    """Writes to constriction's range encoder."""

    def __init__(self) -> None:
        super().__init__()
        import constriction

        self._encoder = constriction.stream.queue.RangeEncoder()

    def _code(self, symbols: Any, count: int, model: Callable[[], Any], each: Any = None) -> Any:
        assert symbols is not None
        symbols32 = np.ascontiguousarray(symbols, np.int32)
        if each is None:
            self._encoder.encode(symbols32, model())
        else:
            self._encoder.encode(symbols32, model(), each)
        return symbols

    def finish(self, numbers: int = 0) -> tuple[bytes, int]:
        """Return the bytes, and how many bytes of padding a reader's limit on symbols and numbers asks for."""
        payload = shortest_in(self._encoder)
        short = max(self.symbols + self.work, numbers) - admitted(len(payload))
        return payload, max(0, -(-short // SYMBOLS_PER_BYTE))


class Reader(Stream):
    """Reads what a :class:`Writer` wrote.

    :param payload: bytes of the range coder.
    :param padding: bytes that count towards the limit on symbols.
    :param version: of the format.
    """

    reading = True

    def __init__(self, payload: bytes, padding: int = 0, version: int = VERSION) -> None:
        super().__init__(version)
        import constriction

        if version < 3 and len(payload) % WORD:
            raise DamagedStreamError("the coded weights are cut short")
        whole = payload + bytes(-len(payload) % WORD)
        words = np.frombuffer(whole, "<u4" if version < 3 else ">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._length = len(payload)
        self._left = admitted(len(payload) + padding)

    def _admit(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise DamagedStreamError("more weights are claimed than the file can hold")

    def _code(self, symbols: Any, count: int, model: Callable[[], Any], each: Any = None) -> Any:
        try:
            got = self._decoder.decode(model(), count if each is None else each)
        except (AssertionError, ValueError) as error:
            raise DamagedStreamError("the coded weights do not decode") from error
        return np.asarray(got, np.int64)

    def finish(self) -> None:
        """Check that all has been read: that the payload is no longer than what was read can have taken."""
        most = self.bits + ROUNDING_LOSS * self.symbols + 64
        over = not self._decoder.maybe_exhausted() if self.version < 3 else 8 * self._length > most
        if over:
            raise DamagedStreamError("coded weights are left over")


def cheapest(choices: Iterable[Choice], code: Callable[[Meter, Choice], object]) -> Choice:
    """Return the choice whose coding is shortest by a :class:`Meter`; the first one on a tie."""
    best: tuple[float, Choice] | None = None
    for choice in choices:
        meter = Meter()
        code(meter, choice)
        if best is None or meter.bits < best[0]:
            best = (meter.bits, choice)
    if best is None:
        raise ValueError("no choice was given")
    return best[1]


def _models() -> Any:
    import constriction

    return constriction.stream.model
