r"""Priors of whole groups of weights: :math:`w = z \cdot \tilde w`, one scale z for each group."""

from __future__ import annotations

import math
from abc import abstractmethod
from enum import StrEnum
from typing import Self

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyrosparse import distributions as dist
from pyrosparse.errors import PriorError
from pyrosparse.layers import LINEAR_LAYERS, Site, axes, parts_of
from pyrosparse.poutine.scaled import scaled
from pyrosparse.priors.prior import Prior
from pyrosparse.priors.weight import ARD, ComplexARD, LogUniform, is_positive
from pyrosparse.text import nearest

__all__ = ["L0", "GroupHorseshoe", "GroupLogUniform", "GroupPrior", "Groups", "horseshoe", "scale_name"]


class Groups(StrEnum):
    """Which weights of a layer share a scale."""

    AUTO = "auto"
    """Input units of linear layers, output filters of convolutions (Louizos, Ullrich & Welling, 2017)."""

    INPUT = "input"
    """All weights that read one input unit or channel."""

    OUTPUT = "output"
    """All weights that feed one output unit or filter."""

    WEIGHT = "weight"
    """Each weight has a scale of its own (L0 only)."""


def scale_name(site: str) -> str:
    """Name of the scales' site: ``fc1.scale`` for ``fc1.weight``."""
    layer = site.rpartition(".")[0]
    return f"{layer}.scale" if layer else "scale"


class GroupPrior(Prior):
    r"""Prior of a weight :math:`w = z \cdot \tilde w` with one scale z a group.

    On a complex layer z is real all the same, and :math:`\tilde w` complex.

    :param individual: prior of :math:`\tilde w`; None for N(0, 1) or CN(0, 1), with which the scales alone decide what
        is kept. With :class:`LogUniform` or :class:`ARD` (of complex layers :class:`ComplexLogUniform` or
        :class:`ComplexARD`) a weight is kept if its group and itself are.
    :param groups: a value of :class:`Groups`; may differ from layer to layer (``SparseModel(priors=…)``).
    :param per_example: under local reparameterisation, draw z for each example of a batch; False: one draw a batch.
    :raises PriorError: for another value, with the nearest one.
    """

    # axis of the weight that the groups lie along; None: each weight for itself. Known once `at` has seen the layer
    axis: int | None

    def __init__(self, *, individual: Prior | None, groups: Groups | str, per_example: bool) -> None:
        super().__init__()
        name = type(self).__name__
        if groups not in list(Groups):
            raise PriorError(f"{name}: groups={groups!r} is unknown{nearest(str(groups), [g.value for g in Groups])}")
        if individual is not None and (not isinstance(individual, Prior) or isinstance(individual, GroupPrior)):
            raise PriorError(
                f"{name}: individual is a {type(individual).__name__}; give a prior of single weights, such as "
                "pyrosparse.priors.LogUniform()"
            )
        self.groups = Groups(groups)
        self.decides = individual is not None
        # for complex layers ComplexARD(1.0): known once `at` has seen the layer
        self.individual: Prior = ARD(1.0) if individual is None else individual
        self.per_example = per_example
        self.axis = None

    def at(self, site: Site, module: nn.Module) -> Self:  # noqa: D102
        copy = super().at(site, module)
        out_axis, in_axis = axes(module)
        along = {Groups.INPUT: in_axis, Groups.OUTPUT: out_axis, Groups.WEIGHT: None}
        along[Groups.AUTO] = in_axis if isinstance(module, LINEAR_LAYERS) else out_axis
        copy.axis = along[copy.groups]
        if parts_of(module) == 2:
            copy.parts = 2
            if not copy.decides:
                copy.individual = ComplexARD(1.0)
        return copy

    def check(self, layer: str, module: nn.Module) -> None:  # noqa: D102
        self.check_numbers(layer, module)
        if self.decides:
            self.individual.check(layer, module)
        if getattr(module, "groups", 1) == 1:
            return
        transposed = axes(module)[0] == 1
        if self.groups is Groups.INPUT and not transposed:
            raise PriorError(
                f"prior {type(self).__name__} on layer {layer!r}: in a grouped convolution an input channel is not an "
                "axis of the weight; use groups='output', or exclude the layer"
            )
        if self.groups in {Groups.OUTPUT, Groups.AUTO} and transposed:
            raise PriorError(
                f"prior {type(self).__name__} on layer {layer!r}: in a grouped transposed convolution an output "
                "channel is not an axis of the weight; use groups='input', or exclude the layer"
            )

    def count(self, shape: torch.Size) -> torch.Size:
        """Shape of the scales of a weight of this shape: one axis, or that of the weight."""
        return torch.Size([shape[self.axis]]) if self.axis is not None else shape

    @abstractmethod
    def scale(self, name: str, shape: torch.Size) -> Tensor:
        """Run the sample statement(s) of the scales and return them, of the shape :meth:`count`.

        :param name: name of the scales' site, or the beginning of it where there are several.
        :param shape: shape of the weight.
        """

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:
        r"""Distribution of :math:`\tilde w`, before the scales."""
        return self.individual.distribution(shape)

    def sample(self, site: str, shape: torch.Size) -> Tensor:  # noqa: D102
        z = self.scale(scale_name(site), shape)
        w_tilde = self.individual.sample(site, shape)
        return scaled(z, w_tilde, self.axis)


