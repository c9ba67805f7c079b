"""The networks by name, and each as a ready Pyro model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from pyrosparse.errors import ConfigError
from pyrosparse.models.alexnet import alexnet
from pyrosparse.models.complex_lenet import complex_conv, complex_dense
from pyrosparse.models.lenet import lenet_5_caffe, lenet_300_100
from pyrosparse.models.mlp import digits_mlp
from pyrosparse.models.music import complex_music
from pyrosparse.models.vgg import complex_vgg_16, vgg_16
from pyrosparse.models.wide_resnet import wide_resnet
from pyrosparse.text import nearest

if TYPE_CHECKING:
    from pyrosparse.model import SparseModel
    from pyrosparse.priors import Prior

__all__ = ["ZOO", "build", "sparse"]

ZOO: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "complex_conv": complex_conv,
    "complex_dense": complex_dense,
    "complex_music": complex_music,
    "complex_vgg_16": complex_vgg_16,
    "digits_mlp": digits_mlp,
    "lenet_300_100": lenet_300_100,
    "lenet_5_caffe": lenet_5_caffe,
    "vgg_16": vgg_16,
    "wide_resnet": wide_resnet,
}


def build(name: str, **options: object) -> nn.Module:
    """Build a network of the zoo by its name.

    :param name: a key of :data:`ZOO`.
    :param options: passed to the network's function.
    :raises ConfigError: for a name that is not in the zoo, with the nearest one.
    """
    if name not in ZOO:
        raise ConfigError(f"there is no network {name!r} in the zoo{nearest(name, ZOO)}")
    return ZOO[name](**options)


def sparse(name: str, *, num_data: int, prior: Prior | None = None, **options: object) -> SparseModel:
    """Build a network of the zoo as a Pyro model: of classes, or of notes that sound together (``complex_music``).

    :param name: a key of :data:`ZOO`.
    :param num_data: size of the training set.
    :param prior: prior of every weight; the log-uniform one of real or complex weights when None.
    """
    from pyrosparse.layers import parts_of, sparse_layers
    from pyrosparse.likelihoods import Categorical, MultiLabel
    from pyrosparse.model import SparseModel
    from pyrosparse.priors import ComplexLogUniform, LogUniform

    network = build(name, **options)
    complex_layers = any(parts_of(layer) == 2 for layer in sparse_layers(network).values())
    likelihood = MultiLabel if name == "complex_music" else Categorical
    chosen = prior or (ComplexLogUniform() if complex_layers else LogUniform())
    return SparseModel(network, chosen, likelihood(num_data=num_data))
