"""Centred moments of a layer's inputs and outputs, gathered batch by batch in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pyrosparse.errors import DataError
from pyrosparse.infer.evaluate import Batches
from pyrosparse.nn import SelectLinear

__all__ = ["Moments", "input_moments", "joint_moments", "output_rows", "patches"]

# numbers of one piece of unfolded input, in float64: 32 MiB
_PIECE = 2**22


class Moments:
    """Mean and scatter of rows (x, y), merged exactly (Chan, Golub & LeVeque, 1983).

    :param inputs: d, size of x.
    :param outputs: m, size of y; 0 where only x is looked at.
    """

    def __init__(self, inputs: int, outputs: int = 0, *, device: torch.device | str | None = None) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.count = 0
        self.mean_x, self.mean_y = zeros(inputs), zeros(outputs)
        self._xx, self._yx, self._yy = zeros(inputs, inputs), zeros(outputs, inputs), zeros(outputs)

    @property
    def R(self) -> Tensor:
        """Cov X, shape ``(d, d)``."""
        return self._xx / self.count

    @property
    def S(self) -> Tensor:
        """Cov(Y, X), shape ``(m, d)``."""
        return self._yx / self.count

    @property
    def variance_y(self) -> Tensor:
        """Variance of each output, shape ``(m,)``."""
        return self._yy / self.count

    @property
    def c(self) -> Tensor:
        """E‖Y − E Y‖², the trace of Cov Y."""
        return self.variance_y.sum()

    def through(self, layer: nn.Module) -> Moments:
        """Joint moments of the inputs with what a layer gives for them: S = W R, E[Y] = W E[X] + b.

        :param layer: linear, or a convolution that is not grouped.
        """
        assert isinstance(layer.weight, Tensor)
        W = layer.weight.detach().flatten(1).double()
        joint = Moments.__new__(Moments)
        joint.count, joint.mean_x, joint._xx = self.count, self.mean_x, self._xx
        joint._yx = W @ self._xx
        joint._yy = (joint._yx * W).sum(1)
        joint.mean_y = W @ self.mean_x
        if isinstance(layer.bias, Tensor):
            joint.mean_y = joint.mean_y + layer.bias.detach().double()
        return joint

    def update(self, x: Tensor, y: Tensor | None = None) -> None:
        """Take rows in.

        :param x: shape ``(n, d)``.
        :param y: shape ``(n, m)``.
        """
        if x.shape[0] == 0:
            return
        batch = Moments.__new__(Moments)
        x = x.double()
        y = x[:, :0] if y is None else y.double()
        batch.count, batch.mean_x, batch.mean_y = x.shape[0], x.mean(0), y.mean(0)
        x, y = x - batch.mean_x, y - batch.mean_y
        batch._xx, batch._yx, batch._yy = x.T @ x, y.T @ x, y.square().sum(0)
        self.merge(batch)

    def merge(self, other: Moments) -> None:
        """Take in what others have gathered: the result is that of all rows in one."""
        if other.count == 0:
            return
        total = self.count + other.count
        dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        share = self.count * other.count / total
        self._xx += other._xx + share * torch.outer(dx, dx)
        self._yx += other._yx + share * torch.outer(dy, dx)
        self._yy += other._yy + share * dy.square()
        self.mean_x += dx * (other.count / total)
        self.mean_y += dy * (other.count / total)
        self.count = total


def patches(layer: nn.Module, x: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """What the rows of a layer's weight are multiplied with, piece by piece.

    :param layer: linear, or a convolution of any kernel, stride, padding, dilation and number of groups.
    :param x: its input.
    :yields: one tensor for each group of the convolution (one for all other layers), shape ``(rows, d)``: a row an
        example and output position, a column a number of ``weight.flatten(1)``.
    """
    if isinstance(layer, nn.Linear):
        chosen = x.index_select(-1, layer.index) if isinstance(layer, SelectLinear) else x
        yield (chosen.reshape(-1, chosen.shape[-1]),)
        return
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        padded = padded.unfold(2 + axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    axes = len(layer.kernel_size)
    positions = range(2, 2 + axes)
    taps = range(2 + axes, 2 + 2 * axes)
    windows = padded.permute(0, *positions, 1, *taps)
    per_example = prod(windows.shape[1:])
    for piece in windows.split(max(1, _PIECE // per_example)):
        rows = piece.reshape(prod(piece.shape[: 1 + axes]), layer.groups, -1)
        yield tuple(rows.unbind(1))


def output_rows(y: Tensor, layer: nn.Module) -> Tensor:
    """A layer's output with one row an example and position, as :func:`patches` has them, shape ``(rows, m)``."""
    y = y if isinstance(layer, nn.Linear) else y.movedim(1, -1)
    return y.reshape(-1, y.shape[-1])


