"""How precisely each tensor is sent: the posterior's standard deviation is the unit.

The step of a layer is ``c`` times the median posterior standard deviation of its kept weights (the standard
deviation, not the variance: a weight may move by a fraction of its own uncertainty without the data
objecting). Weights become the nearest integer multiple of the step; one that rounds to 0 costs nothing and
leaves the mask. A complex weight becomes two integers, and leaves the mask when both are 0; its standard deviation is
that of each part, so that with total variance σ² the step is c·√(σ²/2). Steps are rounded up to eight significant
bits so that they travel in two bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyrosparse.arguments import check_numbers
from pyrosparse.coding.book import LARGEST_BOOK
from pyrosparse.coding.codecs import index_of, send
from pyrosparse.coding.codes import INTEGERS, codes_of
from pyrosparse.coding.content import DTYPES, Content, matrix_shape, real_shape
from pyrosparse.coding.floats import exact, real, statistic
from pyrosparse.coding.levels import column_positions
from pyrosparse.coding.rank import axes_of
from pyrosparse.coding.sharing import shared_names
from pyrosparse.coding.steps import LARGEST_STEP, bias_step, round_step
from pyrosparse.coding.stream import Stream, cheapest
from pyrosparse.coding.weights import Weights
from pyrosparse.errors import NetworkError
from pyrosparse.layers import axes, not_zero

if TYPE_CHECKING:
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["Plan", "make_plan", "quantise"]

LARGEST_INTEGER = (1 << 40) - 1
BIAS_LEVELS = 127  # largest integer of a bias in a layer without a posterior
SMALLEST_STEP = 1e-30


@dataclass(frozen=True)
class Plan:
    """What will be sent: one :class:`Content` a tensor, in the order of the network's state.

    Of parameters that layers share there is one; ``shared`` has its name for each of the others.
    """

    contents: dict[str, Content]
    c: float | None
    shared: dict[str, str] = field(default_factory=dict)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a reader will get, by name."""
        state = {name: content.tensor() for name, content in self.contents.items()}
        return state | {name: state[first] for name, first in self.shared.items()}

    def emptied(self, network: nn.Module) -> list[str]:
        """Names of the weights of which rounding leaves nothing."""
        state, ranks = network.state_dict(), axes_of(network)
        rounded = (name for name, content in self.contents.items() if content.rounded and ranks.get(name, 0) > 1)
        return [name for name in rounded if bool(state[name].any()) and not bool(self.contents[name].tensor().any())]

    def apply(self, network: nn.Module) -> nn.Module:
        """Return a copy of the network with the tensors that a reader will get."""
        network, state = copy.deepcopy(network), self.state()
        network.load_state_dict(
            {name: state[name].reshape(old.shape).to(old.device) for name, old in network.state_dict().items()}
        )
        return network


