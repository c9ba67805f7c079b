"""Networks that were made smaller without a posterior, with all that fine-tuning and files ask for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.layers import not_zero, parts_of, sparse_layers, weight_name
from pyrosparse.likelihoods import Likelihood
from pyrosparse.pruning.pruned import Pruned, PruneReport

__all__ = ["as_pruned"]

# so that the usual grid of c, 0.25 to 4, gives weights of seven bits to three
_OF_RMS = 0.125


@torch.no_grad()
def as_pruned(
    network: nn.Module,
    *,
    original_parameters: int,
    before: Pruned | None = None,
    likelihood: Likelihood | None = None,
) -> Pruned:
    """Give a network the unit that a file rounds each layer in, where it has no posterior of its own.

    A layer that was made from one with a posterior keeps the median standard deviation of that one's weights; any other
    gets an eighth of the root mean square of its weights. Weights that are 0 are out of the mask, and stay 0.

    :param network: linear layers and convolutions, real or complex; left as it is.
    :param original_parameters: numbers of the network that sizes are compared with.
    :param before: the pruned network that ``network`` was made from, layers by the same names.
    :param likelihood: by which all that follows trains and measures; that of ``before``, or labels, when None.
    :returns: with masks in the network's own coordinates, and a report that has no threshold and no layers.
    :raises NetworkError: for a network without linear layers and convolutions.
    """
    layers = sparse_layers(network)
    if not layers:
        raise NetworkError("the network has no linear layer and no convolution: there is nothing to round")
    masks: dict[str, Tensor] = {}
    sigma: dict[str, Tensor] = {}
    for name, layer in layers.items():
        site, weight = weight_name(name), layer.weight
        assert isinstance(weight, Tensor)
        alive = weight != 0
        known = before.sigma[site] if before is not None and site in before.sigma else torch.zeros(1).to(weight)
        known = known[known > 0]
        rms = weight[alive].square().mean().sqrt() if bool(alive.any()) else weight.new_ones(())
        sigma[site] = torch.where(alive, known.median() if known.numel() else _OF_RMS * rms, 0.0)
        masks[site] = not_zero(weight, parts_of(layer))
    if likelihood is None and before is not None:
        likelihood = before.likelihood
    return Pruned(network, masks, sigma, {}, original_parameters, PruneReport(float("inf")), likelihood)
