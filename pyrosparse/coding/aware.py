"""A quantisation-aware ending: the last epochs are trained with the weights as the file will have them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyrosparse.arguments import check_numbers
from pyrosparse.coding.precision import layer_steps
from pyrosparse.errors import ConfigError, PruneError
from pyrosparse.infer.check import check_data, check_validation
from pyrosparse.infer.evaluate import Batches, evaluate, evaluate_function
from pyrosparse.infer.schedules import Schedule, linear_decay
from pyrosparse.infer.train import Best, descend
from pyrosparse.layers import over_parts
from pyrosparse.likelihoods import Likelihood
from pyrosparse.pruning.pruned import Pruned

__all__ = ["coarsest_ending", "quantise_aware"]


def quantise_aware(
    pruned: Pruned,
    loader: Batches,
    *,
    c: float,
    epochs: int,
    lr: float = 5e-3,
    lr_schedule: Schedule | None = None,
    likelihood: Likelihood | None = None,
    val_loader: Batches | None = None,
    progress: bool = True,
) -> Pruned:
    r"""Train the kept weights through their own rounding, with the masks fixed.

    The network runs with :math:`\Delta\,\mathrm{round}(w/\Delta)`, where :math:`\Delta` is the layer's
    step ``c·σ``, and the gradient passes the rounding as if it were not there (straight-through: Bengio,
    Léonard and Courville, 2013). Weights that round to 0 may come back.

    :param pruned: with posterior standard deviations; left as it is.
    :param loader: yields ``(x, y)``; soft labels keep small networks from over-fitting here.
    :param c: step of each layer in units of its median posterior standard deviation.
    :param epochs: passes over the data.
    :param lr: learning rate of Adam in units of each layer's step.
    :param lr_schedule: factor on it by the progress of the run; linear to 0 when None.
    :param likelihood: ``pruned.likelihood`` when None, or else labels with logits; left as it is, and not trained.
    :param val_loader: validation data: with it the best epoch is returned, which may be the start.
    :param progress: whether to show a bar.
    :returns: the same with trained weights that are multiples of the steps: save it with the same ``c``.
    :raises DataError: if the data do not fit the network or the likelihood; nothing is trained then.
    """
    check_numbers("quantise_aware", c=c)
    if not c > 0:
        raise ConfigError(f"quantise_aware: c is {c}; give a positive number of posterior standard deviations")
    network = deepcopy(pruned.network)
    # a rate in units of quantisation steps means nothing to a likelihood's own parameters: they stay
    model = pruned.chosen_likelihood(likelihood).requires_grad_(False)
    device = next(network.parameters()).device
    check_data(network, model, loader, device=device)
    if val_loader is not None:
        check_validation(network, model, val_loader, device=device)
    steps = layer_steps({k: v.detach().cpu() for k, v in network.state_dict().items()}, pruned.sigma, c)
    weights = {site: network.get_parameter(site) for site in steps}
    alive = {site: over_parts(mask, weights[site]) for site, mask in pruned.alive().items() if site in weights}
    optimizer = torch.optim.Adam(_groups(network, steps, lr))

    def run(x: Tensor) -> Tensor:
        rounded = {s: _round(w * alive[s], steps[s]) for s, w in weights.items()}
        return functional_call(network, rounded, (x,))

    def error() -> float:
        assert val_loader is not None
        network.eval()
        return evaluate_function(run, val_loader, model, device).error

    best = Best(None if val_loader is None else error, network)
    best.look()
    descend(
        network,
        lambda x, y: -model.log_prob(run(x), y).mean(),
        optimizer,
        loader,
        epochs=epochs,
        lr_schedule=lr_schedule or linear_decay(hold=0.0),
        validate=best.look,
        metric=model.metric,
        label="quantise",
        progress=progress,
    )
    best.restore()
    with torch.no_grad():
        for site, weight in weights.items():
            weight.copy_(_round(weight * alive[site], steps[site]))
    report = copy(pruned.report)
    report.error = best.error
    kept = pruned.likelihood if likelihood is None else deepcopy(likelihood)
    return replace(pruned, network=network.eval(), report=report, likelihood=kept)


def coarsest_ending(
    pruned: Pruned,
    loader: Batches,
    *,
    grid: Sequence[float],
    epochs: int,
    val_loader: Batches,
    tolerance: float = 0.001,
    lr: float = 5e-3,
    likelihood: Likelihood | None = None,
    progress: bool = True,
) -> tuple[Pruned, float]:
    """End with the coarsest steps that validation data allow, see :func:`quantise_aware`.

    :param pruned: with posterior standard deviations; left as it is.
    :param loader: yields ``(x, y)``.
    :param grid: values of ``c``, each of which gets an ending of its own from the same start.
    :param epochs: passes over the data for each of them.
    :param val_loader: never the test data.
    :param tolerance: how much the validation error may exceed that of ``pruned`` (0.001 is 0.1 points).
    :param lr: learning rate in units of each layer's step.
    :param likelihood: see :func:`quantise_aware`.
    :param progress: whether to show a bar.
    :returns: the ending with the largest ``c`` whose error is within the tolerance, and ``c``; if there is none, the
        one with the lowest error.
    :raises ConfigError: for an empty grid.
    :raises PruneError: for a tolerance that is negative or NaN.
    """
    if not grid:
        raise ConfigError("coarsest_ending: the grid is empty; give at least one value of c")
    for c in grid:
        check_numbers("coarsest_ending", c=c, tolerance=tolerance)
    if not tolerance >= 0:
        raise PruneError(f"the tolerance must not be negative or NaN; got {tolerance}")
    model = pruned.chosen_likelihood(likelihood)
    bound = evaluate(pruned.network, val_loader, likelihood=model).error + tolerance
    best: tuple[Pruned, float] | None = None
    lowest = float("inf")
    for c in sorted(grid, reverse=True):
        ended = quantise_aware(
            pruned, loader, c=c, epochs=epochs, lr=lr, likelihood=likelihood, val_loader=val_loader, progress=progress
        )
        error = ended.report.error
        assert error is not None
        if error <= bound:
            return ended, c
        if best is None or error < lowest:
            best, lowest = (ended, c), error
    assert best is not None
    return best


def _round(weight: Tensor, step: float) -> Tensor:
    """Nearest multiple of the step; its gradient is that of the identity."""
    return weight + (torch.round(weight.detach() / step) * step - weight.detach())


def _groups(network: nn.Module, steps: dict[str, float], lr: float) -> list[dict[str, object]]:
    """One group a parameter: each moves in units of its layer's step."""
    smallest = min(steps.values())
    groups: list[dict[str, object]] = []
    for name, parameter in network.named_parameters():
        layer = f"{name.rpartition('.')[0]}.weight"
        rate = lr * steps.get(name, steps.get(layer, smallest))
        groups.append({"params": [parameter], "lr": rate, "base_lr": rate})
    return groups
