"""Three lengths of each layer's weights side by side: by the posterior, by independent draws, and in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Lengths", "lengths"]


@dataclass(frozen=True)
class Lengths:
    """The weights of one site, in bits.

    :param site: name of the weight.
    :param kl: KL divergence of the posterior from the prior: what the weights are worth, and what bits-back coding or
        random codes would need for them.
    :param entropy: order-0 entropy of mask and integers after rounding.
    :param stored: bits of the file.
    """

    site: str
    kl: float
    entropy: float
    stored: float


def lengths(summary: Any, file: Any) -> list[Lengths]:
    """Put the summary of a posterior and the description of a file together, as metrics.json has them.

    :param summary: what :meth:`pyrosparse.posterior.Summary.to_dict` gives, or anything else.
    :param file: what :meth:`pyrosparse.coding.FileInfo.to_dict` gives, or anything else.
    :return: one entry for each site that both know; none where one of them is absent.
    """
    stored = {row.get("name"): row for row in _rows(file, "layers")}
    found = []
    for row in _rows(summary, "sites"):
        entry = stored.get(row.get("site"), {})
        numbers = [row.get("kl_bits"), entry.get("entropy_bits"), entry.get("bytes")]
        if all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            kl, entropy, size = map(float, numbers)  # type: ignore[arg-type]
            found.append(Lengths(str(row["site"]), kl, entropy, 8 * size))
    return found


def _rows(table: Any, key: str) -> list[Mapping[str, Any]]:
    rows = table.get(key) if isinstance(table, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