def make_plan(
    network: nn.Module,
    sigma: Mapping[str, Tensor] | None,
    c: float | None,
    *,
    bias_bits: int | None = None,
    rate_weight: float = 0.0,
    codebook: int | None = None,
    codes: Mapping[str, Content] | None = None,
) -> Plan:
    """Decide codec, step and integers of every tensor.

    :param network: its ``state_dict`` is what is sent.
    :param sigma: posterior standard deviation by parameter name, 0 where pruned. ``None``: nothing is
        rounded, every number is sent as it is.
    :param c: steps in units of the median standard deviation; only needed with ``sigma``.
    :param bias_bits: bits of a bias (2 to 16), with one scale a tensor. ``None``: half the step of the
        layer's weights, or 8 bits where the weights have no posterior.
    :param rate_weight: how much the length of the file counts against the error in the choice of each
        integer, see :func:`pyrosparse.coding.distortion.weigh_rate`; 0: the nearest integer.
    :param codebook: weights take one of so many centres of k-means, layer by layer, instead of a multiple of a step:
        those with an entry in ``sigma``, or all weight matrices without one.
    :param codes: what is sent of weights that have random codes.
    :raises NetworkError: if a tensor holds NaN, Inf or integers of 2^40 and more, has no values or a type that files
        do not hold, or ``sigma`` does not fit.
    """
    if bias_bits is not None and not 2 <= bias_bits <= 16:
        raise NetworkError(f"bias_bits must lie between 2 and 16, not {bias_bits}")
    if not 0 <= rate_weight < np.inf:
        raise NetworkError(f"rate_weight must be a number from 0 up, not {rate_weight}")
    if codebook is not None and not (isinstance(codebook, int) and 1 <= codebook <= LARGEST_BOOK):
        raise NetworkError(f"codebook must be a whole number of centres from 1 to {LARGEST_BOOK}, not {codebook}")
    state = {name: _storable(name, value) for name, value in network.state_dict().items()}
    shared = shared_names(network, sigma or ())
    steps = layer_steps(state, sigma or {}, c)
    steps |= {name: steps[first] for name, first in shared.items() if first in steps}
    axes = axes_of(network)
    biases = _biases(network, axes)
    matrices = {name for name, _ in network.named_parameters()}
    contents: dict[str, Content] = {}
    for name, value in state.items():
        if name in shared:
            continue
        whole = not (value.is_floating_point() or value.is_complex())
        if not whole and not torch.isfinite(value).all():
            raise NetworkError(f"{name} holds NaN or Inf; such a network is not worth storing")
        if whole:
            if value.numel() and not -LARGEST_INTEGER <= int(value.min()) <= int(value.max()) <= LARGEST_INTEGER:
                raise NetworkError(f"{name} holds integers of 2^40 and more, which the format cannot hold")
            contents[name] = Content("i", value.dtype, value.to(torch.int64).numpy())
        elif name in steps or (codebook and sigma is None and axes[name] > 1 and name in matrices):
            index = state.get(index_of(name))
            whole = index is not None and not (index.is_floating_point() or index.is_complex())
            inputs = index.to(torch.int64).numpy().reshape(-1) if index is not None and whole else None
            columns = matrix_shape(real_shape(tuple(value.shape[: axes[name]]), value.dtype))[1]
            weights = Weights(
                name,
                value,
                step=steps.get(name, 1.0),
                sigma=torch.zeros(()) if sigma is None else sigma[name].detach().cpu(),
                pairs=axes[name] < value.dim(),
                rate_weight=rate_weight,
                places=column_positions(inputs, columns),
                inputs=inputs,
            )
            contents[name] = weights.clustered(codebook) if codebook else weights.content()
        elif sigma is None or axes[name] > 1 or value.dtype not in {torch.float32, torch.complex64}:
            contents[name] = exact(value)
        elif name in biases:
            contents[name] = _bias(name, value, steps.get(biases[name]), bias_bits)
        else:
            contents[name] = statistic(value)
    return Plan(contents | dict(codes or {}), c, shared)


def _storable(name: str, value: Tensor) -> Tensor:
    """A tensor of the state on the processor, dense, of a type that files have."""
    if is_lazy(value) or value.is_meta:
        raise NetworkError(f"{name} has no values yet: give the network its weights before it is stored")
    if value.dtype not in DTYPES.values():
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES.values())
        raise NetworkError(f"{name} is of type {value.dtype}, and files hold {known}: convert it first")
    value = value.detach().cpu()
    return value if value.layout is torch.strided else value.to_dense()


def quantise(
    pruned: Pruned,
    c: float,
    *,
    bias_bits: int | None = None,
    rate_weight: float = 0.0,
    codebook: int | None = None,
    codec: str = INTEGERS,
) -> Pruned:
    """Round the weights as :func:`pyrosparse.save` does, so that accuracy can be measured.

    A network loaded from the file equals ``quantise(pruned, c).network`` bit for bit, and quantising again,
    with ``rate_weight=0``, changes nothing. Weights that round to zero leave the masks.

    :param pruned: what :func:`pyrosparse.prune` returned; it is not changed.
    :param c: step in units of each layer's median posterior standard deviation.
    :param bias_bits: see :func:`pyrosparse.save`.
    :param rate_weight: see :func:`pyrosparse.save`.
    :param codebook: see :func:`pyrosparse.save`.
    :param codec: see :func:`pyrosparse.save`; with random codes only what has none is rounded.
    """
    check_numbers("quantise", c=c, bias_bits=bias_bits, rate_weight=rate_weight, codebook=codebook)
    others = {"rate_weight": rate_weight != 0, "codebook": codebook is not None}
    codes = codes_of(pruned, codec, [name for name, given in others.items() if given])
    pruned = pruned if codes is None else codes
    plan = make_plan(
        pruned.network,
        pruned.sigma or None,
        c,
        bias_bits=bias_bits,
        rate_weight=rate_weight,
        codebook=codebook,
        codes=None if codes is None else codes.codes,
    )
    network = plan.apply(pruned.network)
    state = network.state_dict()
    masks = dict(pruned.masks)
    for site, mask in masks.items():
        small = state.get(site)
        if small is not None:
            layer = site.rpartition(".")[0]
            order = axes(network.get_submodule(layer))
            alive = not_zero(small.detach(), 1 + small.dim() - mask.dim())
            masks[site] = _narrow(site, mask, alive, pruned.kept.get(layer), order)
    layers = [
        replace(layer, kept=layer.parts * int(masks[layer.site].sum())) if layer.site in masks else layer
        for layer in pruned.report.layers
    ]
    return replace(pruned, network=network, masks=masks, report=replace(pruned.report, layers=layers))