class GroupLogUniform(GroupPrior):
    r"""Group Normal-Jeffreys: :math:`p(z) \propto 1/|z|` for each group, :math:`\tilde w \sim N(0, 1)`.

    "Bayesian compression" with the log-uniform scale (Louizos, Ullrich & Welling, 2017, section 4.1).

    :param kl: form of the KL divergence of z, ``"exact"`` or ``"sigmoid"``.
    :param individual: see :class:`GroupPrior`, as for the others.
    """

    def __init__(
        self,
        *,
        kl: str = "exact",
        individual: Prior | None = None,
        groups: Groups | str = Groups.AUTO,
        per_example: bool = True,
    ) -> None:
        super().__init__(individual=individual, groups=_of_groups(self, groups), per_example=per_example)
        self.scales = LogUniform(kl=kl)

    def scale(self, name: str, shape: torch.Size) -> Tensor:  # noqa: D102
        return pyro.sample(name, self.scales.distribution(self.count(shape)))


class GroupHorseshoe(GroupPrior):
    r"""Group horseshoe: half-Cauchy scales of the layer and of each group, :math:`\tilde w \sim N(0, 1)`.

    .. math:: s \sim C^+(0, \tau_0), \quad \tilde z_g \sim C^+(0, 1), \quad z_g = s \tilde z_g

    each half-Cauchy in its product form (:class:`~pyrosparse.distributions.HalfCauchyProduct`), at the sites
    ``fc1.scale.layer`` and ``fc1.scale.group`` (Louizos, Ullrich & Welling, 2017, section 4.2; Carvalho, Polson &
    Scott, 2010).

    :param global_scale: :math:`\tau_0`: the smaller, the fewer groups the prior expects.
    :raises PriorError: unless it is between 1e-18 and 1e18.
    """

    _tau: Tensor

    def __init__(
        self,
        global_scale: float = 1e-5,
        *,
        individual: Prior | None = None,
        groups: Groups | str = Groups.AUTO,
        per_example: bool = True,
    ) -> None:
        super().__init__(individual=individual, groups=_of_groups(self, groups), per_example=per_example)
        # its square and the inverse of that are numbers in single precision
        if not (is_positive(global_scale) and 1e-18 <= global_scale <= 1e18):
            raise PriorError(
                f"GroupHorseshoe: global_scale is {global_scale!r}; give a number between 1e-18 and 1e18, such as 1e-5"
            )
        self.global_scale = float(global_scale)
        self.register_buffer("_tau", torch.tensor(self.global_scale), persistent=False)

    def scale(self, name: str, shape: torch.Size) -> Tensor:  # noqa: D102
        s = pyro.sample(f"{name}.layer", dist.HalfCauchyProduct(self._tau))
        local = dist.HalfCauchyProduct(torch.ones_like(self._tau)).expand(self.count(shape))
        z = pyro.sample(f"{name}.group", local.to_event(1))
        return horseshoe(s, z)


