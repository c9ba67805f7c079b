"""What reconstruction says about each layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pyrosparse.text import table

__all__ = ["ReconstructionReport", "Row"]


@dataclass(frozen=True)
class Row:
    """One layer before and after.

    :param layer: its name in the original network.
    :param inputs: units that it read.
    :param kept: units that it reads now.
    :param outputs: units that it gave.
    :param kept_outputs: units that it gives now.
    :param lam: λ of its problem, 0 where nothing was to go.
    :param lam_ratio: λ / λ_max.
    :param gap: relative duality gap.
    :param error: E‖Y − M X‖² / E‖Y‖² of the map that it has now; NaN where it was not measured.
    :param kib_before: float32 KiB of weights, biases and the index of kept features.
    :param kib: the same now.
    :param rank: of a low-rank factorisation, None where there is none.
    """

    layer: str
    inputs: int
    kept: int
    outputs: int
    kept_outputs: int
    lam: float
    lam_ratio: float
    gap: float
    error: float
    kib_before: float
    kib: float
    rank: int | None = None


@dataclass
class ReconstructionReport:
    """How a network was made smaller without training.

    :param method: what was done, in a few words.
    :param rows: one a layer, in the order of their calls.
    :param kib_before: KiB of the whole network: float32 parameters, running statistics, indices of kept features.
    :param kib: the same now.
    :param difference: largest difference between the outputs of the network with zeros in place of units and of the
        one they were cut from, relative to the largest output; None where nothing was cut.
    :param notes: what was done otherwise than asked, and units that could not go.
    """

    method: str
    rows: list[Row] = field(default_factory=list)
    kib_before: float = 0.0
    kib: float = 0.0
    difference: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times smaller the network is."""
        return self.kib_before / self.kib

    @property
    def error(self) -> float:
        """Largest relative error of reconstruction of any layer."""
        return max((row.error for row in self.rows if row.error == row.error), default=0.0)

    def __getitem__(self, layer: str) -> Row:
        """Row of a layer.

        :raises KeyError: for a layer that there is not.
        """
        for row in self.rows:
            if row.layer == layer:
                return row
        raise KeyError(layer)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries, fit for JSON."""
        found = asdict(self)
        for row in found["rows"]:
            row["error"] = row["error"] if row["error"] == row["error"] else None
        return found | {"ratio": self.ratio, "error": self.error}

    def __str__(self) -> str:
        header = ("layer", "λ", "λ/λ_max", "gap", "inputs", "outputs", "rank", "error", "KiB before", "KiB")
        rows = [
            (
                row.layer,
                f"{row.lam:.3g}",
                f"{row.lam_ratio:.3g}",
                f"{row.gap:.0e}",
                f"{row.inputs} → {row.kept}",
                f"{row.outputs} → {row.kept_outputs}",
                "–" if row.rank is None else str(row.rank),
                f"{100 * row.error:.3g} %" if row.error == row.error else "–",
                f"{row.kib_before:.1f}",
                f"{row.kib:.1f}",
            )
            for row in self.rows
        ]
        rows.append(("all", "", "", "", "", "", "", "", f"{self.kib_before:.1f}", f"{self.kib:.1f}"))
        return "\n".join([table(header, rows), f"{self.method}: {self.ratio:.2f} times smaller", *self.notes])
