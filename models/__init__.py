"""Networks, each a plain :class:`torch.nn.Module`, and their Pyro models.

>>> from pyrosparse import models
>>> network = models.lenet_300_100()
>>> model = models.sparse("lenet_300_100", num_data=60_000)
"""

from __future__ import annotations

from pyrosparse.models.alexnet import alexnet
from pyrosparse.models.complex_lenet import complex_conv, complex_dense
from pyrosparse.models.lenet import lenet_5_caffe, lenet_300_100
from pyrosparse.models.mlp import digits_mlp, mlp
from pyrosparse.models.music import complex_music
from pyrosparse.models.twins import Twin
from pyrosparse.models.vgg import complex_vgg_16, vgg_16
from pyrosparse.models.wide_resnet import gated_wide_resnet, wide_resnet
from pyrosparse.models.zoo import ZOO, build, sparse

__all__ = [
    "ZOO",
    "Twin",
    "alexnet",
    "build",
    "complex_conv",
    "complex_dense",
    "complex_music",
    "complex_vgg_16",
    "digits_mlp",
    "gated_wide_resnet",
    "lenet_5_caffe",
    "lenet_300_100",
    "mlp",
    "sparse",
    "vgg_16",
    "wide_resnet",
]
