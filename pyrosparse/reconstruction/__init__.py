"""Linear neural reconstruction: units removed by least squares on a layer's moments, without training."""

from __future__ import annotations

from pyrosparse.reconstruction.baselines import low_rank, magnitude
from pyrosparse.reconstruction.chain import Chaining
from pyrosparse.reconstruction.low_rank import factorise
from pyrosparse.reconstruction.moments import Moments
from pyrosparse.reconstruction.path import Solver, path, solve
from pyrosparse.reconstruction.problem import Block, Problem, Solution
from pyrosparse.reconstruction.report import ReconstructionReport, Row
from pyrosparse.reconstruction.stage import reconstruct

__all__ = [
    "Block",
    "Chaining",
    "Moments",
    "Problem",
    "ReconstructionReport",
    "Row",
    "Solution",
    "Solver",
    "factorise",
    "low_rank",
    "magnitude",
    "path",
    "reconstruct",
    "solve",
]
