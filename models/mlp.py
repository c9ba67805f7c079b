"""Multi-layer perceptrons."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral

from torch import nn

from pyrosparse.errors import ConfigError

__all__ = ["digits_mlp", "mlp"]


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """ReLU network with layers ``fc1, fc2, …``: inputs ``(B, ...)`` with ``sizes[0]`` numbers to ``(B, sizes[-1])``.

    :param sizes: units of the input, of each hidden layer and of the output; at least two numbers.
    :raises ConfigError: for fewer, or for one that is not a positive whole number.
    """
    if len(sizes) < 2:
        raise ConfigError(f"mlp: sizes are {tuple(sizes)}; give those of the input and of the output at least")
    if not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ConfigError(f"mlp: sizes are {tuple(sizes)}; give whole numbers, at least 1 each")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False), start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out)
        if i < len(sizes) - 1:
            layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


def digits_mlp(num_classes: int = 10) -> nn.Sequential:
    """64-300-100-10 for the 8×8 digits that ship with scikit-learn: ``(B, 1, 8, 8)`` or ``(B, 64)`` to logits."""
    return mlp((64, 300, 100, num_classes))
