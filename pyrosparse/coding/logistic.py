"""Adaptive probabilities in integer arithmetic: log-odds, counts by context, and logistic mixing.

A probability is an integer over :data:`ONE` (2^22, so that the quotient is exact in float64); log-odds are
integers in units of 2^-12 nats; counts are in units of 1/:data:`COUNT`. The two tables behind them come from
:mod:`decimal`, whose ``exp`` and ``ln`` are correctly rounded: they are the same on every machine, and all
that follows is integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["COUNT", "ONE", "WEIGHT", "Mixer", "Rates", "decimals", "gather", "log_of", "squash"]

Ints = NDArray[np.int64]
Small = NDArray[np.int32]

ONE = 1 << 22  # certainty
COUNT = 32  # one observation
UNIT = 1 << 12  # one nat
LN2 = 2839  # ln 2 in those units
WEIGHT = 1 << 16  # a weight of one in a mixer
LARGEST_ODDS = 12 * UNIT
_LOG_BITS = 12
_STEP_BITS = 4  # the table of the logistic function has one entry per 2^-8 nats
_HALF_TABLE = LARGEST_ODDS >> _STEP_BITS
_BLOCK = 1 << 10  # a longer batch is worked through in parts: what is in between is several times as large


def decimals(digits: int) -> Context:
    """Arithmetic of the tables: whatever rounding and traps the program around has set for its own decimals."""
    return Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, clamp=0, traps=[])


@cache
def _logarithms() -> Ints:
    """``round(2^12 ln k)`` for k below 2^12; the entry for 0 is 0."""
    with localcontext(decimals(12)):
        table = [int((Decimal(k).ln() * UNIT).to_integral_value()) for k in range(1, 1 << _LOG_BITS)]
    return np.array([0, *table], np.int64)


@cache
def _logistic() -> Ints:
    """``round(2^22 / (1 + exp(-d)))`` for log-odds d from -12 to 12, kept off 0 and 1."""
    steps = range(-_HALF_TABLE, _HALF_TABLE + 1)
    with localcontext(decimals(12)):
        scale = Decimal(UNIT >> _STEP_BITS)
        table = [int((ONE / (1 + (-Decimal(d) / scale).exp())).to_integral_value()) for d in steps]
    return np.clip(np.array(table, np.int64), 1, ONE - 1)


def log_of(counts: Ints) -> Ints:
    """Natural logarithms of positive integers below 2^53, from their leading twelve bits."""
    drop = np.maximum(np.frexp(counts.astype(np.float64))[1].astype(np.int64) - _LOG_BITS, 0)
    return _logarithms()[counts >> drop] + drop * LN2


def squash(log_odds: Ints) -> Ints:
    """Probabilities, as integers over :data:`ONE`, of log-odds."""
    half_step = 1 << (_STEP_BITS - 1)
    return _logistic()[np.clip((log_odds + half_step >> _STEP_BITS) + _HALF_TABLE, 0, 2 * _HALF_TABLE)]


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))


def gather(odds: Small, contexts: Small) -> Small:
    """Log-odds of contexts of shape ``(features, batch)``."""
    out = np.empty(contexts.shape, np.int32)
    for part in _parts(contexts.shape[1]):
        out[:, part] = odds[contexts[:, part]]
    return out


class Rates:
    """How often a one came in each of several contexts.

    :param strengths: how many observations the common rate counts for in each context.
    """

    def __init__(self, strengths: Ints) -> None:
        self.ones = np.zeros(len(strengths), np.int64)
        self.total = np.zeros(len(strengths), np.int64)
        self._strengths = (COUNT * strengths).astype(np.int32)

    def odds(self, ones: int, others: int) -> Small:
        """Log-odds in every context, pulled towards the rate ``ones / (ones + others)``."""
        out = np.empty(len(self.ones), np.int32)
        for part in _parts(len(out)):
            strengths, seen = self._strengths[part].astype(np.int64), self.ones[part]
            prior = strengths * ones // (ones + others)
            counts = np.empty((2, len(seen)), np.int64)
            counts[0] = COUNT * seen + prior + 1
            counts[1] = COUNT * (self.total[part] - seen) + strengths - prior + 1
            logarithms = log_of(counts)
            out[part] = logarithms[0] - logarithms[1]
        return out

    def learn(self, contexts: Small, bits: NDArray[np.int8]) -> None:
        """Count bits, each in the contexts of its column."""
        size, ones = len(self.total), bits != 0
        for rows in contexts if contexts.size > _BLOCK else contexts[None]:
            self.total += np.bincount(rows.ravel(), minlength=size)
            self.ones += np.bincount(rows[..., ones].ravel(), minlength=size)


class Mixer:
    """Logistic mixing: log-odds are a weighted sum of features, and the weights are learnt online.

    After each batch the weights move by the gradient of its log-likelihood over the Fisher information
    gathered so far (one number a feature), so that no learning rate has to be sent.

    :param weights: starting weights in units of 2^-16, one a feature.
    :param information: what the starting weights are worth: the larger, the slower they move.
    """

    def __init__(self, weights: Sequence[int], information: int = 16) -> None:
        self._weights = np.array(weights, np.int64)
        self._information = np.full(len(weights), information << 20, np.int64)

    def predict(self, features: Small) -> Ints:
        """Probabilities of a one for features of shape ``(features, batch)``, in log-odds."""
        self._features = features
        self._probabilities = np.empty(features.shape[1], np.int64)
        for part in _parts(features.shape[1]):
            self._probabilities[part] = squash(self._weights @ features[:, part] >> 16)
        return self._probabilities

    def learn(self, bits: NDArray[np.int8]) -> None:
        """Take in the bits that the last prediction was for."""
        gradient, information = np.zeros((2, len(self._weights)), np.int64)
        for part in _parts(len(bits)):
            features, p = self._features[:, part].astype(np.int64), self._probabilities[part]
            surprise = (bits[part].astype(np.int64) << 22) - p
            coarse = features >> 4
            gradient += features @ surprise
            information += coarse * coarse @ (p * (ONE - p) >> 22)
        self._information += information >> 18  # units of 2^-20
        self._weights += (gradient >> 12 << 14) // self._information  # of units of 2^-22
        np.clip(self._weights, -4 * WEIGHT, 4 * WEIGHT, out=self._weights)
