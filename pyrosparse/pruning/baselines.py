"""What posteriors are compared with: pruning by size, and an ℓ1 penalty on sizes; of complex weights, on moduli."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from pyrosparse.errors import ConfigError, PruneError, PyrosparseWarning
from pyrosparse.guides.magnitude import Magnitude
from pyrosparse.infer.check import check_data
from pyrosparse.infer.evaluate import Batches
from pyrosparse.infer.schedules import Schedule
from pyrosparse.infer.train import descend
from pyrosparse.layers import frozen_layers, over_parts, parts_of, sparse_layers
from pyrosparse.likelihoods import Categorical, Likelihood
from pyrosparse.model import SparseModel
from pyrosparse.priors import ARD, ComplexARD
from pyrosparse.pruning.prune import prune
from pyrosparse.pruning.pruned import Pruned

__all__ = ["l1_prune", "magnitude_prune"]

MOMENTUM = 0.9
SLACK = 200  # one part in so many: how much more than asked for may be kept


def magnitude_prune(
    network: nn.Module,
    example: Tensor,
    *,
    density: float,
    likelihood: Likelihood | None = None,
    val_loader: Batches | None = None,
) -> Pruned:
    """Keep the largest weights, in units of their layer's root mean square; of complex ones those of largest modulus.

    Units that die are removed as in :func:`pyrosparse.prune`, and the result goes into the same stations: fine-tuning,
    files, export. Weights that go with a unit are made up for by the next largest ones: as many stay as asked for, or
    a few more where another unit comes with them. There is no posterior, so that a file holds its weights exactly.

    :param network: left as it is.
    :param example: a batch of inputs.
    :param density: share of the weights of all layers that stays.
    :param likelihood: labels with logits when None.
    :param val_loader: validation data, for the report.
    :raises ConfigError: for a density that is no share.
    """
    _check_density("magnitude_prune", density)
    model, guide = _as_points(network, likelihood)
    return _largest(model, guide, example, density, val_loader)


def l1_prune(
    network: nn.Module,
    loader: Batches,
    *,
    penalty: float,
    epochs: int,
    lr: float = 1e-2,
    lr_schedule: Schedule | None = None,
    density: float = 1.0,
    likelihood: Likelihood | None = None,
    val_loader: Batches | None = None,
    progress: bool = True,
) -> Pruned:
    r"""Train with an ℓ1 penalty on the size of each weight, and cut what has become 0.

    .. math:: -\tfrac1N \log p(D|w) + \lambda \sum_w |w|

    where :math:`|w|` is the modulus of complex weights: both parts become 0 together. After each step of gradient
    descent with momentum every size is shrunk by the proximal step of the penalty, so that zeros are exact. (Adam's
    steps have a scale of their own for each number, and would end elsewhere.) What is left is smaller than without a
    penalty: :func:`pyrosparse.fine_tune` takes that back. A normalisation behind a layer undoes any scale of its
    weights, so that a penalty on them alone shrinks and cuts little there.

    :param network: left as it is; layers whose weight is frozen are neither shrunk nor cut, and a warning names them.
    :param loader: yields ``(x, y)``.
    :param penalty: λ, nats an example and unit of size.
    :param epochs: passes over the data.
    :param lr: learning rate.
    :param lr_schedule: factor on it by the progress of the run; constant when None.
    :param density: share of the weights of all layers that stays where more are not 0, as in :func:`magnitude_prune`.
    :param likelihood: labels with logits when None; left as it is.
    :param val_loader: validation data, for the report.
    :param progress: whether to show a bar.
    :raises ConfigError: for a negative or infinite penalty, a density that is no share, or a network that is frozen.
    :raises PruneError: for a penalty that leaves no weight.
    """
    if not 0 <= penalty < math.inf:
        raise ConfigError(f"l1_prune: penalty is {penalty}; give a number of at least 0")
    _check_density("l1_prune", density)
    trained = deepcopy(network)
    chosen = deepcopy(likelihood) if likelihood is not None else Categorical(num_data=1)
    example = check_data(trained, chosen, loader, device=next(trained.parameters()).device)
    layers = sparse_layers(trained)
    frozen = frozen_layers(layers)
    if len(frozen) == len(layers):
        raise ConfigError(
            "l1_prune: the weights of all layers are frozen (requires_grad=False): there is nothing to shrink"
        )
    if frozen:
        warnings.warn(
            f"l1_prune: the weights of {', '.join(map(repr, frozen))} are frozen (requires_grad=False) and stay as "
            "they are",
            PyrosparseWarning,
            stacklevel=2,
        )
    # of layers that share a weight the first one: it is shrunk once a step
    owners = {id(m.weight): m for n, m in reversed(layers.items()) if n not in frozen}.values()
    parameters = [p for p in (*trained.parameters(), *chosen.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM)

    @torch.no_grad()
    def shrink() -> None:
        step = penalty * optimizer.param_groups[0]["lr"] / (1.0 - MOMENTUM)
        for layer in owners:
            assert isinstance(layer.weight, Tensor)
            weight = layer.weight
            size = weight.abs() if parts_of(layer) == 1 else weight.square().sum(-1).sqrt()
            weight.mul_(over_parts((1.0 - step / size.clamp_min(1e-30)).clamp_min(0.0), weight))

    descend(
        trained,
        lambda x, y: -chosen.log_prob(trained(x), y).mean(),
        optimizer,
        loader,
        epochs=epochs,
        lr_schedule=lr_schedule,
        after_step=shrink,
        metric=chosen.metric,
        label="ℓ1",
        progress=progress,
    )
    model, guide = _as_points(trained.eval(), chosen, exclude=frozen)
    if not bool(_relevance(guide).isfinite().any()):
        raise PruneError(f"l1_prune: a penalty of {penalty} leaves no weight: give a smaller one")
    return _largest(model, guide, example, density, val_loader)


def _check_density(name: str, density: float) -> None:
    if isinstance(density, str) or not 0 < density <= 1:
        raise ConfigError(f"{name}: density is {density!r}; give the share of weights that stays, above 0")


def _largest(
    model: SparseModel, guide: Magnitude, example: Tensor, density: float, val_loader: Batches | None
) -> Pruned:
    """Keep that share of the weights, or all that are not 0; those that units take with them are made up for."""
    relevance = _relevance(guide).sort(descending=True).values
    there = int(relevance.isfinite().sum())
    wanted = min(max(1, round(density * len(relevance))), there)

    def cut(count: int, loader: Batches | None = None) -> Pruned:
        return _pruned(model, guide, example, -float(relevance[count - 1]), loader)

    def left(count: int) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PyrosparseWarning)  # the cut that is taken in the end says it all
            return sum(int(mask.sum()) for mask in cut(count).masks.values())

    few, enough = wanted, there
    if left(few) >= wanted:
        return cut(few, val_loader)
    while enough - few > max(1, wanted // SLACK):
        middle = (few + enough) // 2
        few, enough = (few, middle) if left(middle) >= wanted else (middle, enough)
    return cut(enough, val_loader)


def _relevance(guide: Magnitude) -> Tensor:
    """Relevance of all weights, in double precision, so that a threshold is met exactly."""
    return torch.cat([f.relevance().flatten().double().cpu() for f in guide.families.values()])


def _as_points(
    network: nn.Module, likelihood: Likelihood | None, exclude: Sequence[str] = ()
) -> tuple[SparseModel, Magnitude]:
    """Wrap a network for pruning; its priors are not asked for anything."""
    layers = {name: layer for name, layer in sparse_layers(network).items() if name not in exclude}
    complex_ones = {name: ComplexARD() for name, layer in layers.items() if parts_of(layer) == 2}
    chosen = likelihood if likelihood is not None else Categorical(num_data=1)
    model = SparseModel(network, ARD(), chosen, include=list(layers), priors=complex_ones)
    return model, Magnitude(model)


def _pruned(
    model: SparseModel, guide: Magnitude, example: Tensor, threshold: float, val_loader: Batches | None
) -> Pruned:
    model.remember(example)
    # a point has no deviation to round by
    return replace(prune(model, guide, threshold=threshold, example=example, val_loader=val_loader), sigma={})
