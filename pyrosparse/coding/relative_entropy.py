"""Random codes of a network: fitted with the KL of each block under control, or made of a finished posterior."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyrosparse.coding.content import Content
from pyrosparse.coding.draws import LARGEST_BITS, Blocks, Pick, RandomCode, block_bits, choose_index
from pyrosparse.coding.normals import UNIT
from pyrosparse.coding.steps import round_step
from pyrosparse.errors import ConfigError, NetworkError, PyrosparseWarning
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.guides.coded import CodedFamily
from pyrosparse.infer.block_control import BlockControl
from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.infer.fit import fit
from pyrosparse.likelihoods import Likelihood
from pyrosparse.model import SparseModel
from pyrosparse.priors import ARD
from pyrosparse.pruning.pruned import Pruned
from pyrosparse.text import nearest

__all__ = ["RandomCoded", "code_posterior", "random_code"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SMALLEST_STD = 1e-6  # of the prior's: a posterior that is surer than that is taken to be no surer


@dataclass
class RandomCoded(Pruned):
    """A pruned network whose weights are shared draws; ``save(..., codec="random-code")`` writes their numbers.

    :param codes: content of the file by site.
    """

    codes: dict[str, Content] = field(default_factory=dict)


@dataclass
class _Layer:
    """The weights that pruning has left of one site."""

    site: str
    alive: NDArray[np.bool_]
    blocks: Blocks
    bits: int
    step: float
    indices: Ints
    values: NDArray[np.int32]  # in units of the step, 0 while a block has not been sent
    next: int = 0  # block to be sent next

    @property
    def prior(self) -> float:
        """Standard deviation of the prior."""
        return self.step * UNIT

    def send(self, block: int, mean: Floats, sigma: Floats, pick: Pick, generator: np.random.Generator) -> Ints:
        """Choose a block's draw by the posterior of all weights; returns which weights are in it."""
        size = self.blocks.size
        members = self.blocks.order[block * size : (block + 1) * size]
        deviation = np.maximum(sigma[members], SMALLEST_STD * self.prior)
        self.indices[block] = choose_index(
            self.blocks,
            block,
            self.bits,
            mean=mean[members],
            sigma=deviation,
            prior=self.prior,
            pick=pick,
            generator=generator,
        )
        self.values[members] = self.blocks.draws(block, self.indices[block : block + 1], len(members))[0]
        return members

    def content(self, dtype: torch.dtype) -> Content:
        """What the file gets, once all blocks are sent."""
        levels = np.zeros(self.alive.shape, np.int32)
        levels[self.alive] = self.values
        return Content("r", dtype, levels, self.step, code=RandomCode(self.bits, self.blocks.size, self.indices))


def code_posterior(
    pruned: Pruned,
    *,
    bits: int = 12,
    rate: float = 1.0,
    pick: Pick | str = Pick.NEAREST,
    seed: int = 0,
) -> RandomCoded:
    r"""Give the weights of a pruned network random codes, by its posterior as it is.

    Each layer's prior is :math:`N(0, \sigma_p^2)` with :math:`\sigma_p^2` the mean of :math:`\mu^2 + \sigma^2` over
    the weights that are left. Blocks are as large as ``bits`` allows at the mean KL of the layer; single blocks may
    have more, and are off by more then. :func:`random_code` keeps them all at it, and lets the weights that are
    left make up for those that are sent.

    :param pruned: with posterior standard deviations; left as it is.
    :param bits: of each block, at most 20; the time to encode is in proportion to 2 to that power.
    :param rate: bits that are sent over the bits of the posterior's KL.
    :param pick: which of the draws is sent, see :class:`~pyrosparse.coding.draws.Pick`.
    :param seed: of the chance of ``pick="sample"``.
    :raises NetworkError: if no site has real weights and posterior standard deviations.
    """
    layers = _layers(pruned, bits, rate)
    generator = np.random.default_rng(seed)
    for site, layer in layers.items():
        mean, sigma = _numbers(pruned.network.get_parameter(site), layer), _numbers(pruned.sigma[site], layer)
        for block in range(layer.blocks.number):
            layer.send(block, mean, sigma, _pick(pick), generator)
    return _coded(pruned, deepcopy(pruned.network), layers)


