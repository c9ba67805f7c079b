"""Training what pruning has left."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace

import torch

from pyrosparse.infer.check import check_data, check_validation
from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.infer.optimizer import adam
from pyrosparse.infer.schedules import Schedule, linear_decay
from pyrosparse.infer.train import Best, descend
from pyrosparse.layers import over_parts
from pyrosparse.likelihoods import Likelihood
from pyrosparse.pruning.pruned import Pruned

__all__ = ["fine_tune"]


def fine_tune(
    pruned: Pruned,
    loader: Batches,
    *,
    epochs: int,
    lr: float = 1e-4,
    lr_schedule: Schedule | None = None,
    likelihood: Likelihood | None = None,
    val_loader: Batches | None = None,
    progress: bool = True,
) -> Pruned:
    """Train the weights that were kept by maximum likelihood; what is 0 stays 0.

    Small multi-layer perceptrons over-fit when they are fine-tuned for long without the noise of the posterior: a
    few epochs at a small rate are enough. With validation data the best epoch is returned, which may be the
    start. Convolutions that were cut to a hundredth bear long fine-tuning at a rate of 1e-2, and gain most where the
    dense network has a say in their labels: ``fine_tune(pruned, loader.soften(dense, weight=0.5, temperature=4), …)``.
    Of many epochs and few validation data the best one is a lucky one: without ``val_loader`` the last is returned.

    :param pruned: left as it is.
    :param loader: yields ``(x, y)``.
    :param epochs: passes over the data.
    :param lr: learning rate of Adam.
    :param lr_schedule: factor on it by the progress of the run; linear to 0 when None.
    :param likelihood: ``pruned.likelihood`` when None, or else labels with logits; left as it is.
    :param val_loader: validation data.
    :param progress: whether to show a bar.
    :returns: the same with trained weights, and with the likelihood as it was trained along.
    :raises DataError: if the data do not fit the network or the likelihood; nothing is trained then.
    """
    network = deepcopy(pruned.network)
    # it may have parameters of its own
    model = pruned.chosen_likelihood(likelihood)
    device = next(network.parameters()).device
    check_data(network, model, loader, device=device)
    if val_loader is not None:
        check_validation(network, model, val_loader, device=device)
    weights = {site: network.get_parameter(site) for site in pruned.masks}
    alive = {site: over_parts(mask, weights[site]) for site, mask in pruned.alive().items()}
    optimizer = adam([*network.named_parameters(), *model.named_parameters()], lr=lr)

    def error() -> float:
        assert val_loader is not None
        return evaluate(network, val_loader, likelihood=model).error

    best = Best(None if val_loader is None else error, network, model)

    @torch.no_grad()
    def mask() -> None:
        for site, weight in weights.items():
            weight.mul_(alive[site])

    best.look()
    descend(
        network,
        lambda x, y: -model.log_prob(network(x), y).mean(),
        optimizer,
        loader,
        epochs=epochs,
        lr_schedule=lr_schedule or linear_decay(hold=0.0),
        after_step=mask,
        validate=best.look,
        metric=model.metric,
        label="fine-tune",
        progress=progress,
    )
    best.restore()
    report = copy(pruned.report)
    report.error = best.error
    return replace(pruned, network=network.eval(), report=report, likelihood=model)
