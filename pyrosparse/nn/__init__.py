"""Modules that torch lacks: complex-valued layers, and layers that read some of their inputs.

Complex layers have torch's own signatures and take and give ordinary complex tensors. Their parameters are real pairs,
shape (..., 2), so that everything that knows real parameters can serve them.
"""

from __future__ import annotations

from pyrosparse.nn.complex_activation import Cardioid, CReLU, ModReLU, ZReLU
from pyrosparse.nn.complex_cast import ComplexLayout, ImaginaryPart, Modulus, PhaseShift, RealPart, ToComplex, ToReal
from pyrosparse.nn.complex_conv import (
    ComplexConv1d,
    ComplexConv2d,
    ComplexConv3d,
    ComplexConvTranspose1d,
    ComplexConvTranspose2d,
    ComplexConvTranspose3d,
)
from pyrosparse.nn.complex_dropout import ComplexDropout, ComplexDropout1d, ComplexDropout2d, ComplexDropout3d
from pyrosparse.nn.complex_features import FourierFeatures2d, ShortTimeFourier
from pyrosparse.nn.complex_init import (
    Criterion,
    complex_kaiming_normal_,
    complex_kaiming_uniform_,
    complex_xavier_normal_,
    complex_xavier_uniform_,
    rayleigh_phase_,
    unitary_,
)
from pyrosparse.nn.complex_linear import ComplexBilinear, ComplexLinear
from pyrosparse.nn.complex_norm import ComplexBatchNorm1d, ComplexBatchNorm2d, ComplexBatchNorm3d
from pyrosparse.nn.complex_pooling import (
    ComplexAvgPool1d,
    ComplexAvgPool2d,
    ComplexAvgPool3d,
    ModulusMaxPool1d,
    ModulusMaxPool2d,
    ModulusMaxPool3d,
)
from pyrosparse.nn.select import ComplexSelectLinear, Selecting, SelectLinear

__all__ = [
    "CReLU",
    "Cardioid",
    "ComplexAvgPool1d",
    "ComplexAvgPool2d",
    "ComplexAvgPool3d",
    "ComplexBatchNorm1d",
    "ComplexBatchNorm2d",
    "ComplexBatchNorm3d",
    "ComplexBilinear",
    "ComplexConv1d",
    "ComplexConv2d",
    "ComplexConv3d",
    "ComplexConvTranspose1d",
    "ComplexConvTranspose2d",
    "ComplexConvTranspose3d",
    "ComplexDropout",
    "ComplexDropout1d",
    "ComplexDropout2d",
    "ComplexDropout3d",
    "ComplexLayout",
    "ComplexLinear",
    "ComplexSelectLinear",
    "Criterion",
    "FourierFeatures2d",
    "ImaginaryPart",
    "ModReLU",
    "Modulus",
    "ModulusMaxPool1d",
    "ModulusMaxPool2d",
    "ModulusMaxPool3d",
    "PhaseShift",
    "RealPart",
    "SelectLinear",
    "Selecting",
    "ShortTimeFourier",
    "ToComplex",
    "ToReal",
    "ZReLU",
    "complex_kaiming_normal_",
    "complex_kaiming_uniform_",
    "complex_xavier_normal_",
    "complex_xavier_uniform_",
    "rayleigh_phase_",
    "unitary_",
]
