"""The part of a report that sets what the posterior says beside what is stored."""

from __future__ import annotations

from pyrosparse.coding.lengths import Lengths, lengths, total
from pyrosparse.report.figures import NONE, count
from pyrosparse.report.markup import Html, element, section, table
from pyrosparse.report.read import Run
from pyrosparse.report.sections import absent

__all__ = ["worth"]


def worth(run: Run) -> Html:
    """KL in bits, bits at the posterior's precision, order-0 entropy and bits on disk, layer by layer.

    Nothing where they were not measured.
    """
    found = lengths(run.metrics.get("summary"), run.metrics.get("file"))
    if not found:
        return Html("")
    body = [[element("code", row.site), *_cells(row)] for row in found]
    if len(found) > 1:
        body.append(["All layers", *_cells(total(found))])
    return section(
        "What the weights are worth",
        "Four lengths of the weights in bits: by the posterior, at the precision of the posterior, by independent "
        "draws, and in the file.",
        table(
            ["Layer", "KL from the prior", "At the posterior's precision", "Order-0 entropy", "In the file"],
            body,
            caption="Bits of each layer's weights",
        ),
        absent(
            "The KL is that of the whole posterior before pruning (with a log-uniform prior, above that of a weight "
            "that is all noise). At the posterior's precision, every weight of the smaller layer, zeros too, takes as "
            "many bits as its integers can need: the estimate that papers on Bayesian compression call bits. The "
            "entropy is that of mask and rounded values, each taken as independent draws. A file below it has found "
            "structure between the weights."
        ),
    )


def _cells(row: Lengths) -> list[str]:
    precision = NONE if row.precision is None else count(round(row.precision))
    return [count(round(row.kl)), precision, count(round(row.entropy)), count(round(row.stored))]
