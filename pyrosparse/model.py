"""A torch network as a Pyro model with a prior on its weights."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyrosparse.errors import NetworkError, PriorError, PyrosparseWarning
from pyrosparse.layers import Site, axes, frozen_layers, parts_of, sparse_layers, weight_shape, whole_layers
from pyrosparse.likelihoods import Likelihood
from pyrosparse.poutine.parameters import expose
from pyrosparse.poutine.undrawn import widened
from pyrosparse.priors import Prior
from pyrosparse.text import nearest

__all__ = ["SparseModel"]


class SparseModel(nn.Module):
    r"""Put a prior on the weights of a network and a likelihood on its output.

    .. math:: w_s \sim p_s(w), \qquad y \mid x, w \sim p(y \mid f_w(x))

    ``model(x, y)`` is a Pyro model: it samples each weight at a site named after the parameter that it
    replaces (``fc1.weight``), runs the network with the draws, and observes ``y`` at the site ``obs``.
    What has no prior (biases, normalisation, excluded layers) is trained as an ordinary parameter, unless it is
    frozen (``requires_grad=False``). A layer whose weight is frozen gets no prior, and a warning names it.

    :param network: any module with linear, convolution or transposed convolution layers, real or those of
        :mod:`pyrosparse.nn`; it is copied.
    :param prior: prior of every weight that gets one.
    :param likelihood: see :mod:`pyrosparse.likelihoods`; it is copied.
    :param include: names of layers, or patterns such as ``"conv*"``; None means all but frozen ones.
    :param exclude: names or patterns of layers that stay deterministic.
    :param priors: another prior for some layers, by name or pattern.
    :raises NetworkError: if nothing is left to sparsify, a pattern fits no layer, or a weight is not finite.
    :raises PriorError: if a prior cannot serve a layer.
    """

    def __init__(
        self,
        network: nn.Module,
        prior: Prior,
        likelihood: Likelihood,
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        priors: Mapping[str, Prior] | None = None,
    ) -> None:
        super().__init__()
        _check_kinds(network, prior, likelihood, priors or {})
        try:
            self.network = deepcopy(network)
        except (RuntimeError, TypeError) as error:
            raise NetworkError(f"{type(network).__name__} cannot be copied: {error}") from error
        self.likelihood = deepcopy(likelihood)  # it may have parameters to train
        layers = _chosen(self.network, include, exclude)
        self.sites: dict[str, Site] = {}
        # sites whose weight stands at several places in the network
        self.tied: list[str] = []
        self._priors = nn.ModuleDict()
        parameters = dict(self.network.named_parameters())  # of tied weights, the first name only
        uses = Counter(id(p) for _, p in self.network.named_parameters(remove_duplicate=False))
        served: set[int] = set()
        overrides = {p: q for pattern, q in (priors or {}).items() for p in _matching(pattern, layers)}
        for layer, module in layers.items():
            name = f"{layer}.weight" if layer else "weight"
            weight = module._parameters.get("weight")
            if weight is None:
                raise NetworkError(
                    f"layer {layer!r} computes its weight (weight norm or another parametrisation) and has none of its "
                    "own: exclude it, or make the weight plain with torch.nn.utils.parametrize.remove_parametrizations"
                )
            if id(weight) in served:
                continue  # tied: one site, named after the first layer that has it
            served.add(id(weight))
            _check_finite(name, weight)
            chosen = overrides.get(layer, prior)
            chosen.check(layer, module)
            out_axis, in_axis = axes(module)
            shape, parts = weight_shape(module), parts_of(module)
            site = self.sites[name] = Site(name, layer, shape, out_axis, in_axis, parts)
            if uses[id(weight)] > 1:
                self.tied.append(name)
            self._priors[_key(name)] = chosen.at(site, module)
            # the draw takes its place; the values stay as the start of the posterior means
            weight.requires_grad_(False)
        # original coordinates of what live shrinking has left: layer -> (outputs, inputs)
        self.kept: dict[str, tuple[Tensor, Tensor]] = whole_layers(self.network)
        self.original_parameters = sum(p.numel() for p in parameters.values())
        self.input_shape: torch.Size | None = None
        self.complex_input = False

    def prior_of(self, site: str) -> Prior:
        """Prior of a site.

        :raises NetworkError: for an unknown site, with the nearest one.
        """
        if site not in self.sites:
            raise NetworkError(f"there is no site {site!r}{nearest(site, self.sites)}")
        prior = self._priors[_key(site)]
        assert isinstance(prior, Prior)
        return prior

    def shape_of(self, site: str) -> torch.Size:
        """Shape of a site now: smaller than ``sites[site].shape`` once live shrinking has cut units."""
        return weight_shape(self.network.get_submodule(self.sites[site].layer))

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of the model that are trained: those of no site, and the priors' own."""
        return ((n, p) for n, p in self.named_parameters() if p.requires_grad)

    def weights(self) -> dict[str, Tensor]:
        """Run the sample statements of the priors; returns a draw for each site."""
        drawn: dict[str, Tensor] = {}
        for name in self.sites:
            weight = self.network.get_parameter(name)
            value = self.prior_of(name).sample(name, self.shape_of(name))
            if type(value) is Tensor and (value.dtype != weight.dtype or value.device != weight.device):
                value = value.to(weight)  # a draw of the prior: torch's default type, on the CPU
            drawn[name] = value
        return drawn

    def remember(self, x: Tensor) -> None:
        """Remember the form of the inputs: the shape of one example, and whether it is complex."""
        self.input_shape, self.complex_input = x.shape[1:], x.is_complex()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Run the Pyro model.

        :param x: batch of inputs.
        :param y: targets; None draws them.
        :returns: the value of the site ``obs``.
        """
        expose("model", self.trained_parameters())
        if self.input_shape is None:
            self.remember(x)
        # looking for tied weights walks the whole network: only where there are some
        output = functional_call(self.network, self.weights(), (x,), tie_weights=bool(self.tied))
        return self.likelihood.observe(widened(output), y)  # a likelihood of all data needs its digits


def _key(site: str) -> str:
    """A site's name as a key of a ModuleDict, which admits no dots."""
    return site.replace(".", "/")


