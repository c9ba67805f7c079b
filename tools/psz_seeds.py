"""Small ``.psz`` files for tools/fuzz_psz.py to damage, one for each way of sending something."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from pyrosparse.coding import psz
from pyrosparse.coding.content import Content
from pyrosparse.coding.draws import Blocks, RandomCode
from pyrosparse.coding.precision import make_plan
from pyrosparse.nn import ComplexLinear, SelectLinear

__all__ = ["random_code", "seeds"]

START = 0


class Own(nn.Module):
    """A network of a class that no file knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 8)


def seeds() -> list[bytes]:
    """One small file for each way of sending something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(START)
        return _seeds()


def _seeds() -> list[bytes]:
    generator = torch.Generator().manual_seed(0)

    def thin(network: nn.Module, density: float = 0.3) -> dict[str, torch.Tensor]:
        sigma = {}
        for name, value in network.named_parameters():
            value.data = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                keep = torch.rand(value.shape[:2], generator=generator) < density
                keep = keep.view(*value.shape[:2], *[1] * (value.dim() - 2))
                value.data *= keep
                spread = torch.exp(torch.randn(value.shape[0], *[1] * (value.dim() - 1), generator=generator))
                sigma[name] = (0.4 * keep * spread).expand_as(value)
        return sigma

    def encoded(network: nn.Module, sigma: dict[str, torch.Tensor] | None, **options: Any) -> bytes:
        count = sum(p.numel() for p in network.parameters())
        return psz.encode(network, make_plan(network, sigma, None if sigma is None else 1.0, **options), count)

    index = torch.arange(64)[torch.rand(64, generator=generator) < 0.5]
    select = nn.Sequential(SelectLinear(index, 64, 20), nn.ReLU(), nn.Linear(20, 3))
    grouped = nn.Sequential(nn.Linear(60, 50))
    convolution = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5))
    complex_ = nn.Sequential()
    complex_.add_module("plane", ComplexLinear(30, 20))
    own, doubles = Own(), nn.Sequential(nn.Linear(5, 4)).double()
    files = [encoded(network, thin(network)) for network in (select, grouped, convolution, complex_, own)]
    files += [encoded(network, thin(network), codebook=4) for network in (select, complex_)]
    files += [encoded(network, None) for network in (convolution, own, doubles)]
    tied = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    tied[1].weight = tied[0].weight
    files.append(encoded(tied, thin(tied)))
    files += [random_code(shape) for shape in ((12, 20), (4, 3, 5, 5))]
    return files


def random_code(shape: tuple[int, ...]) -> bytes:
    """A file whose weights are draws by the numbers 0, 37, 74, … of their blocks."""
    layer: nn.Module = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2])
    network = nn.Sequential(layer)
    sigma = {"0.weight": torch.full(shape, 0.25)}
    plan = make_plan(network, sigma, 1.0)
    count = math.prod(shape)
    alive = (np.arange(count) * 5 % 7 > 3).reshape(shape)
    blocks = Blocks("0.weight", int(alive.sum()), 5)
    code = RandomCode(7, 5, np.arange(blocks.number) * 37 % 128)
    levels = np.zeros(shape, np.int32)
    levels[alive] = blocks.weights(code.indices)
    content = Content("r", torch.float32, levels, 2.0**-13, code=code)
    return psz.encode(network, dataclasses.replace(plan, contents=plan.contents | {"0.weight": content}), count)
