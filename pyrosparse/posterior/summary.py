"""A posterior in one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pyrosparse.guides.family import DEFAULT_THRESHOLD
from pyrosparse.posterior.read import Posterior, read
from pyrosparse.text import table

__all__ = ["SiteSummary", "Summary", "summarize"]


@dataclass(frozen=True)
class SiteSummary:
    """One site.

    :param site: name of the weight.
    :param shape: its original shape.
    :param kept: weights that a threshold keeps; a complex one counts as two numbers.
    :param total: weights of the original, counted likewise.
    :param log_alpha_low: 5 % quantile of log α, or of the ``statistic`` that stands for it, over the weights that are
        left; NaN when none is (None in JSON).
    :param log_alpha_median: median of it.
    :param log_alpha_high: 95 % quantile of it.
    :param kl_bits: KL divergence from the prior in bits.
    :param statistic: what is compared with the threshold: log α, or for scales of groups −log of their mode, the log α
        of their gates or the information, see :class:`~pyrosparse.guides.Criterion`.
    :param parts: numbers of a weight: of complex ones, which count as two, 2; shapes do not show them.
    """

    site: str
    shape: tuple[int, ...]
    kept: int
    total: int
    log_alpha_low: float
    log_alpha_median: float
    log_alpha_high: float
    kl_bits: float
    statistic: str = "log α"
    parts: int = 1

    @property
    def density(self) -> float:
        """Fraction of the weights that is kept."""
        return self.kept / self.total


@dataclass(frozen=True)
class Summary:
    """A posterior, site by site; ``print`` it, or take ``rows`` and ``to_dict()``."""

    rows: tuple[SiteSummary, ...]
    threshold: float

    @property
    def kept(self) -> int:
        """Weights that are kept, over all sites."""
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        """Weights of the original, over all sites."""
        return sum(row.total for row in self.rows)

    @property
    def kl_bits(self) -> float:
        """KL divergence in bits, over all sites."""
        return sum(row.kl_bits for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries, fit for JSON."""
        return {
            "threshold": self.threshold,
            "kept": self.kept,
            "total": self.total,
            "kl_bits": self.kl_bits,
            "sites": [_plain(asdict(row) | {"density": row.density}) for row in self.rows],
        }

    def __str__(self) -> str:
        statistics = list(dict.fromkeys(row.statistic for row in self.rows))
        mixed = len(statistics) > 1
        cells = [
            (
                row.site,
                "×".join(map(str, row.shape)) + (" complex" if row.parts > 1 else ""),
                f"{row.kept:,} / {row.total:,}",
                f"{100 * row.density:.2f} %",
                *([row.statistic] if mixed else []),
                f"{row.log_alpha_low:.1f}",
                f"{row.log_alpha_median:.1f}",
                f"{row.log_alpha_high:.1f}",
                f"{row.kl_bits:,.0f}",
            )
            for row in self.rows
        ]
        density = f"{100 * self.kept / self.total:.2f} %"
        empty = [""] * (4 if mixed else 3)
        cells.append(("all", "", f"{self.kept:,} / {self.total:,}", density, *empty, f"{self.kl_bits:,.0f}"))
        low = ["statistic", "5 %"] if mixed else [f"{statistics[0]} 5 %"]
        header = ("site", "shape", "kept", "density", *low, "median", "95 %", "KL bits")
        what = "statistic" if mixed else statistics[0]
        return table(header, cells) + f"\nkept: {what} ≤ {self.threshold:.3g}"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Write None for numbers that are not there: JSON knows no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def summarize(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, threshold: float = DEFAULT_THRESHOLD
) -> Summary:
    """Say for each site how many weights the posterior needs, how sure it is, and what it costs.

    :param model: see :func:`pyrosparse.posterior.read`.
    :param guide: likewise.
    :param args: arguments of a model and guide written by hand.
    :param threshold: largest log α that is kept, or of the statistic that stands for it.
    """
    found = read(model, guide, *args)
    return Summary(tuple(_row(p, threshold) for p in found.values()), float(threshold))


def _row(posterior: Posterior, threshold: float) -> SiteSummary:
    log_alpha = -posterior.family.relevance().flatten().float()
    left = log_alpha[torch.isfinite(log_alpha)]
    # `torch.quantile` refuses more than 16 million values
    left = left.sort().values
    low, median, high = (
        (float(left[round(q * (len(left) - 1))]) if len(left) else math.nan) for q in (0.05, 0.5, 0.95)
    )
    return SiteSummary(
        posterior.site,
        tuple(posterior.shape),
        posterior.family.parts * int(posterior.family.keep(threshold).sum()),
        posterior.family.parts * posterior.shape.numel(),
        low,
        median,
        high,
        float(posterior.kl()) / math.log(2.0),
        posterior.family.statistic,
        posterior.family.parts,
    )
