"""The optimiser of a model and its guide: one fused Adam with a learning rate for each kind of parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["adam", "scale_learning_rates"]

_FUSED_DEVICES = ("cpu", "cuda")


def adam(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    lr_log_var: float | None = None,
    lr_scale: float | None = None,
) -> torch.optim.Adam:
    """Adam over named parameters, fused where torch has it.

    :param parameters: names and parameters; those of a module ``scale``, and those whose name ends with ``log_var`` or
        ``log_alpha``, get rates of their own.
    :param lr: learning rate of means, biases and all others.
    :param lr_log_var: learning rate of log variances; ``lr`` when None.
    :param lr_scale: learning rate of group scales and gates, their log variances too; ``lr`` when None.
    """
    trained = [(name, p) for name, p in parameters if p.requires_grad]
    kinds: dict[str, list[nn.Parameter]] = {"others": [], "log_var": [], "scale": []}
    for name, parameter in trained:
        spread = name.endswith(("log_var", "log_alpha"))
        of_scale = ".scale." in name and not name.startswith("model.")  # a layer may be called scale
        kind = "scale" if of_scale else "log_var" if spread else "others"
        kinds[kind].append(parameter)
    rates = {"others": lr, "log_var": lr_log_var, "scale": lr_scale}
    # the first group is that of the network's own parameters, also where there are none
    groups: list[dict[str, Any]] = [
        {"params": found, "lr": lr if (rate := rates[kind]) is None else rate}
        for kind, found in kinds.items()
        if found or kind == "others"
    ]
    fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for _, p in trained)
    optimizer = torch.optim.Adam(groups, lr=lr, fused=fused)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def scale_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times the one it began with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("base_lr", group["lr"]) * factor
