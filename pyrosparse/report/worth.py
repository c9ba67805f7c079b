"""The part of a report that sets what the posterior says beside what is stored."""

from __future__ import annotations

from pyrosparse.coding.lengths import lengths
from pyrosparse.report.figures import count
from pyrosparse.report.markup import Html, element, section, table
from pyrosparse.report.read import Run
from pyrosparse.report.sections import absent

__all__ = ["worth"]


def worth(run: Run) -> Html:
    """KL in bits, order-0 entropy and bits on disk, layer by layer; nothing where they were not measured."""
    found = lengths(run.metrics.get("summary"), run.metrics.get("file"))
    if not found:
        return Html("")
    body = [[element("code", row.site), *(count(round(n)) for n in (row.kl, row.entropy, row.stored))] for row in found]
    if len(found) > 1:
        sums = (sum(n) for n in zip(*((row.kl, row.entropy, row.stored) for row in found), strict=True))
        body.append(["All layers", *(count(round(n)) for n in sums)])
    return section(
        "What the weights are worth",
        "Three lengths of the weights in bits: by the posterior, by independent draws, and in the file.",
        table(
            ["Layer", "KL from the prior", "Order-0 entropy", "In the file"],
            body,
            caption="Bits of each layer's weights",
        ),
        absent(
            "The KL is that of the whole posterior before pruning (with a log-uniform prior, above that of a weight "
            "that is all noise); the entropy is that of mask and rounded values, each taken as independent draws. A "
            "file below it has found structure between the weights."
        ),
    )
