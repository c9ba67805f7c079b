"""What every prior is: the sample sites that a weight gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import ClassVar, Self

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyrosparse.errors import PriorError
from pyrosparse.layers import Site, parts_of

__all__ = ["Prior"]


class Prior(nn.Module, ABC):
    """Prior of one weight tensor. A :class:`~pyrosparse.SparseModel` keeps its own copy for each site.

    A prior is a module, so that one with parameters to learn is trained and moved with its model.
    """

    parts: int = 1
    """Numbers of one weight: 1, or 2 for priors of complex weights."""

    counterpart: ClassVar[str] = ""
    """Name of the prior that serves weights of the other kind, for messages."""

    @abstractmethod
    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:
        """Distribution of the whole tensor: no batch shape, event shape ``shape``, or ``(*shape, 2)`` of pairs."""

    def at(self, site: Site, module: nn.Module) -> Self:
        """Copy this prior for one site; a prior that looks at the layer's form does so here.

        :param site: the weight.
        :param module: the layer that owns it.
        """
        return deepcopy(self)

    def sample(self, site: str, shape: torch.Size) -> Tensor:
        """Run the sample statement(s) of this prior in the model and return the weight.

        :param site: name of the parameter that the weight replaces.
        :param shape: shape of the weight.
        """
        return pyro.sample(site, self.distribution(shape))

    def check(self, layer: str, module: nn.Module) -> None:
        """Refuse a layer that this prior cannot serve.

        :raises PriorError: naming the layer; the base class serves floating-point weights, of the layers of
            :mod:`pyrosparse.nn` if it is a prior of complex weights, and else real ones.
        """
        name, complex_layer = type(self).__name__, parts_of(module) == 2
        if isinstance(module.weight, Tensor) and module.weight.is_complex():
            way = (
                "bring the network back to real pairs with double() or float(), and not with to(torch.complex64)"
                if complex_layer
                else f"use pyrosparse.nn.Complex{type(module).__name__}, made of real pairs, or exclude the layer"
            )
            raise PriorError(
                f"prior {name} on layer {layer!r}: its weight is of {module.weight.dtype}, and priors serve real "
                f"numbers and real pairs; {way}"
            )
        if complex_layer != (self.parts == 2):
            other = f"use priors.{self.counterpart}" if self.counterpart else "give it another prior"
            raise PriorError(
                f"prior {name} on layer {layer!r}: it serves {'complex' if self.parts == 2 else 'real'} weights, and "
                f"those of {type(module).__name__} are {'complex' if complex_layer else 'real'}; {other}"
            )
        self.check_numbers(layer, module)

    def check_numbers(self, layer: str, module: nn.Module) -> None:
        """Refuse a layer whose parameters are no floating-point numbers.

        :raises PriorError: naming the layer.
        """
        weight = module.weight
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
            raise PriorError(
                f"prior {type(self).__name__} on layer {layer!r}: it serves real floating-point weights, and this one "
                f"is {kind}; exclude the layer or give it another prior"
            )
