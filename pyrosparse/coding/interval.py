"""The last bytes of the range coder: constriction writes whole words, a file needs only digits enough to decode."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["WORD", "shortest_in"]

WORD = 4  # bytes of a word of the range coder


def shortest_in(encoder: Any) -> bytes:
    """Return the bytes of the number with the fewest digits in the encoder's interval, without zeros at the end."""
    words = encoder.get_compressed()
    if not len(words):
        return b""
    done, (low, width) = encoder.pos()  # the interval, in units of the second word after those that are done
    size = max(len(words), done + 2)
    tail = np.zeros(size, np.uint32)
    tail[: len(words)] = words
    number = int.from_bytes(tail.astype(">u4").tobytes(), "big")
    shift = 8 * WORD * (size - done - 2)
    low = number - (((number >> shift) - low) % (1 << 64) << shift)  # what the encoder rounded up is less than a word
    high = low + (width << shift)
    for digits in range(shift + 8 * (2 * WORD), -1, -8):  # bits that are left out
        rounded = -(-low >> digits) << digits
        if rounded < high:
            return rounded.to_bytes(WORD * size, "big").rstrip(b"\0")
    raise AssertionError("an empty interval")
