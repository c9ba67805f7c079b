"""Training what pruning has left."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace

import torch

from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.infer.optimizer import adam
from pyrosparse.infer.schedules import Schedule, linear_decay
from pyrosparse.infer.train import Best, descend
from pyrosparse.likelihoods import Categorical, Likelihood
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
    start.

    :param pruned: left as it is.
    :param loader: yields ``(x, y)``.
    :param epochs: passes over the data.
    :param lr: learning rate of Adam.
    :param lr_schedule: factor on it by the progress of the run; linear to 0 when None.
    :param likelihood: labels with logits when None; left as it is.
    :param val_loader: validation data.
    :param progress: whether to show a bar.
    :returns: the same with trained weights.
    """
    network = deepcopy(pruned.network)
    # a likelihood may have parameters of its own: the caller's stay as they are
    model = deepcopy(likelihood) if likelihood is not None else Categorical(num_data=1)
    weights = {site: network.get_parameter(site) for site in pruned.masks}
    alive = {site: weight.detach() != 0 for site, weight in weights.items()}
    optimizer = adam([*network.named_parameters(), *model.named_parameters()], lr=lr)
    best = Best()

    @torch.no_grad()
    def mask() -> None:
        for site, weight in weights.items():
            weight.mul_(alive[site])

    def validate() -> float | None:
        if val_loader is None:
            return None
        error = evaluate(network, val_loader, likelihood=model).error
        best.offer(error, network.state_dict())
        return error

    validate()
    descend(
        network,
        lambda x, y: -model.log_prob(network(x), y).mean(),
        optimizer,
        loader,
        epochs=epochs,
        lr_schedule=lr_schedule or linear_decay(hold=0.0),
        after_step=mask,
        validate=validate,
        label="fine-tune",
        progress=progress,
    )
    if best.state is not None:
        network.load_state_dict(best.state)
    report = copy(pruned.report)
    report.error = best.error if best.state is not None else None
    return replace(pruned, network=network.eval(), report=report)
