"""Precision from the posterior, quantisation, entropy coding, and the ``.psz`` file.

:func:`save` and :func:`load` are the way in; :func:`info` says what every byte of a file is for,
:func:`quantise` rounds a pruned network as :func:`save` does, and :func:`read_tensors` reads a file whose
network's class is not at hand. The stations inside, in the order in which the data passes them: ``choice``
(of the step, by validation data), ``precision`` and ``distortion`` (steps and integers), ``content`` (what is sent
of a tensor), ``codecs`` (ways to send it), ``integers``, ``pairs``, ``mask``, ``adaptive``, ``grid``, ``magnitudes``,
``walk`` and ``logistic`` (what codecs are made of), ``stream`` (the range coder), ``architecture`` (the network's
layers), ``container`` (the frame of the file), ``decode`` and ``template`` (the way back), ``fileinfo`` (what every
byte is for). ``kmeans`` is a baseline.
"""

from __future__ import annotations

from pyrosparse.coding.architecture import register
from pyrosparse.coding.aware import quantise_aware
from pyrosparse.coding.bits import LayerBits, precision_bits
from pyrosparse.coding.fileinfo import FileInfo, LayerInfo
from pyrosparse.coding.kmeans import Codebooks, kmeans
from pyrosparse.coding.precision import quantise
from pyrosparse.coding.psz import C_GRID, RATE_GRID, encoded_size, info, load, read_tensors, save

__all__ = [
    "C_GRID",
    "RATE_GRID",
    "Codebooks",
    "FileInfo",
    "LayerBits",
    "LayerInfo",
    "encoded_size",
    "info",
    "kmeans",
    "load",
    "precision_bits",
    "quantise",
    "quantise_aware",
    "read_tensors",
    "register",
    "save",
]
