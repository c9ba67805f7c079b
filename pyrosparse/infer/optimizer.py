"""The optimiser of a model and its guide: one fused Adam with a learning rate for each kind of parameter."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["adam", "scale_learning_rates"]

_FUSED_DEVICES = ("cpu", "cuda")


def adam(
    parameters: Iterable[tuple[str, nn.Parameter]], *, lr: float, lr_log_var: float | None = None
) -> torch.optim.Adam:
    """Adam over named parameters, fused where torch has it.

    :param parameters: names and parameters; those whose name ends with ``log_var`` get a rate of their own.
    :param lr: learning rate of means, biases and all others.
    :param lr_log_var: learning rate of log variances; ``lr`` when None.
    """
    trained = [(name, p) for name, p in parameters if p.requires_grad]
    spread = [p for name, p in trained if name.endswith("log_var")]
    others = [p for name, p in trained if not name.endswith("log_var")]
    groups = [{"params": others, "lr": lr}]
    if spread:
        groups.append({"params": spread, "lr": lr if lr_log_var is None else lr_log_var})
    fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for _, p in trained)
    optimizer = torch.optim.Adam(groups, lr=lr, fused=fused)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def scale_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times the one it began with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("base_lr", group["lr"]) * factor
