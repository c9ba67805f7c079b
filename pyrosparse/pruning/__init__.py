"""Pruning: thresholds, masks, removal of dead units, live shrinking and fine-tuning."""

from __future__ import annotations

from pyrosparse.pruning.baselines import l1_prune, magnitude_prune
from pyrosparse.pruning.deterministic import as_pruned
from pyrosparse.pruning.fine_tune import fine_tune
from pyrosparse.pruning.prune import prune
from pyrosparse.pruning.pruned import Candidate, LayerReport, Pruned, PruneReport

__all__ = [
    "Candidate",
    "LayerReport",
    "PruneReport",
    "Pruned",
    "as_pruned",
    "fine_tune",
    "l1_prune",
    "magnitude_prune",
    "prune",
]
