"""Inference: the ELBO, its schedules, fitting, training, evaluation and prediction."""

from __future__ import annotations

from pyrosparse.infer.block_control import BlockControl
from pyrosparse.infer.elbo import ELBOTerms, SparseELBO
from pyrosparse.infer.evaluate import Metrics, evaluate
from pyrosparse.infer.fit import Fit, FitState, fit
from pyrosparse.infer.predict import Prediction, predict
from pyrosparse.infer.ranks import Ranks, processes
from pyrosparse.infer.train import train

__all__ = [
    "BlockControl",
    "ELBOTerms",
    "Fit",
    "FitState",
    "Metrics",
    "Prediction",
    "Ranks",
    "SparseELBO",
    "evaluate",
    "fit",
    "predict",
    "processes",
    "train",
]
