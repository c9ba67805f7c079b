"""What reconstruction is compared with: magnitude pruning with retraining, and low rank without data."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from pyrosparse.errors import ConfigError, NetworkError, PruneError
from pyrosparse.infer.check import check_data
from pyrosparse.infer.evaluate import Batches
from pyrosparse.infer.optimizer import adam
from pyrosparse.infer.train import descend
from pyrosparse.layers import axes, everything, over_parts, parts_of, sparse_layers
from pyrosparse.likelihoods import Categorical, Likelihood
from pyrosparse.pairs import squared_modulus
from pyrosparse.reconstruction.low_rank import factorise
from pyrosparse.reconstruction.path import search
from pyrosparse.reconstruction.report import ReconstructionReport, Row
from pyrosparse.reconstruction.sizes import index_bytes, network_bytes, own_bytes

__all__ = ["low_rank", "magnitude"]


def magnitude(
    network: nn.Module,
    loader: Batches,
    *,
    density: float,
    rounds: int = 5,
    epochs: int = 2,
    lr: float = 1e-3,
    likelihood: Likelihood | None = None,
    progress: bool = False,
) -> tuple[nn.Module, ReconstructionReport]:
    """Set the smallest weights to zero, train the others, and again (Han et al., 2015).

    After round k of n a share density^(k/n) of all weights is kept: those of the largest absolute value in units of
    their layer's root mean square, of complex ones those of the largest modulus. Biases and normalisations stay.

    :param network: left as it is.
    :param loader: yields ``(x, y)`` to train on.
    :param density: share of the weights of linear layers and convolutions that is kept at the end.
    :param rounds: how often weights are cut and the others trained.
    :param epochs: passes over the data in each round.
    :param lr: learning rate of Adam.
    :param likelihood: labels with logits when None; left as it is.
    :param progress: whether to show a bar.
    :returns: a network of the same shape with zeros, in evaluation mode, and the report. Its sizes are float32 bytes of
        what is not zero, with a bitmap or a list of places for each layer.
    """
    if not 0 < density <= 1:
        raise ConfigError(f"density is {density}: give the share of weights that stays, above 0 and at most 1")
    if rounds < 1 or epochs < 0:
        raise ConfigError(f"rounds is {rounds} and epochs {epochs}: give at least 1 and 0")
    small = deepcopy(network)
    weights = {name: layer.weight for name, layer in sparse_layers(small).items() if isinstance(layer.weight, Tensor)}
    if not weights:
        raise NetworkError("the network has no linear layer and no convolution: there is nothing to prune")
    model = deepcopy(likelihood) if likelihood is not None else Categorical(num_data=1)
    check_data(small, model, loader, device=next(small.parameters()).device)
    parts = {name: parts_of(small.get_submodule(name)) for name in weights}
    alive = {name: everything(small.get_submodule(name)) for name in weights}

    @torch.no_grad()
    def mask() -> None:
        for name, weight in weights.items():
            weight.mul_(over_parts(alive[name], weight))

    for k in range(1, rounds + 1):
        alive.update(_largest(weights, parts, density ** (k / rounds)))
        mask()
        descend(
            small,
            lambda x, y: -model.log_prob(small(x), y).mean(),
            adam([*small.named_parameters(), *model.named_parameters()], lr=lr),
            loader,
            epochs=epochs,
            after_step=mask,
            metric=model.metric,
            label=f"round {k}/{rounds}",
            progress=progress,
        )
    rows = [_row(name, network.get_submodule(name), alive[name]) for name in weights]
    others = network_bytes(network) / 1024 - sum(row.kib_before for row in rows)
    kib = others + sum(row.kib for row in rows)
    method = f"magnitude pruning to {100 * density:.3g} % in {rounds} rounds of {epochs} epochs"
    return small.eval(), ReconstructionReport(method, rows, network_bytes(network) / 1024, kib)


def low_rank(
    network: nn.Module, *, error: float | None = None, kib: float | None = None
) -> tuple[nn.Module, ReconstructionReport]:
    """Cut the singular values of each weight short, without a look at the data, where that saves bytes.

    :param network: left as it is.
    :param error: share of the squared weights of a layer that may be lost.
    :param kib: size of the network in KiB, met with the smallest common error.
    :returns: the network with two layers in the place of some, and the report.
    :raises ConfigError: unless exactly one of the two is given.
    :raises PruneError: for a size that is out of reach.
    """
    if (error is None) == (kib is None):
        raise ConfigError("give an error or a size in KiB, and not both")
    if kib is None:
        assert error is not None
        return factorise(network, None, error=error)
    limit = kib

    def at(share: float) -> tuple[nn.Module, ReconstructionReport]:
        return factorise(network, None, error=min(share, _MOST))

    found = search(at, lambda made: made[1].kib <= limit, smallest=True)
    if found is None:
        raise PruneError(f"{limit:g} KiB are out of reach: with rank 1 it is {at(1.0)[1].kib:.1f} KiB")
    return found


# of the squared weights; rank 1 is left
_MOST = 1 - 1e-9


@torch.no_grad()
def _largest(weights: dict[str, Tensor], parts: dict[str, int], share: float) -> dict[str, Tensor]:
    """Which weights are among the largest of all, each in units of its layer's root mean square."""
    sizes = {name: w.abs() if parts[name] == 1 else squared_modulus(w).sqrt() for name, w in weights.items()}
    relative = {name: size / size.square().mean().sqrt().clamp(min=1e-30) for name, size in sizes.items()}
    everything = torch.cat([r.flatten() for r in relative.values()])
    count = max(1, round(share * everything.numel()))
    least = everything.kthvalue(everything.numel() - count + 1).values
    return {name: r >= least for name, r in relative.items()}


def _row(name: str, layer: nn.Module, alive: Tensor) -> Row:
    outs, ins = axes(layer)
    used_out, used_in = (alive.movedim(axis, 0).flatten(1).any(1) for axis in (outs, ins))
    kept, total = int(alive.sum()), alive.numel()
    before = own_bytes(layer)
    after = before - 4 * parts_of(layer) * (total - kept) + index_bytes(kept, total)
    counts = (used_in.numel(), int(used_in.sum()), used_out.numel(), int(used_out.sum()))
    return Row(name, *counts, 0.0, 0.0, 0.0, float("nan"), before / 1024, after / 1024)