def _check_kinds(network: object, prior: object, likelihood: object, priors: Mapping[str, object]) -> None:
    if not isinstance(network, nn.Module):
        raise NetworkError(f"network is a {type(network).__name__}: give a torch.nn.Module")
    for where, p in [("prior", prior), *((f"priors[{k!r}]", v) for k, v in priors.items())]:
        if not isinstance(p, Prior):
            raise PriorError(f"{where} is a {type(p).__name__}: give a prior such as pyrosparse.priors.LogUniform()")
    if not isinstance(likelihood, Likelihood):
        raise NetworkError(
            f"likelihood is a {type(likelihood).__name__}: give one such as "
            "pyrosparse.likelihoods.Categorical(num_data=…)"
        )


def _matching(pattern: str, layers: Iterable[str]) -> list[str]:
    found = [name for name in layers if fnmatchcase(name, pattern)]
    if not found:
        raise NetworkError(f"{pattern!r} fits no layer that can have a prior{nearest(pattern, layers)}")
    return found


def _chosen(network: nn.Module, include: Iterable[str] | None, exclude: Iterable[str]) -> dict[str, nn.Module]:
    layers = sparse_layers(network)
    for name, module in layers.items():
        if isinstance(module.weight, nn.UninitializedParameter):
            raise NetworkError(f"layer {name!r} is lazy and has no weights yet: run the network once on a batch first")
    if not layers:
        raise NetworkError(f"{type(network).__name__} has no linear or convolution layer: there is nothing to sparsify")
    if isinstance(include, str) or isinstance(exclude, str):
        raise NetworkError("include and exclude take lists of names: write ['fc1'], not 'fc1'")
    kept = set(layers) if include is None else {n for p in include for n in _matching(p, layers)}
    kept -= {n for p in exclude for n in _matching(p, layers)}
    if not kept:
        raise NetworkError("include and exclude leave no layer: there is nothing to sparsify")
    if include is None:
        kept = _without_frozen(layers, kept)
    return {name: module for name, module in layers.items() if name in kept}


def _check_finite(site: str, weight: Tensor) -> None:
    """Refuse weights that no posterior could start from."""
    if weight.is_meta or bool(torch.isfinite(weight).all()):
        return
    bad = int((~torch.isfinite(weight)).sum())
    raise NetworkError(
        f"{site} has {bad} NaN or infinite of {weight.numel()} numbers: the network has diverged or was read wrongly; "
        "give one with finite weights"
    )


def _without_frozen(layers: Mapping[str, nn.Module], chosen: set[str]) -> set[str]:
    """Leave out, with a word, layers whose weight the user has frozen."""
    # of integers and complex numbers the prior says that it cannot serve them
    frozen = frozen_layers({name: module for name, module in layers.items() if name in chosen})
    if len(frozen) == len(chosen):
        raise NetworkError(
            f"the weights of {', '.join(map(repr, frozen))} are frozen (requires_grad=False), and there is no other "
            "layer to sparsify: name those that shall have a prior in include"
        )
    if frozen:
        warnings.warn(
            f"the weights of {', '.join(map(repr, frozen))} are frozen (requires_grad=False): these layers get no "
            "prior and stay as they are. Name them in include to give them one, or in exclude if this is meant",
            PyrosparseWarning,
            stacklevel=4,
        )
    return chosen - set(frozen)
