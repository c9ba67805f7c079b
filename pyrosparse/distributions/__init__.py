"""Priors and posteriors of single weights; importing this package registers their KLs with torch and Pyro."""

from __future__ import annotations

from pyrosparse.distributions.ard_normal import ARDNormal
from pyrosparse.distributions.dropout_normal import DropoutNormal
from pyrosparse.distributions.kl import KLForm, kl_ard, kl_log_uniform, kl_log_uniform_sigmoid
from pyrosparse.distributions.log_uniform import LogUniform

__all__ = [
    "ARDNormal",
    "DropoutNormal",
    "KLForm",
    "LogUniform",
    "kl_ard",
    "kl_log_uniform",
    "kl_log_uniform_sigmoid",
]