def input_moments(network: nn.Module, layers: Sequence[str], loader: Batches) -> dict[str, tuple[Moments, ...]]:
    """Moments of the inputs of several layers from one pass over the data.

    :param network: run in evaluation mode; left as it is.
    :param layers: names of linear layers and convolutions.
    :param loader: yields ``(x, y)``; the targets are not looked at.
    :returns: layer → moments of its input, one for each group of a convolution.
    """
    found: dict[str, tuple[Moments, ...]] = {}

    def gather(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            for pieces in patches(module, args[0]):
                if name not in found:
                    found[name] = tuple(Moments(p.shape[1], device=p.device) for p in pieces)
                for moments, piece in zip(found[name], pieces, strict=True):
                    moments.update(piece)

        return hook

    handles = [network.get_submodule(name).register_forward_pre_hook(gather(name)) for name in layers]
    with _watched([network], handles):
        for x in _inputs(loader, network):
            network(x)
    _check(found)
    return found


def joint_moments(
    original: nn.Module, network: nn.Module, layers: Sequence[str], loader: Batches
) -> dict[str, Moments]:
    """Moments of some layers' inputs in one network with their outputs in another, from one pass over the data.

    :param original: gives the targets Y; of the same layers.
    :param network: gives the inputs X; sees the same batches.
    :param layers: names of linear layers and convolutions that are not grouped.
    :returns: layer → joint moments.
    """
    found: dict[str, Moments] = {}
    seen: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}

    def keep_input(name: str) -> Callable[..., None]:
        return lambda module, args: seen.__setitem__(name, args[0].clone())

    def keep_output(name: str) -> Callable[..., None]:
        return lambda module, args, output: wanted.__setitem__(name, output.clone())

    # copies: an activation that works in place would change what is kept before it is read
    handles = [network.get_submodule(n).register_forward_pre_hook(keep_input(n)) for n in layers]
    handles += [original.get_submodule(n).register_forward_hook(keep_output(n)) for n in layers]
    with _watched([original, network], handles):
        for x in _inputs(loader, network):
            original(x)
            network(x)
            for name in layers:
                layer = network.get_submodule(name)
                y = output_rows(wanted[name], layer)
                begin = 0
                for (piece,) in patches(layer, seen[name]):
                    if name not in found:
                        found[name] = Moments(piece.shape[1], y.shape[1], device=y.device)
                    found[name].update(piece, y[begin : begin + len(piece)])
                    begin += len(piece)
    _check(found)
    return found


@contextmanager
def _watched(networks: Iterable[nn.Module], handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Evaluation mode without gradients; hooks and modes are taken back at the end."""
    modes = {module: module.training for network in networks for module in network.modules()}
    for module in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training


def _inputs(loader: Batches, network: nn.Module) -> Iterator[Tensor]:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    for x, _ in loader:
        yield x.to(device)


def _check(found: dict[str, tuple[Moments, ...]] | dict[str, Moments]) -> None:
    if not found:
        raise DataError("the loader yields no example: there are no moments to reconstruct from")
    for name, moments in found.items():
        for m in moments if isinstance(moments, tuple) else (moments,):
            if not bool(torch.isfinite(m._xx).all() & torch.isfinite(m._yx).all()):
                raise DataError(f"{name}: its inputs or outputs are NaN or infinite on these data: look for bad data")
