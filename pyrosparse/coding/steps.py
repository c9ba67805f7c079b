"""Quantisation steps: eight significant bits, and that of a bias is half the step of its layer's weights."""

from __future__ import annotations

import math

import numpy as np

from pyrosparse.coding.stream import DamagedStreamError, Stream

__all__ = ["LARGEST_STEP", "bias_step", "code_step", "round_step"]

LARGEST_STEP = 2.0**100  # times the largest level, still a finite float32
EXPONENT_BIAS = 127  # of float32
USUAL = range(EXPONENT_BIAS - 13, EXPONENT_BIAS + 3)  # exponents of most steps
EXPONENTS = np.where(np.isin(np.arange(256), USUAL), 128, 1)  # how likely each is


def round_step(step: float) -> float:
    """Round a positive step up to eight significant bits, so that it travels in 16 bits."""
    mantissa, exponent = math.frexp(step)  # mantissa in [1/2, 1)
    return math.ldexp(math.ceil(mantissa * 256), exponent - 8)


def bias_step(step: float) -> float:
    """Return the step of a bias in a layer whose weights have this one."""
    return round_step(step / 2)


def code_step(stream: Stream, step: float | None) -> float:
    """Send the step of the stream's tensor: a flag for a bias that has its layer's, else exponent and mantissa."""
    usual = _expected(stream)
    if stream.version >= 3 and usual is not None and stream.flag(None if step is None else step == usual):
        return usual
    pattern = None if step is None else int(np.float32(step).view(np.uint32)) >> 16
    value = float(np.uint32(_code_pattern(stream, pattern) << 16).view(np.float32))
    if not 0 < value <= LARGEST_STEP:
        raise DamagedStreamError("a quantisation step that is not a positive number")
    stream.steps[stream.name] = value
    return value


def _code_pattern(stream: Stream, pattern: int | None) -> int:
    """Send sixteen bits of a float32: from version 3 on without the sign, and with usual exponents in fewer bits."""
    if stream.version < 3:
        return int(stream.raw(None if pattern is None else np.array([pattern], np.int64), 1, 16)[0])
    exponent = stream.chance(None if pattern is None else pattern >> 7, EXPONENTS)
    return exponent << 7 | stream.choice(None if pattern is None else pattern & 127, 128)


def _expected(stream: Stream) -> float | None:
    """Step that a bias most often has; None for other tensors."""
    if not stream.name.endswith("bias"):
        return None
    step = stream.steps.get(f"{stream.name[: -len('bias')]}weight")
    return None if step is None else bias_step(step)
