from __future__ import annotations

import numpy as np
import pytest

from pyrosparse.coding.steps import bias_step, code_step, round_step
from pyrosparse.coding.stream import DamagedStreamError, Reader, Writer

STEPS = [1e-30, 2.0**-14, 0.0123, 0.5, 1.0, 3.99, 7.0, 2.0**90]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_there_and_back(version: int) -> None:
    writer = Writer()
    writer.version = version
    for step in map(round_step, STEPS):
        code_step(writer, step)
    reader = Reader(writer.finish()[0])
    reader.version = version
    assert [code_step(reader, None) for _ in STEPS] == [round_step(step) for step in STEPS]


def test_usual_steps_take_twelve_bits_and_the_bias_one() -> None:
    writer = Writer()
    writer.name = "fc1.weight"
    code_step(writer, round_step(0.3))
    assert writer.bits < 12
    before = writer.bits
    writer.name = "fc1.bias"
    code_step(writer, bias_step(round_step(0.3)))
    assert writer.bits - before == 1
    code_step(writer, 0.5)
    assert writer.bits - before < 15
    reader = Reader(writer.finish()[0])
    got = []
    for name in ("fc1.weight", "fc1.bias", "fc1.bias"):
        reader.name = name
        got.append(code_step(reader, None))
    assert got == [round_step(0.3), bias_step(round_step(0.3)), 0.5]


@pytest.mark.parametrize(("exponent", "mantissa"), [(0, 0), (255, 0), (255, 1), (254, 127)])
def test_steps_that_are_no_steps_are_refused(exponent: int, mantissa: int) -> None:
    from pyrosparse.coding.steps import EXPONENTS

    writer = Writer()
    writer.chance(exponent, EXPONENTS)
    writer.choice(mantissa, 128)
    with pytest.raises(DamagedStreamError, match="step"):
        code_step(Reader(writer.finish()[0]), None)


def test_halving_is_exact() -> None:
    generator = np.random.default_rng(0)
    for step in np.exp(generator.normal(size=200)):
        assert bias_step(round_step(step)) == round_step(step) / 2
