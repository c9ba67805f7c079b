"""The tables of what is written: ``[quantise]``, ``[file]``, ``[random_code]`` and ``[export]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pyrosparse.config.base import Share, Table

__all__ = ["Export", "File", "Quantise", "RandomCode"]


class Quantise(Table):
    """``[quantise]``: the last epochs are trained through the rounding of the file, mask fixed; 0 epochs leave it out.

    Of the steps in ``c`` (only ``file.c`` where that is given) the largest is taken whose validation error is within
    ``file.tolerance`` of that of the network before.
    """

    epochs: NonNegativeInt = 0
    lr: PositiveFloat = 5e-3
    c: Annotated[list[PositiveFloat], Field(min_length=1)] = Field(default_factory=lambda: [0.5, 1.0, 1.5, 2.0])


class File(Table):
    """``[file]``: quantisation step c·σ; without ``c`` chosen on validation data within ``tolerance``.

    ``rate_weight`` is what a nat of the file counts against a nat of error; ``"auto"``: chosen like ``c``. With
    ``codebook`` each weight takes one of so many centres of its layer instead of a multiple of a step. With ``codec =
    "random-code"`` weights are draws of shared chance, see ``[random_code]``, and ``c`` is the step of biases alone.
    """

    c: PositiveFloat | None = None
    rate_weight: NonNegativeFloat | Literal["auto"] = 0.0
    tolerance: Share = 0.002
    codebook: Annotated[int, Field(ge=1, le=4096)] | None = None
    codec: Literal["integers", "random-code"] = "integers"


class RandomCode(Table):
    """``[random_code]``: how weights become draws of shared chance, with ``file.codec = "random-code"``.

    Blocks of weights are sent with ``bits`` each, at ``rate`` bits for a bit of the posterior's KL, in ``rounds``; the
    others are fitted for ``settle`` epochs before the first round and for ``epochs`` after each. 0 epochs: codes of
    the posterior as it is, which are off by more.
    """

    bits: Annotated[int, Field(ge=1, le=20)] = 12
    rate: PositiveFloat = 1.0
    settle: PositiveInt = 4
    rounds: PositiveInt = 8
    epochs: NonNegativeInt = 1
    lr: PositiveFloat = 1e-3


class Export(Table):
    """``[export]``."""

    onnx: bool = True
