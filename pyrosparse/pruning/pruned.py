"""What pruning hands back."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.layers import not_zero
from pyrosparse.likelihoods import Categorical, Likelihood
from pyrosparse.text import table

__all__ = ["Candidate", "LayerReport", "PruneReport", "Pruned"]


@dataclass(frozen=True)
class LayerReport:
    """One layer before and after pruning.

    :param site: name of the weight.
    :param shape: its original shape.
    :param small_shape: its shape in the smaller network.
    :param kept: weights that are not 0.
    :param total: weights of the original.
    :param units: output units of the smaller network.
    :param original_units: output units of the original.
    :param inputs: input units (channels, features) of the smaller network.
    :param original_inputs: input units of the original.
    :param flops: floating-point operations of the smaller layer for one example; None where the shape of the input is
        not known.
    :param original_flops: those of the original.
    :param parts: numbers of a weight: of complex ones, which count as two, 2; shapes do not show them.
    """

    site: str
    shape: tuple[int, ...]
    small_shape: tuple[int, ...]
    kept: int
    total: int
    units: int
    original_units: int
    inputs: int
    original_inputs: int
    flops: int | None = None
    original_flops: int | None = None
    parts: int = 1


@dataclass(frozen=True)
class Candidate:
    """One threshold that was tried.

    :param threshold: largest log α that was kept.
    :param kept: weights that were kept.
    :param error: error on the validation data, None where there are none.
    :param bytes: size of the file, None where it was not asked for.
    """

    threshold: float
    kept: int
    error: float | None = None
    bytes: int | None = None


@dataclass
class PruneReport:
    """How a network was pruned and what came of it.

    :param threshold: largest log α, or ``statistic``, that is kept.
    :param layers: one report a layer.
    :param curve: every threshold that was tried.
    :param dense_error: validation error of the posterior mean before pruning, if it was measured.
    :param error: validation error after pruning, if it was measured.
    :param difference: largest difference between the outputs of the masked and of the smaller network, relative
        to the largest output; None when they could not be compared.
    :param notes: what was done otherwise than asked, and why.
    :param statistic: what is compared with the threshold: log α, or what stands for it where weights share scales.
    """

    threshold: float
    layers: list[LayerReport] = field(default_factory=list)
    curve: list[Candidate] = field(default_factory=list)
    dense_error: float | None = None
    error: float | None = None
    difference: float | None = None
    notes: list[str] = field(default_factory=list)
    statistic: str = "log α"

    @property
    def kept(self) -> int:
        """Weights that are not 0."""
        return sum(layer.kept for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights of the original network's sparse layers."""
        return sum(layer.total for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Weights of the original over weights that are not 0 ("params" rate)."""
        return self.total / max(1, self.kept)

    @property
    def dense_ratio(self) -> float:
        """Weights of the original over weights of the smaller dense network ("dense" rate)."""
        small = sum(layer.parts * _numel(layer.small_shape) for layer in self.layers)
        return self.total / max(1, small)

    @property
    def flops(self) -> int | None:
        """Floating-point operations of the smaller network's sparse layers for one example."""
        return _sum(layer.flops for layer in self.layers)

    @property
    def original_flops(self) -> int | None:
        """Those of the original's."""
        return _sum(layer.original_flops for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries, fit for JSON."""
        return asdict(self) | {
            "kept": self.kept,
            "total": self.total,
            "ratio": self.ratio,
            "dense_ratio": self.dense_ratio,
            "flops": self.flops,
            "original_flops": self.original_flops,
        }

    def __str__(self) -> str:
        rows = [
            (
                layer.site,
                f"{layer.total:,}",
                f"{layer.kept:,}",
                f"{100 * layer.kept / layer.total:.2f} %",
                f"{layer.original_inputs} → {layer.inputs}",
                f"{layer.original_units} → {layer.units}",
            )
            for layer in self.layers
        ]
        rows.append(("all", f"{self.total:,}", f"{self.kept:,}", f"{100 * self.kept / self.total:.2f} %", "", ""))
        lines = [
            table(("site", "weights", "kept", "density", "inputs", "units"), rows),
            f"threshold {self.statistic} ≤ {self.threshold:.3g}: {self.ratio:.1f} times fewer weights",
        ]
        if self.flops and self.original_flops:
            times = self.original_flops / self.flops
            lines.append(f"{self.original_flops:,} → {self.flops:,} operations an example, {times:.1f} times fewer")
        return "\n".join(lines + self.notes)


@dataclass
class Pruned:
    """A smaller network, and what is needed to store it and to speak of it in the original's terms.

    :param network: the smaller network, in evaluation mode; layers keep their names, and weights that
        were pruned but lie in units that stayed are exactly 0.
    :param masks: site → which weights were kept; original shape, without the axis of the parts of complex weights.
    :param sigma: parameter name in ``network`` → posterior standard deviation, shape of that parameter;
        0 where it was pruned.
    :param kept: layer → (outputs, inputs) that stayed, in the original's indices.
    :param original_parameters: numbers in the original network: weights, biases and all others.
    :param report: how it was pruned.
    :param likelihood: a copy of the model's, by which all that follows trains and measures; None for a pair
        written by hand that was pruned without one.
    """

    network: nn.Module
    masks: dict[str, Tensor]
    sigma: dict[str, Tensor]
    kept: dict[str, tuple[Tensor, Tensor]]
    original_parameters: int
    report: PruneReport
    likelihood: Likelihood | None = None

    @property
    def nonzero(self) -> int:
        """Weights that are not 0, over the pruned sites; a complex one counts as two numbers."""
        return sum(self.parts(site) * int(alive.sum()) for site, alive in self.alive().items())

    def parts(self, site: str) -> int:
        """Numbers of a weight of a site: 1, or 2 for a complex one."""
        return 1 + self.network.get_parameter(site).dim() - self.masks[site].dim()

    def alive(self) -> dict[str, Tensor]:
        """Which weights of the smaller network are not 0, by site."""
        return {site: not_zero(self.network.get_parameter(site).detach(), self.parts(site)) for site in self.masks}

    def chosen_likelihood(self, given: Likelihood | None = None) -> Likelihood:
        """Copy a likelihood to the network's device: the one given, the model's own, or labels with logits."""
        chosen = self.likelihood if given is None else given
        device = next(self.network.parameters(), torch.empty(0)).device
        return (Categorical(num_data=1) if chosen is None else deepcopy(chosen)).to(device)

    def __str__(self) -> str:
        return str(self.report)


def _sum(counts: Iterable[int | None]) -> int | None:
    """Sum of counts; None if one of them is not known."""
    known = list(counts)
    return None if not known or any(count is None for count in known) else sum(c for c in known if c is not None)


def _numel(shape: tuple[int, ...]) -> int:
    product = 1
    for n in shape:
        product *= n
    return product
