"""Running networks over data while looking at what their layers read and give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pyrosparse.errors import DataError

__all__ = ["EMPTY", "Inputs", "Look", "batches_of", "first_inputs", "on_input", "on_output", "run_on", "watched"]

Inputs = Iterable[Tensor | Sequence[Tensor]]
"""Batches of inputs, alone or as the first of what each yields: targets are not looked at."""

Look = Callable[[str, nn.Module, Tensor], None]
"""Called with a layer's name, the layer, and what it reads or gives."""

EMPTY = "the loader yields no example: there are no moments to reconstruct from"


def on_input(network: nn.Module, name: str, look: Look) -> RemovableHandle:
    """Show each input of a layer, with the layer and its name, before the layer is called."""

    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        look(name, module, args[0] if args else kwargs["input"])

    return network.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)


def on_output(network: nn.Module, name: str, look: Look) -> RemovableHandle:
    """Show each output of a layer, likewise."""
    return network.get_submodule(name).register_forward_hook(lambda module, _, output: look(name, module, output))


@contextmanager
def watched(*networks: nn.Module) -> Iterator[list[RemovableHandle]]:
    """Evaluation mode without gradients; modes are given back at the end, and hooks in the list are taken away."""
    modes = {module: module.training for network in networks for module in network.modules()}
    handles: list[RemovableHandle] = []
    try:
        for module in modes:
            module.training = False
        with torch.no_grad():
            yield handles
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training


def first_inputs(loader: Inputs, network: nn.Module) -> Tensor:
    """First batch of inputs that is not empty, on the network's device.

    :raises DataError: where there is none, and for a loader that can be gone through only once.
    """
    if isinstance(loader, Iterator):
        raise DataError("the loader can be gone through only once: give a DataLoader, a TensorLoader or a list")
    for x in batches_of(loader, network):
        return x
    raise DataError(EMPTY)


def batches_of(loader: Inputs, network: nn.Module) -> Iterator[Tensor]:
    """Inputs of every batch that is not empty, on the network's device."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    for batch in loader:
        x = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(x, Tensor):
            raise DataError(f"the loader must yield inputs, or pairs (x, y), as tensors, not {type(x).__name__}")
        if len(x):
            yield x.to(device)


def run_on(network: nn.Module, x: Tensor) -> None:
    """Run a network for what is seen on the way.

    :raises DataError: for inputs that it cannot take.
    """
    try:
        network(x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DataError(
            f"the network cannot take inputs of shape {tuple(x.shape)} and type {x.dtype}: {error}"
        ) from error
