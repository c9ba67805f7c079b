"""Priors and posteriors of single weights; importing this package registers their KLs with torch and Pyro."""

from __future__ import annotations

from pyrosparse.distributions.ard_normal import ARDNormal
from pyrosparse.distributions.complex_ard import ComplexARD
from pyrosparse.distributions.complex_kl import (
    kl_complex_ard,
    kl_complex_log_uniform,
    kl_complex_log_uniform_sigmoid,
)
from pyrosparse.distributions.complex_log_uniform import ComplexLogUniform
from pyrosparse.distributions.complex_normal import ComplexNormal
from pyrosparse.distributions.complex_relation import bounded_relation, unbounded_relation
from pyrosparse.distributions.dropout_normal import DropoutNormal
from pyrosparse.distributions.half_cauchy import HalfCauchyProduct
from pyrosparse.distributions.hard_concrete import HardConcrete, L0Prior
from pyrosparse.distributions.kl import KLForm, kl_ard, kl_log_uniform, kl_log_uniform_sigmoid
from pyrosparse.distributions.log_normal import LogNormal
from pyrosparse.distributions.log_uniform import LogUniform
from pyrosparse.distributions.slab import Point, Slab, WeightDecay

__all__ = [
    "ARDNormal",
    "ComplexARD",
    "ComplexLogUniform",
    "ComplexNormal",
    "DropoutNormal",
    "HalfCauchyProduct",
    "HardConcrete",
    "KLForm",
    "L0Prior",
    "LogNormal",
    "LogUniform",
    "Point",
    "Slab",
    "WeightDecay",
    "bounded_relation",
    "kl_ard",
    "kl_complex_ard",
    "kl_complex_log_uniform",
    "kl_complex_log_uniform_sigmoid",
    "kl_log_uniform",
    "kl_log_uniform_sigmoid",
    "unbounded_relation",
]
