"""Networks, each a plain :class:`torch.nn.Module`, and their Pyro models.

>>> from pyrosparse import models
>>> network = models.lenet_300_100()
>>> model = models.sparse("lenet_300_100", num_data=60_000)
"""

from __future__ import annotations

from pyrosparse.models.lenet import lenet_5_caffe, lenet_300_100
from pyrosparse.models.mlp import digits_mlp, mlp
from pyrosparse.models.zoo import ZOO, build, sparse

__all__ = ["ZOO", "build", "digits_mlp", "lenet_5_caffe", "lenet_300_100", "mlp", "sparse"]
