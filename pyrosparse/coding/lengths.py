"""Lengths of each layer's weights side by side: by the posterior, at its precision, and in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Lengths", "lengths", "total"]


@dataclass(frozen=True)
class Lengths:
    """The weights of one site, in bits.

    :param site: name of the weight.
    :param kl: KL divergence of the posterior from the prior: what the weights are worth, and what bits-back coding or
        random codes would need for them.
    :param entropy: order-0 entropy of mask and integers after rounding.
    :param stored: bits of the file.
    :param precision: bits of every weight of the smaller layer, zeros too, at the precision of the posterior:
        :func:`pyrosparse.coding.precision_bits`; None where it was not measured.
    """

    site: str
    kl: float
    entropy: float
    stored: float
    precision: float | None = None


def total(rows: Sequence[Lengths]) -> Lengths:
    """Sums over all layers; of the precision, None if one is not known."""
    precision = [row.precision for row in rows if row.precision is not None]
    return Lengths(
        "all",
        sum(row.kl for row in rows),
        sum(row.entropy for row in rows),
        sum(row.stored for row in rows),
        sum(precision) if len(precision) == len(rows) else None,
    )


def lengths(summary: Any, file: Any) -> list[Lengths]:
    """Put the summary of a posterior and the description of a file together, as metrics.json has them.

    :param summary: what :meth:`pyrosparse.posterior.Summary.to_dict` gives, or anything else.
    :param file: what :meth:`pyrosparse.coding.FileInfo.to_dict` gives, or anything else;
        its layers may have ``precision_bits``.
    :return: one entry for each site that both know; none where one of them is absent.
    """
    stored = {row.get("name"): row for row in _rows(file, "layers")}
    found = []
    for row in _rows(summary, "sites"):
        entry = stored.get(row.get("site"), {})
        numbers = [row.get("kl_bits"), entry.get("entropy_bits"), entry.get("bytes")]
        if all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            kl, entropy, size = map(float, numbers)  # type: ignore[arg-type]
            bits = entry.get("precision_bits")
            precision = float(bits) if isinstance(bits, int | float) and math.isfinite(bits) else None
            found.append(Lengths(str(row["site"]), kl, entropy, 8 * size, precision))
    return found


def _rows(table: Any, key: str) -> list[Mapping[str, Any]]:
    rows = table.get(key) if isinstance(table, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
