"""Ordinary training, for the network that a posterior starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sized
from copy import deepcopy

import torch
from torch import Tensor, nn

from pyrosparse.errors import FitError
from pyrosparse.infer.check import check_data, check_validation
from pyrosparse.infer.evaluate import Batches, evaluate, written
from pyrosparse.infer.layout import layout_of
from pyrosparse.infer.optimizer import adam, scale_learning_rates
from pyrosparse.infer.progress import Bar
from pyrosparse.infer.schedules import Schedule
from pyrosparse.likelihoods import Categorical, Likelihood

__all__ = ["Best", "descend", "steps_per_epoch", "train"]


def train(
    network: nn.Module,
    loader: Batches,
    *,
    epochs: int,
    lr: float = 1e-3,
    lr_schedule: Schedule | None = None,
    weight_decay: float = 0.0,
    likelihood: Likelihood | None = None,
    val_loader: Batches | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train a copy of a network by maximum likelihood with Adam.

    :param network: left as it is.
    :param loader: yields ``(x, y)``; ``y`` may be soft labels.
    :param epochs: passes over the data.
    :param lr: learning rate.
    :param lr_schedule: factor on ``lr`` by the progress of the run; constant when None.
    :param weight_decay: ½·weight_decay·‖θ‖² is added to the loss of an example.
    :param likelihood: labels with logits when None; left as it is, what it learns is thrown away.
    :param val_loader: its error is shown in the bar after each epoch.
    :param progress: whether to show a bar.
    :returns: the trained copy, in evaluation mode.
    :raises FitError: if the loss becomes NaN or infinite.
    :raises DataError: if the data do not fit the network or the likelihood; nothing is trained then.
    """
    trained = deepcopy(network)
    model = deepcopy(likelihood) if likelihood is not None else Categorical(num_data=1)
    steps_per_epoch(loader)
    device = next(trained.parameters()).device
    check_data(trained, model, loader, device=device)
    if val_loader is not None:
        check_validation(trained, model, val_loader, device=device)
    optimizer = adam([*trained.named_parameters(), *model.named_parameters()], lr=lr)
    for group in optimizer.param_groups:
        group["weight_decay"] = weight_decay

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return -model.log_prob(trained(x), y).mean()

    def validate() -> float | None:
        return None if val_loader is None else evaluate(trained, val_loader, likelihood=model).error

    descend(
        trained,
        loss,
        optimizer,
        loader,
        epochs=epochs,
        lr_schedule=lr_schedule,
        validate=validate,
        metric=model.metric,
        label="train",
        progress=progress,
    )
    return trained.eval()


def descend(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    loader: Batches,
    *,
    epochs: int,
    lr_schedule: Schedule | None = None,
    after_step: Callable[[], None] | None = None,
    validate: Callable[[], float | None] = lambda: None,
    metric: str = "error",
    label: str,
    progress: bool,
) -> None:
    """Descend on a loss, in place: the loop that training and fine-tuning share.

    :param validate: gives the validation error after each epoch, for the bar.
    :param metric: what that error is.
    """
    if epochs < 1:
        return
    device = next(network.parameters()).device
    per_epoch = steps_per_epoch(loader)
    steps = epochs * per_epoch
    step = 0
    layout = None
    value = torch.zeros(())
    with Bar(label, steps, show=progress) as bar:
        for epoch in range(epochs):
            network.train()
            for x, y in loader:
                if lr_schedule is not None:
                    scale_learning_rates(optimizer, lr_schedule(step / steps))
                x, y = x.to(device), y.to(device)  # noqa: PLW2901
                layout = layout or layout_of(network, x[:2])
                value = loss(layout(x), y)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                optimizer.step()
                if after_step is not None:
                    after_step()
                step += 1
                if bar.due:
                    bar.advance(epoch=f"{epoch + 1}/{epochs}", loss=_finite(float(value.detach()), label, step))
                else:
                    bar.advance()
            if step == 0:
                raise FitError(f"{label}: the loader yields no batch: give it data")
            _finite(float(value.detach()), label, step)
            error = validate()
            if error is not None:
                bar.annotate(val=written(error, metric))
    optimizer.zero_grad(set_to_none=True)  # what is handed back carries no gradients


def _finite(loss: float, label: str, step: int) -> float:
    if not math.isfinite(loss):
        raise FitError(f"{label}: the loss is {loss} at step {step}: lower the learning rate, or look for bad data")
    return loss


def steps_per_epoch(loader: Iterable[object]) -> int:
    """Count the batches of one pass.

    :raises FitError: for a loader without a length, or without a batch.
    """
    if not isinstance(loader, Sized):
        raise FitError("the loader has no length: give a TensorLoader or a torch DataLoader over a sized data set")
    if len(loader) == 0:
        raise FitError("the loader yields no batch: give it data, or a smaller batch size with drop_last")
    return len(loader)


class Best:
    """Looks at validation data after each epoch and remembers the best state of what is trained.

    :param measure: gives the validation error of now; None when there are no such data.
    :param modules: their states are remembered.
    """

    def __init__(self, measure: Callable[[], float] | None, *modules: nn.Module) -> None:
        self.measure = measure
        self.modules = modules
        self.error: float | None = None
        self._states: list[dict[str, Tensor]] = []

    def look(self) -> float | None:
        """Measure, and keep a copy of the states if the error is lower than any before."""
        if self.measure is None:
            return None
        error = self.measure()
        if error < (math.inf if self.error is None else self.error):
            self.error = error
            self._states = [
                {name: value.detach().clone() for name, value in module.state_dict().items()} for module in self.modules
            ]
        return error

    def restore(self) -> None:
        """Give the modules their best states back; without validation data they stay as they are."""
        for module, state in zip(self.modules, self._states, strict=False):
            module.load_state_dict(state)