def _narrow(
    site: str, mask: Tensor, alive: Tensor, kept: tuple[Tensor, Tensor] | None, order: tuple[int, int]
) -> Tensor:
    """Mask in original coordinates without the weights that rounded to zero; ``order``: axes of outputs and inputs."""
    alive = alive.to(mask.device)
    if alive.shape == mask.shape:
        return mask & alive
    out = torch.zeros_like(mask)
    if kept is not None:
        index = [torch.arange(n, device=mask.device) for n in mask.shape]
        index[order[0]], index[order[1]] = (k.to(mask.device) for k in kept)
        if tuple(len(i) for i in index) == tuple(alive.shape):
            grid = torch.meshgrid(*index, indexing="ij")
            out[grid] = alive & mask[grid]
            return out
    raise NetworkError(
        f"{site}: the weights have shape {tuple(alive.shape)}, but the mask of shape {tuple(mask.shape)} and"
        " the kept units say otherwise"
    )


def _biases(network: nn.Module, axes: Mapping[str, int]) -> dict[str, str]:
    """Names of biases of layers with a weight matrix, each with the name of that weight."""
    state = dict(network.named_parameters(remove_duplicate=False))
    pairs = {}
    for name in state:
        if name == "bias" or name.endswith(".bias"):
            weight = f"{name[: -len('bias')]}weight"
            if weight in state and axes.get(weight, state[weight].dim()) > 1:
                pairs[name] = weight
    return pairs


def layer_steps(state: dict[str, Tensor], sigma: Mapping[str, Tensor], c: float | None) -> dict[str, float]:
    if sigma and not (c is not None and 0 < c < np.inf):
        raise NetworkError(f"c must be a positive number, not {c}")
    steps = {}
    for name, deviation in sigma.items():
        if name not in state:
            raise NetworkError(f"sigma has an entry for {name!r}, which is not in the network")
        steps[name] = _step(name, state[name], deviation.detach().cpu(), c or 0.0)
    return steps


def _step(name: str, value: Tensor, sigma: Tensor, c: float) -> float:
    """``c`` times the median of the positive standard deviations."""
    if sigma.shape != value.shape and sigma.dim():
        shapes = f"{tuple(sigma.shape)}, the weights {tuple(value.shape)}"
        raise NetworkError(f"sigma of {name} has shape {shapes}")
    kept = sigma[sigma != 0].to(torch.float64)
    if not torch.isfinite(kept).all() or (kept < 0).any():
        raise NetworkError(f"sigma of {name} holds NaN, Inf or negative numbers")
    if kept.numel() == 0:  # nothing is left; or there are weights of which the posterior says no precision at all
        return round_step(SMALLEST_STEP) if bool(value.any()) else 1.0
    step = round_step(max(c * float(np.median(kept.numpy())), SMALLEST_STEP))
    if step > LARGEST_STEP:
        raise NetworkError(f"sigma of {name} is too large: steps of {step:.2g} do not fit into the file")
    return step


def _bias(name: str, value: Tensor, step: float | None, bits: int | None) -> Content:
    numbers = real(value)
    largest = float(np.abs(numbers).max(initial=0))
    if bits is not None or step is None:
        levels = BIAS_LEVELS if bits is None else (1 << (bits - 1)) - 1
        step = round_step(max(largest / levels, SMALLEST_STEP))
    else:
        step = bias_step(step)
    integers = np.rint(numbers / step)
    if np.abs(integers).max(initial=0) > 1 << 15:  # float16 and float32 are shorter from here on
        return statistic(value)
    choices = [Content(codec, value.dtype, integers.astype(np.int64), step) for codec in ("u", "s")]

    def measure(stream: Stream, content: Content) -> None:
        send(stream, name, content)

    return cheapest(choices, measure)
