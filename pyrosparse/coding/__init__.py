"""Precision from the posterior, quantisation, entropy coding, and the ``.psz`` file.

:func:`save` and :func:`load` are the way in; :func:`info` says what every byte of a file is for, :func:`quantise`
rounds a pruned network as :func:`save` does, and :func:`read_tensors` and :func:`iter_tensors` read a file whose
network's class is not at hand. The stations inside, in the order in which the data passes them: ``choice`` (of the
step, by validation data or to a budget), ``codes`` (of the codec), ``precision`` (of every tensor), ``weights``,
``distortion`` and ``floats`` (steps and integers of one), ``content`` (what is sent of it), ``codecs`` and ``levels``
(ways to send it), ``groups``, ``book``, ``integers``, ``pairs``, ``mask``, ``adaptive``, ``grid``, ``magnitudes``,
``walk``, ``logistic``, ``draws`` and ``normals`` (what codecs are made of), ``sharing`` (of parameters by layers),
``stream`` (the range coder), ``architecture`` (the network's layers), ``container`` (the frame of the file),
``decode``, ``template`` and ``reader`` (the way back), ``fileinfo`` (what every byte is for), ``lengths`` (beside
what the posterior says). ``relative_entropy`` makes the random codes of a network. ``kmeans`` is a baseline.
"""

from __future__ import annotations

from pyrosparse.coding.architecture import register
from pyrosparse.coding.aware import coarsest_ending, quantise_aware
from pyrosparse.coding.bits import LayerBits, precision_bits
from pyrosparse.coding.fileinfo import FileInfo, LayerInfo
from pyrosparse.coding.kmeans import Codebooks, kmeans
from pyrosparse.coding.precision import quantise
from pyrosparse.coding.psz import C_GRID, RATE_GRID, encoded_size, info, save
from pyrosparse.coding.reader import Layout, iter_tensors, load, read_tensors
from pyrosparse.coding.relative_entropy import RandomCoded, code_posterior, random_code

__all__ = [
    "C_GRID",
    "RATE_GRID",
    "Codebooks",
    "FileInfo",
    "LayerBits",
    "LayerInfo",
    "Layout",
    "RandomCoded",
    "coarsest_ending",
    "code_posterior",
    "encoded_size",
    "info",
    "iter_tensors",
    "kmeans",
    "load",
    "precision_bits",
    "quantise",
    "quantise_aware",
    "random_code",
    "read_tensors",
    "register",
    "save",
]