def random_code(
    pruned: Pruned,
    loader: Batches,
    *,
    bits: int = 12,
    rate: float = 1.0,
    settle: int = 4,
    rounds: int = 8,
    epochs: int = 1,
    lr: float = 1e-3,
    likelihood: Likelihood | None = None,
    val_loader: Batches | None = None,
    pick: Pick | str = Pick.NEAREST,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> RandomCoded:
    r"""Fit the weights that pruning has left under a Gaussian prior, and send them block by block.

    Minimal random code learning (Havasi, Peharz and Hernández-Lobato, 2019) of a pruned network: the fit goes on with
    a weight of the KL for each block that brings it to ``bits`` (:class:`~pyrosparse.infer.BlockControl`); then, round
    by round, a share of the blocks is sent and stands still, and the fit goes on with the others, which make up for
    what chance has left. After the last round biases and all other parameters have ``epochs`` to settle.

    :param pruned: with posterior standard deviations; left as it is. The masks stay.
    :param loader: training data.
    :param bits: of each block, at most 20.
    :param rate: bits that are sent over the bits of the KL that the posterior has before; sets the size of blocks.
    :param settle: epochs before the first round.
    :param rounds: in how many shares the blocks are sent.
    :param epochs: passes over the data after each round.
    :param lr: learning rate; it falls linearly over the rounds.
    :param likelihood: that of the model when None; its ``num_data`` must be that of the training data.
    :param val_loader: for the error in the report; None leaves it out.
    :param pick: which of the draws is sent, see :class:`~pyrosparse.coding.draws.Pick`.
    :param seed: of torch's generators and of the chance of ``pick="sample"``.
    :param progress: whether to show bars.
    :param settings: further settings of :func:`pyrosparse.fit`, such as ``teacher``.
    :raises ConfigError: for a number that is out of its range.
    :raises NetworkError: if no site has real weights and posterior standard deviations.
    """
    for name, value in (("settle", settle), ("rounds", rounds), ("epochs", epochs)):
        if value < 1:
            raise ConfigError(f"random_code: {name} is {value}; give at least 1")
    layers = _layers(pruned, bits, rate)
    generator = np.random.default_rng(seed)
    model, guide = _pair(pruned, layers, pruned.chosen_likelihood(likelihood))
    families = {site: family for site, family in guide.families.items() if isinstance(family, CodedFamily)}
    for turn in range(rounds + 1):
        controls = {site: BlockControl(family, bits=layers[site].bits) for site, family in families.items()}
        fit(
            model,
            guide,
            loader,
            epochs=epochs if turn else settle,
            site_schedules=controls,
            lr=lr * (1.0 - turn / (rounds + 1)),
            shrink_every=0,
            seed=seed + turn,
            progress=progress,
            **settings,
        )
        if turn == rounds:
            break
        for site, layer in layers.items():
            _send_share(layer, families[site], (turn + 1) / rounds, _pick(pick), generator)
    coded = _coded(pruned, deepcopy(model.network), layers)
    report = copy(pruned.report)
    report.error = None
    if val_loader is not None:
        report.error = evaluate(coded.network, val_loader, likelihood=coded.chosen_likelihood(likelihood)).error
    return replace(coded, report=report)


def _pick(pick: Pick | str) -> Pick:
    if pick not in list(Pick):
        known = [p.value for p in Pick]
        raise ConfigError(f"random codes: pick={pick!r} is unknown{nearest(str(pick), known)}")
    return Pick(pick)


def _layers(pruned: Pruned, bits: int, rate: float) -> dict[str, _Layer]:
    """Deal the weights of each site to blocks, as large as the bits allow at the layer's mean KL."""
    if not 1 <= bits <= LARGEST_BITS:
        raise ConfigError(f"random codes: bits is {bits}; give a whole number from 1 to {LARGEST_BITS}")
    if not 0 < rate < math.inf:
        raise ConfigError(f"random codes: rate is {rate}; give a positive number")
    found = {}
    for site, alive in pruned.alive().items():
        if pruned.parts(site) > 1 or site not in pruned.sigma or not bool(alive.any()):
            why = "are complex" if pruned.parts(site) > 1 else "have no posterior standard deviations, or are all 0"
            warnings.warn(
                f"{site}: its weights {why}; they get no random code and are rounded", PyrosparseWarning, stacklevel=3
            )
            continue
        mean = pruned.network.get_parameter(site).detach().cpu()[alive.cpu()].double().numpy()
        sigma = pruned.sigma[site].detach().cpu().expand(alive.shape)[alive.cpu()].double().numpy()
        step = round_step(math.sqrt(float((mean**2 + sigma**2).mean())) / UNIT)
        prior = step * UNIT
        each = rate * float(block_bits(mean, np.maximum(sigma, SMALLEST_STD * prior), prior).mean())
        size = min(max(1, round(bits / max(each, bits / len(mean)))), len(mean))
        blocks = Blocks(site, len(mean), size)
        found[site] = _Layer(
            site,
            alive.cpu().numpy(),
            blocks,
            bits,
            step,
            np.zeros(blocks.number, np.int64),
            np.zeros(len(mean), np.int32),
        )
    if not found:
        raise NetworkError("random codes need a site with real weights and their posterior standard deviations")
    return found


def _numbers(values: Tensor, layer: _Layer) -> Floats:
    """Values of the weights that are left."""
    return np.asarray(values.detach().cpu().double().expand(layer.alive.shape).numpy()[layer.alive])


def _dense(values: NDArray[Any], layer: _Layer, empty: float) -> Tensor:
    """Spread numbers of the weights that are left over the tensor."""
    out = np.full(layer.alive.shape, empty, values.dtype)
    out[layer.alive] = values
    return torch.from_numpy(out)


def _pair(pruned: Pruned, layers: Mapping[str, _Layer], likelihood: Likelihood) -> tuple[SparseModel, AutoSparse]:
    """A model with the Gaussian priors of the codes, and the guide whose blocks can be sent."""
    names = {site: site.rpartition(".")[0] for site in layers}
    priors = {names[site]: ARD(1.0 / layer.prior**2) for site, layer in layers.items()}
    model = SparseModel(
        pruned.network, next(iter(priors.values())), likelihood, include=list(names.values()), priors=priors
    )
    families = {}
    for site, layer in layers.items():
        weight = pruned.network.get_parameter(site).detach().clone()
        deviation = np.maximum(_numbers(pruned.sigma[site], layer), SMALLEST_STD * layer.prior)
        log_var = _dense(2.0 * np.log(deviation), layer, 0.0).to(weight)
        block = _dense(layer.blocks.of_weights(), layer, -1).to(weight.device)
        families[site] = CodedFamily(site, model.prior_of(site), weight, log_var, block)
    return model, AutoSparse(model, families=families)


def _send_share(layer: _Layer, family: CodedFamily, share: float, pick: Pick, generator: np.random.Generator) -> None:
    """Send blocks until a share of all has been, and fix them in the posterior."""
    mean, sigma = _numbers(family.mean(), layer), _numbers(family.std(), layer)
    sent = np.zeros(layer.blocks.count, bool)
    last = math.ceil(share * layer.blocks.number)
    for block in range(layer.next, last):
        sent[layer.send(block, mean, sigma, pick, generator)] = True
    layer.next = last
    device = family.value.device
    family.send(_dense(sent, layer, False).to(device), _dense(layer.values * layer.step, layer, 0.0).to(family.value))


def _coded(pruned: Pruned, network: nn.Module, layers: Mapping[str, _Layer]) -> RandomCoded:
    """The pruned network with the weights that a reader will get."""
    codes = {}
    with torch.no_grad():
        for site, layer in layers.items():
            weight = network.get_parameter(site)
            codes[site] = layer.content(weight.dtype)
            weight.copy_(codes[site].tensor().to(weight))
            weight.requires_grad_(pruned.network.get_parameter(site).requires_grad)
    values = {f: getattr(pruned, f) for f in pruned.__dataclass_fields__ if f != "codes"}
    return RandomCoded(**values | {"network": network.eval()}, codes=codes)
