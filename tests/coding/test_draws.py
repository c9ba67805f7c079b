"""Random codes of single blocks: the law of what is sent, the error that bits buy, and what readers refuse."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pyrosparse.coding.draws import Blocks, Pick, RandomCode, block_bits, choose_index, code_indices
from pyrosparse.coding.normals import UNIT, quantiles
from pyrosparse.coding.stream import DamagedStreamError, Reader, Writer

MEAN, SIGMA = 1.5, 0.3


def sent(bits: int, count: int, *, pick: Pick, mean: float = MEAN, sigma: float = SIGMA) -> np.ndarray:
    """What arrives of many blocks of one weight with the same posterior, under N(0, 1)."""
    blocks, generator = Blocks("w", count, 1), np.random.default_rng(0)
    at = {"mean": np.array([mean]), "sigma": np.array([sigma]), "prior": 1.0, "pick": pick, "generator": generator}
    indices = [choose_index(blocks, block, bits, **at) for block in range(count)]
    values = np.empty(count)
    values[:] = blocks.weights(np.array(indices))[blocks.order] / UNIT
    return values


def test_bits_are_those_of_the_closed_form() -> None:
    mean, sigma, prior = np.array([0.3, 1.0]), np.array([0.1, 2.0]), 0.7
    nats = np.log(prior / sigma) + (sigma**2 + mean**2) / (2 * prior**2) - 0.5
    assert np.allclose(block_bits(mean, sigma, prior), nats / np.log(2))


def test_the_bias_of_one_bit_is_that_of_two_weighted_draws() -> None:
    """E of the sampled one of two draws, by summing over both: self-normalised importance sampling with K = 2."""
    z = quantiles()[8::16] / UNIT
    ratio = np.exp(-0.5 * ((z - MEAN) / SIGMA) ** 2 + 0.5 * z * z)
    first, second = ratio[:, None], ratio[None]
    total = first + second
    total[total == 0] = 1.0
    expected = float(((first * z[:, None] + second * z[None]) / total).mean())
    got = sent(1, 4000, pick=Pick.SAMPLE)
    assert abs(got.mean() - expected) < 4.5 * got.std() / np.sqrt(len(got)) + 0.01  # 0.01: draws on a coarser grid
    assert abs(expected - MEAN) > 0.5


def test_the_law_of_what_is_sent_nears_the_posterior() -> None:
    """KL is 2.7 bits; biases of mean and deviation fall with every bit beyond, to the noise of Monte Carlo."""
    off = []
    for bits in (2, 4, 9):
        got = sent(bits, 2000, pick=Pick.SAMPLE)
        off.append((abs(got.mean() - MEAN), abs(got.std() - SIGMA)))
    assert off[0] > off[1] and off[0][1] > off[1][1]
    error = SIGMA / np.sqrt(2000)
    assert off[2][0] < 4.5 * error + 0.01 and off[2][1] < 4.5 * error + 0.01


def test_the_nearest_draw_errs_as_an_extreme_value_says() -> None:
    """Of K draws of density p(μ) the nearest is off by d with E d² = 1/(2 K² p(μ)²)."""
    bits, mean = 8, 0.4
    got = sent(bits, 2000, pick=Pick.NEAREST, mean=mean)
    density = np.exp(-0.5 * mean**2) / np.sqrt(2 * np.pi)
    expected = 1 / (2 * 4.0**bits * density**2)
    squared = (got - mean) ** 2
    assert abs(squared.mean() - expected) < 4.5 * squared.std() / np.sqrt(len(got))


def test_blocks_come_near_the_rate_distortion_bound() -> None:
    """Of a Gaussian source D ≥ 2^(−2R); shared draws of 12 bits for 6 weights stay within 1.6 times that."""
    rate, size, count = 2, 6, 100
    blocks, source = Blocks("w", size * count, size), np.random.default_rng(1)
    shrunk = 1 - 4.0**-rate  # what is sent has the law of the source less the error
    error = 0.0
    for block in range(count):
        x = source.normal(size=size)
        sigma = np.full(size, 0.25)
        index = choose_index(blocks, block, rate * size, mean=x, sigma=sigma, prior=np.sqrt(shrunk))
        z = blocks.draws(block, np.array([index]), size)[0] / UNIT * np.sqrt(shrunk)
        error += float(((z - x) ** 2).mean()) / count
    assert 4.0**-rate < error < 1.6 * 4.0**-rate


def test_parts_of_the_draws_are_looked_at_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Blocks("w", 20, 20)
    mean = np.random.default_rng(2).normal(size=20)
    whole = choose_index(blocks, 0, 9, mean=mean, sigma=np.full(20, 0.5), prior=1.0)
    monkeypatch.setattr("pyrosparse.coding.draws.DRAWS_AT_ONCE", 100)
    assert choose_index(blocks, 0, 9, mean=mean, sigma=np.full(20, 0.5), prior=1.0) == whole


@pytest.mark.parametrize(("count", "size", "bits"), [(1, 1, 1), (7, 3, 20), (50, 50, 5), (23, 5, 17)])
def test_round_trip(count: int, size: int, bits: int) -> None:
    blocks = Blocks("w", count, size)
    indices = np.random.default_rng(3).integers(0, 1 << bits, blocks.number)
    writer = Writer()
    writer.name = "w"
    _, values = code_indices(writer, RandomCode(bits, size, indices), count)
    for block, index in enumerate(indices):
        members = blocks.order[block * size : (block + 1) * size]
        assert np.array_equal(values[members], blocks.draws(block, np.array([index]), len(members))[0])
        assert (blocks.of_weights()[members] == block).all()
    reader = Reader(*writer.finish())
    reader.name = "w"
    code, got = code_indices(reader, None, count)
    reader.finish()
    assert (code.bits, code.size, code.indices.tolist()) == (bits, size, indices.tolist())
    assert np.array_equal(got, values)


@pytest.mark.parametrize(("count", "size"), [(10, 0), (10, 11), (1 << 27, 1 << 27), (1 << 27, 1 << 40)])
def test_claims_are_checked_before_anything_is_made(count: int, size: int) -> None:
    writer = Writer()
    writer.choice(11, 20)
    writer.number(size)
    writer.raw(np.array([5]), 1, 12)
    reader, start = Reader(*writer.finish()), time.process_time()
    with pytest.raises(DamagedStreamError):
        code_indices(reader, None, count)
    assert time.process_time() - start < 0.5
