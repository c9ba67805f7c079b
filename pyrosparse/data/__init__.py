"""Data sets and batches."""

from __future__ import annotations

from pyrosparse.data.dataset import Dataset
from pyrosparse.data.loader import TensorLoader
from pyrosparse.data.sources import SOURCES, load

__all__ = ["SOURCES", "Dataset", "TensorLoader", "load"]
