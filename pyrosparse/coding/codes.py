"""Which codec a network is sent with: integers, or random codes, which it has or gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.text import nearest

if TYPE_CHECKING:
    from pyrosparse.coding.relative_entropy import RandomCoded
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["CODEC_NAMES", "INTEGERS", "RANDOM_CODE", "codes_of"]

CODEC_NAMES = INTEGERS, RANDOM_CODE = "integers", "random-code"


def codes_of(network: Pruned | nn.Module, codec: str, others: list[str]) -> RandomCoded | None:
    """Random codes of a network where these are asked for.

    :param others: names of settings that were given and are only for integers.
    :raises ConfigError: for another codec, or settings that do not go with it.
    """
    from pyrosparse.coding.relative_entropy import RandomCoded, code_posterior

    if codec not in CODEC_NAMES:
        raise ConfigError(f"save: codec={codec!r} is unknown{nearest(str(codec), CODEC_NAMES)}")
    if codec == INTEGERS:
        return None
    if isinstance(network, nn.Module) or others:
        raise ConfigError(
            f"save: codec={codec!r} needs a pruned network with its own standard deviations, and no sigma, "
            "rate_weight, budget or codebook: pass what pyrosparse.coding.random_code or pyrosparse.prune returned"
            f"{', without ' + ' and '.join(others) if others else ''}"
        )
    return network if isinstance(network, RandomCoded) else code_posterior(network)
