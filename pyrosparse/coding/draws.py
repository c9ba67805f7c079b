r"""Relative-entropy coding: a block of weights is sent as the number of a draw that writer and reader share.

After Havasi, Peharz and Hernández-Lobato, "Minimal Random Code Learning: Getting Bits Back from Compressed Model
Parameters" (ICLR 2019). Prior and posterior are Gaussian, :math:`p = N(0, \sigma_p^2)` for a layer and
:math:`q = N(\mu, \sigma^2)` for each weight that pruning has left. Both sides make the same :math:`2^b` draws
:math:`w_k \sim p` of a block, and the writer sends a k. The bits that a block needs are its :math:`KL(q\|p)`: with
:math:`b = (KL + t)/\ln 2` the law of what is sent nears q as t grows. (The log-uniform prior of Sparse VD cannot be
drawn from; the fit of :func:`pyrosparse.coding.random_code` has the Gaussian one in its place.)

In the file (codec ``r``) a layer has a step, :math:`\sigma_p/2^{12}`; the mask, as for complex weights; b; the weights
of a block; and b bits a block. Draws are those of :mod:`pyrosparse.coding.normals`, keyed by the CRC-32 of the
tensor's name; the weights are dealt to the blocks in the order of :func:`~pyrosparse.coding.normals.shuffled`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pyrosparse.coding.normals import INDEX_BITS, LANES, UNIT, normals, shuffled
from pyrosparse.coding.stream import DamagedStreamError, Stream

__all__ = ["LARGEST_BITS", "Blocks", "Pick", "RandomCode", "block_bits", "choose_index", "code_indices"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LARGEST_BITS = INDEX_BITS  # of an index
DRAWS_AT_ONCE = 1 << 20  # numbers
BLOCKS_AT_ONCE = 1 << 14
SYMBOLS_A_WEIGHT = 8  # a draw takes about as long as so many symbols


class Pick(StrEnum):
    """Which of the draws is sent."""

    NEAREST = "nearest"
    """The one of highest density under the posterior: the least error that the bits can buy."""

    SAMPLE = "sample"
    """One at random, with probabilities in proportion to q/p: its law nears the posterior (Havasi et al., 2019)."""


@dataclass(frozen=True)
class Blocks:
    """How the weights of a tensor are dealt to blocks.

    :param name: of the tensor.
    :param count: weights.
    :param size: weights of a block; the last may have fewer.
    """

    name: str
    count: int
    size: int

    @property
    def number(self) -> int:
        """How many blocks there are."""
        return -(-self.count // self.size)

    @property
    def key(self) -> int:
        """Key of the draws."""
        return zlib.crc32(self.name.encode())

    @property
    def order(self) -> Ints:
        """Weights in the order of the blocks."""
        return shuffled(self.key, self.count)

    def of_weights(self) -> Ints:
        """Block of each weight."""
        block = np.empty(self.count, np.int64)
        block[self.order] = np.arange(self.count) // self.size
        return block

    def draws(self, block: int, indices: Ints, size: int) -> NDArray[np.int32]:
        """Draws of one block, in units of 1/:data:`UNIT`: shape (indices, size)."""
        groups = -(-self.size // LANES)
        numbers = normals(self.key, block * groups + np.arange(groups)[None], indices[:, None])
        return numbers.reshape(len(indices), -1)[:, :size]

    def weights(self, indices: Ints) -> NDArray[np.int32]:
        """Weights by the index of each block, in units of 1/:data:`UNIT` of the prior's deviation."""
        groups = -(-self.size // LANES)
        out = np.empty(self.number * self.size, np.int32)
        for start in range(0, self.number, BLOCKS_AT_ONCE):
            of = indices[start : start + BLOCKS_AT_ONCE]
            block = np.arange(start, start + len(of))[:, None]
            numbers = normals(self.key, block * groups + np.arange(groups)[None], of[:, None])
            part = numbers.reshape(len(of), -1)[:, : self.size].reshape(-1)
            out[start * self.size : start * self.size + len(part)] = part
        weights = np.empty(self.count, np.int32)
        weights[self.order] = out[: self.count]
        return weights


@dataclass(frozen=True)
class RandomCode:
    """Random code of one tensor's weights.

    :param bits: b, of each index.
    :param size: weights of a block.
    :param indices: of the blocks.
    """

    bits: int
    size: int
    indices: Ints


def block_bits(mean: Floats, sigma: Floats, prior: float) -> Floats:
    r"""KL divergence of each weight in bits.

    .. math:: \log_2(\sigma_p/\sigma) + (\sigma^2 + \mu^2 - \sigma_p^2) / (2 \sigma_p^2 \ln 2)
    """
    return np.log2(prior / sigma) + ((sigma**2 + mean**2) / prior**2 - 1.0) / (2.0 * np.log(2.0))


def choose_index(
    blocks: Blocks,
    block: int,
    bits: int,
    *,
    mean: Floats,
    sigma: Floats,
    prior: float,
    pick: Pick = Pick.NEAREST,
    generator: np.random.Generator | None = None,
) -> int:
    r"""Choose the draw to send for one block.

    :param blocks: the deal.
    :param block: number of the block.
    :param bits: b; :math:`2^b` draws are looked at.
    :param mean: posterior means of its weights.
    :param sigma: their posterior standard deviations.
    :param prior: :math:`\sigma_p`.
    :param pick: which of the draws.
    :param generator: chance of :attr:`Pick.SAMPLE`; the reader needs nothing of it.
    """
    # log q(w) − log p(w) of w = σ_p z, up to a constant; without the prior's part for the nearest
    square = -0.5 * (prior / sigma) ** 2 + (0.5 if pick is Pick.SAMPLE else 0.0)
    linear = mean * prior / sigma**2
    best, score = 0, -np.inf
    for indices in _parts(1 << bits, max(1, DRAWS_AT_ONCE // max(1, len(mean)))):
        z = blocks.draws(block, indices, len(mean)) / UNIT
        scores = z * z @ square + z @ linear
        if pick is Pick.SAMPLE:  # the largest after Gumbel noise is a draw in proportion to exp(score)
            scores += (generator or np.random.default_rng(block)).gumbel(size=len(scores))
        place = int(scores.argmax())
        if scores[place] > score:
            best, score = int(indices[place]), float(scores[place])
    return best


def _parts(count: int, size: int) -> Iterator[Ints]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count), dtype=np.int64)


def code_indices(stream: Stream, code: RandomCode | None, count: int) -> tuple[RandomCode, NDArray[np.int32]]:
    """Send the code of ``count`` weights; also the weights, in units of 1/:data:`UNIT` of the prior's deviation."""
    stream.admit(SYMBOLS_A_WEIGHT * count)
    bits = 1 + stream.choice(None if code is None else code.bits - 1, LARGEST_BITS)
    size = stream.number(None if code is None else code.size)
    if not 1 <= size <= max(1, count):
        raise DamagedStreamError("blocks of a random code that are empty or too large")
    blocks = Blocks(stream.name, count, size)
    indices = stream.raw(None if code is None else code.indices, blocks.number, bits)
    return RandomCode(bits, size, indices), blocks.weights(indices)