def horseshoe(s: Tensor, z: Tensor) -> Tensor:
    r"""Scales of the groups, :math:`\sqrt{s_a s_b \alpha_g \beta_g}`, from the two factors of each half-Cauchy.

    :param s: factors of the layer's scale, ``(…, 2)``.
    :param z: factors of the groups', ``(…, groups, 2)``.
    """
    return (s.prod(-1, True) * z.prod(-1)).sqrt()


class L0(GroupPrior):
    r"""Gates that are open or shut, with a price for each weight behind an open one.

    .. math:: KL = \sum_g P(z_g \ne 0) \Big( \lambda |g| + \sum_{w \in g} KL(\tilde w) \Big)

    Louizos, Welling & Kingma (2018). With ``slab="point"`` the weights are points and KL(w̃) is
    :math:`\tfrac12` ``weight_decay`` · w̃², as the authors have it; with ``slab="normal"`` they have the posterior
    N(μ, σ²) and the prior N(0, 1): the fully Bayesian treatment, which the authors leave as future work.

    :param penalty: λ ≥ 0, nats for each weight behind an open gate; a complex one counts as two numbers.
    :param weight_decay: precision of point weights, ≥ 0.
    :param slab: ``"point"`` or ``"normal"``.
    :param drop_rate: share of shut gates that the posterior starts with; the authors take 0.2 for inputs and 0.5 for
        hidden units.
    :raises PriorError: for a value out of its range.
    """

    SLABS = ("point", "normal")
    _unit: Tensor

    def __init__(
        self,
        penalty: float = 0.1,
        *,
        weight_decay: float = 5e-4,
        slab: str = "point",
        drop_rate: float = 0.5,
        individual: Prior | None = None,
        groups: Groups | str = Groups.AUTO,
        per_example: bool = True,
    ) -> None:
        super().__init__(individual=individual, groups=groups, per_example=per_example)
        for name, value in (("penalty", penalty), ("weight_decay", weight_decay)):
            if not (is_positive(value) or value == 0):
                raise PriorError(f"L0: {name} is {value!r}; give a number of at least 0")
        if slab not in self.SLABS:
            raise PriorError(f"L0: slab={slab!r} is unknown{nearest(str(slab), self.SLABS)}")
        if not (is_positive(drop_rate) and drop_rate < 1):
            raise PriorError(f"L0: drop_rate is {drop_rate!r}; give a number between 0 and 1")
        if individual is not None and slab == "point":
            raise PriorError("L0: point weights have no prior but weight decay; use slab='normal' with individual=…")
        self.penalty, self.weight_decay = float(penalty), float(weight_decay)
        self.slab, self.drop_rate = slab, float(drop_rate)
        self.register_buffer("_unit", torch.ones(()), persistent=False)

    @property
    def log_alpha(self) -> float:
        """Where the gates start: log((1 − drop rate) / drop rate)."""
        return math.log((1.0 - self.drop_rate) / self.drop_rate)

    def scale(self, name: str, shape: torch.Size) -> Tensor:  # noqa: D102
        gates = self.count(shape)
        size = self.parts * shape.numel() / max(1, gates.numel())
        prior = dist.L0Prior(self._unit * (self.penalty * size)).expand(gates)
        return pyro.sample(name, prior.to_event(len(gates)))

    def distribution(self, shape: torch.Size) -> TorchDistributionMixin:  # noqa: D102
        if self.slab == "normal":
            return self.individual.distribution(shape)
        numbers = shape if self.parts == 1 else torch.Size([*shape, 2])
        return dist.WeightDecay(self._unit * self.weight_decay).expand(numbers).to_event(len(numbers))

    def sample(self, site: str, shape: torch.Size) -> Tensor:  # noqa: D102
        z = self.scale(scale_name(site), shape)
        return scaled(z, pyro.sample(site, self.distribution(shape)), self.axis)


def _of_groups(prior: Prior, groups: Groups | str) -> Groups | str:
    """Refuse a scale for each weight where it would say nothing that the weight does not say."""
    if groups == Groups.WEIGHT:
        raise PriorError(
            f"{type(prior).__name__}: groups='weight' is for L0; for single weights use priors.LogUniform or priors.ARD"
        )
    return groups
