"""What is pruned: a posterior, and the network that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.guides.family import Family
from pyrosparse.layers import SPARSE_LAYERS, Site, axes, parts_of, whole_layers
from pyrosparse.likelihoods import Likelihood
from pyrosparse.model import SparseModel
from pyrosparse.posterior.read import Posterior, read
from pyrosparse.pruning.proof import reference_input

__all__ = ["Source"]


class Source:
    """A posterior and its network, in the coordinates that live shrinking has left.

    :param model: see :func:`pyrosparse.prune`, as for all others.
    :param guide: its guide.
    :param args: arguments of a pair written by hand.
    :param network: network of a pair written by hand; left as it is.
    :param likelihood: what measures the error; the model's own when None.
    :param example: a batch of inputs.
    :raises NetworkError: if the network does not have the posterior's sites, or the posterior not the network's.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        network: nn.Module | None,
        likelihood: Likelihood | None,
        example: Tensor | None,
    ) -> None:
        posteriors = read(model, guide, *args)
        self.notes: list[str] = []
        self.example = example
        if isinstance(model, SparseModel):
            missing = [site for site in model.sites if site not in posteriors]
            if missing:
                raise NetworkError(
                    f"the guide has no Gaussian site for {', '.join(missing)}: there is nothing to prune by"
                )
            self.network: nn.Module = model.network
            self.likelihood: Likelihood | None = likelihood or model.likelihood
            self.sites = model.sites
            self.kept = model.kept
            self.original_parameters = model.original_parameters
            self.input_shape, self.complex_input = model.input_shape, model.complex_input
        else:
            self.network = self._with_means(network, posteriors)
            self.likelihood = likelihood
            self.sites = {s: _site(self.network, p) for s, p in posteriors.items() if _is_weight(self.network, s)}
            self.kept = whole_layers(self.network)
            self.original_parameters = sum(p.numel() for p in self.network.parameters())
            x = next((a for a in args if isinstance(a, Tensor) and a.dim() > 1), None)
            self.input_shape = None if x is None else x.shape[1:]
            self.complex_input = x is not None and x.is_complex()
        if self.input_shape is None and example is not None:
            self.input_shape, self.complex_input = example.shape[1:], example.is_complex()
        self.families: dict[str, Family] = {site: posteriors[site].family for site in self.sites}

    def _with_means(self, network: nn.Module | None, posteriors: dict[str, Posterior]) -> nn.Module:
        """Copy the network of a pair written by hand; parameters that are not pruned get their posterior mean."""
        if network is None:
            raise NetworkError(
                "this model is written by hand: give prune the network that its sites belong to (network=…), with "
                "parameters named after the sites"
            )
        network = deepcopy(network)
        parameters = dict(network.named_parameters())
        for site, posterior in posteriors.items():
            if site not in parameters:
                raise NetworkError(
                    f"site {site!r} is no parameter of the network (it has {', '.join(parameters)}): name sites after "
                    "the parameters that they replace"
                )
            mean = posterior.mean()
            if parameters[site].shape != mean.shape:
                raise NetworkError(
                    f"site {site!r} has shape {tuple(mean.shape)}, and the network's parameter "
                    f"{tuple(parameters[site].shape)}"
                )
            if _is_weight(network, site) and posterior.family.parts != parts_of(_layer(network, site)):
                raise NetworkError(
                    f"site {site!r} is the weight of a complex layer, and its posterior is real: use a ComplexNormal, "
                    "so that both parts of a weight are kept or cut together"
                )
            if not _is_weight(network, site):
                self.notes.append(
                    f"{site}: is not the weight of a layer that can be pruned; its posterior mean is used"
                )
                with torch.no_grad():
                    parameters[site].copy_(mean)
        if not any(_is_weight(network, site) for site in posteriors):
            raise NetworkError(
                f"none of the sites {', '.join(posteriors)} is the weight of a linear or convolution layer of the "
                "network: there is nothing to prune"
            )
        return network

    def reference(self, like: Tensor) -> Tensor:
        """Random inputs to compare networks on, of the type and on the device of a parameter."""
        assert self.input_shape is not None
        return reference_input(self.input_shape, like, complex_input=self.complex_input)


def _layer(network: nn.Module, site: str) -> nn.Module:
    return network.get_submodule(site.rpartition(".")[0])


def _is_weight(network: nn.Module, site: str) -> bool:
    return site.rpartition(".")[2] == "weight" and isinstance(_layer(network, site), SPARSE_LAYERS)


def _site(network: nn.Module, posterior: Posterior) -> Site:
    module = _layer(network, posterior.site)
    return Site(
        posterior.site, posterior.site.rpartition(".")[0], posterior.shape, *axes(module), parts=parts_of(module)
    )
