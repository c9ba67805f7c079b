from __future__ import annotations

import numpy as np
import pytest

from pyrosparse.coding.index import LARGEST_MAP, code_index
from pyrosparse.coding.stream import DamagedStreamError, Meter, Reader, Writer


def there_and_back(levels: np.ndarray, version: int = 3) -> float:
    writer = Writer()
    writer.version = version
    writer.section("index")
    code_index(writer, levels, len(levels))
    reader = Reader(writer.finish()[0])
    reader.version = version
    np.testing.assert_array_equal(code_index(reader, None, len(levels)), levels)
    if version == 3:  # payloads of older ones end otherwise
        reader.finish()
    return writer.bits


def disc() -> np.ndarray:
    """Pixels of an image of 28 by 28 that are near its middle; the rim is ragged."""
    y, x = np.divmod(np.arange(784), 28)
    ragged = np.random.default_rng(0).normal(size=784) * 15
    return np.flatnonzero((x - 13.5) ** 2 + (y - 13.5) ** 2 < 120 + ragged)


@pytest.mark.parametrize(
    "levels",
    [np.zeros(0), [5], [0, 1, 2], np.arange(800), [3, 1, 2], [-4, 7], [0, 1 << 39], disc(), np.arange(0, 5000, 7),
     np.flatnonzero(np.random.default_rng(0).random(300) < 0.6)],
)  # fmt: skip
def test_there_and_back(levels: list[int]) -> None:
    for version in (2, 3):
        there_and_back(np.array(levels, np.int64), version)


def test_an_image_is_predicted_from_the_row_above() -> None:
    assert there_and_back(disc()) < 0.8 * there_and_back(disc(), version=2)


def test_images_that_are_too_long_are_refused() -> None:
    writer = Writer()
    writer.choice(3, 4)
    writer.number(LARGEST_MAP + 1)
    writer.number(28)
    with pytest.raises(DamagedStreamError, match="too long"):
        code_index(Reader(writer.finish()[0]), None, 3)


def test_the_choice_depends_on_the_integers_alone() -> None:
    bits = [Meter(), Meter()]
    for meter in bits:
        code_index(meter, disc(), len(disc()))
    assert bits[0].bits == bits[1].bits
