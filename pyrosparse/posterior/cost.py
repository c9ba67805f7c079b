"""What a network costs to run: floating-point operations of its sparse layers, before, after and expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family
from pyrosparse.layers import Site, blank

__all__ = ["Cost", "count_flops", "expected_cost", "output_positions"]


@dataclass(frozen=True)
class Cost:
    """What the posterior expects of the network that it will leave.

    :param weights: expected number of weights that are not 0: E[L0].
    :param flops: expected floating-point operations for one example.
    """

    weights: float
    flops: float


@torch.no_grad()
def output_positions(
    network: nn.Module, layers: Iterable[str], input_shape: torch.Size, *, complex_input: bool = False
) -> dict[str, int]:
    """How many outputs each unit of a layer gives for one example: 1 for a linear layer, H·W for a convolution.

    :param network: run once on zeros, in evaluation mode; its modes and the random generators are left as they are.
    :param layers: names of layers.
    :param input_shape: shape of one example.
    :param complex_input: whether the network takes complex tensors.
    :returns: number of positions by layer; layers that are never called as modules are left out.
    """
    found: dict[str, int] = {}

    def note(name: str) -> object:
        module = network.get_submodule(name)

        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            units = module.out_features if hasattr(module, "out_features") else module.out_channels
            found[name] = output[0].numel() // int(units)  # type: ignore[arg-type]

        return module.register_forward_hook(hook)

    handles = [note(name) for name in layers]
    modes = {module: module.training for module in network.modules()}
    like = next(network.parameters())
    devices = [like.device] if like.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            network.eval()(blank(network, input_shape, complex_input=complex_input))
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
        for module, training in modes.items():
            module.training = training
    return found


def count_flops(
    shape: torch.Size | tuple[int, ...], out_axis: int, positions: int, *, bias: bool, parts: int = 1
) -> int:
    """Real operations of a dense layer for one example: a product and a sum for each weight, less one sum an output.

    A product and a sum of complex numbers are eight real operations, a sum alone two.

    :param shape: shape of the weight.
    :param out_axis: axis of its units.
    :param positions: outputs of each unit.
    :param bias: whether a bias is added to each output.
    :param parts: numbers of a weight: 2 for complex ones.
    """
    weights, units = torch.Size(shape).numel(), shape[out_axis]
    return positions * parts * (2 * parts * weights - units + (units if bias else 0))


@torch.no_grad()
def expected_cost(
    families: Mapping[str, Family],
    sites: Mapping[str, Site],
    positions: Mapping[str, int],
    *,
    biases: Mapping[str, bool],
    threshold: float = DEFAULT_THRESHOLD,
) -> Cost:
    r"""Expected weights and operations under the posterior.

    With P the probability that a weight is there (its gate is open, and no mask has removed it; without gates, 1 where
    it is kept), a layer costs :math:`n(2\sum P - U)` operations (+ nU with a bias) at n positions, where U is the
    expected number of units that read anything. Weights behind one gate come and go together: for gates of filters that
    is :math:`\sum_f P_f\,HW\,(2k^2C - 1)`, and for gates of inputs :math:`(2\sum_j P_j - 1)\,\mathrm{out}` as
    long as one of them is all but surely open (Louizos, Welling & Kingma, 2018, appendix).

    :param families: posterior of each site.
    :param sites: the sites, by name.
    :param positions: see :func:`output_positions`.
    :param biases: whether each layer has a bias.
    :param threshold: of what is kept, where the posterior has no probabilities of its own.
    """
    weights = flops = torch.zeros((), dtype=torch.float64)
    for name, family in families.items():
        site = sites[name]
        gates = family.gates().to(torch.float64).cpu()
        left = family.left(threshold).cpu()
        there = (gates * left).sum()
        others = [i for i in range(left.dim()) if i != site.out_axis]
        # a unit is there unless all that it reads is gone; what stands behind one gate counts once
        behind = [i for i in others if gates.shape[i] == 1]
        reads = left.any(dim=behind, keepdim=True) if behind else left
        units = 1.0 - _prod(1.0 - gates * reads, others)
        n, expected_units = positions[site.layer], units.sum()
        weights = weights + site.parts * there
        products = 2.0 * site.parts * there
        flops = flops + n * site.parts * (products - expected_units + (expected_units if biases[site.layer] else 0.0))
    return Cost(float(weights), float(flops))


def _prod(values: Tensor, dims: list[int]) -> Tensor:
    for dim in dims:
        values = values.prod(dim, keepdim=True)
    return values
