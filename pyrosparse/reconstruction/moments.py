"""Centred moments of a layer's inputs and outputs, gathered batch by batch in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.errors import DataError, NetworkError
from pyrosparse.nn import SelectLinear
from pyrosparse.reconstruction.watching import EMPTY, Inputs, batches_of, on_input, on_output, run_on, watched

__all__ = ["Moments", "check_layers", "input_moments", "joint_moments", "output_rows", "patches"]

# numbers of one piece of unfolded input, in float64: 32 MiB
_PIECE = 2**22
# of the largest output: room for matrix products in a short float format
_AGREEMENT = 1e-2
# relative to the squared mean: the variance that rounding gives to a column which does not vary
_ROUNDING = 1e-24


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
        """Cov X, shape ``(d, d)``; exactly 0 for columns that do not vary."""
        R = self._xx / self.count
        constant = self._constant
        R[constant] = 0.0
        R[:, constant] = 0.0
        return R

    @property
    def S(self) -> Tensor:
        """Cov(Y, X), shape ``(m, d)``; likewise."""
        S = self._yx / self.count
        S[:, self._constant] = 0.0
        return S

    @property
    def rank_bound(self) -> int:
        """How many columns vary: with no more rows than that, any Y is a linear map of X."""
        return self.mean_x.numel() - self._constant.numel()

    @property
    def _constant(self) -> Tensor:
        """Indices of columns whose variance is no more than rounding."""
        return (self._xx.diagonal() <= _ROUNDING * self.count * self.mean_x.square()).nonzero().flatten()

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
    per_example, per_line = prod(windows.shape[1:]), prod(windows.shape[2:])
    for examples in windows.split(max(1, _PIECE // per_example)):
        for piece in examples.split(max(1, _PIECE // per_line), 1):  # of more than one example there is one piece
            rows = piece.reshape(prod(piece.shape[: 1 + axes]), layer.groups, -1)
            yield tuple(rows.unbind(1))


def output_rows(y: Tensor, layer: nn.Module) -> Tensor:
    """A layer's output with one row an example and position, as :func:`patches` has them, shape ``(rows, m)``."""
    y = y if isinstance(layer, nn.Linear) else y.movedim(1, -1)
    return y.reshape(-1, y.shape[-1])


def check_layers(network: nn.Module, layers: Sequence[str], x: Tensor) -> None:
    """Refuse layers that give something else than W x + b: a hook or a forward of their own would be left out.

    :param x: a few examples.
    :raises NetworkError: by the name of the layer.
    """
    expected: dict[str, Tensor] = {}

    def multiply(name: str, layer: nn.Module, x: Tensor) -> None:
        assert isinstance(layer.weight, Tensor)
        weights = layer.weight.double().flatten(1).chunk(getattr(layer, "groups", 1))
        rows = [torch.cat([p.double() @ w.T for p, w in zip(ps, weights, strict=True)], 1) for ps in patches(layer, x)]
        bias = layer.bias.double() if isinstance(layer.bias, Tensor) else 0.0
        expected[name] = torch.cat(rows) + bias

    def compare(name: str, layer: nn.Module, y: Tensor) -> None:
        found = output_rows(y, layer).double()
        allowed = (_AGREEMENT + 8 * torch.finfo(y.dtype).eps) * found.abs().max()
        if bool((found - expected[name]).abs().max() > allowed):
            raise NetworkError(
                f"{name} ({type(layer).__name__}) gives something else than its weight times its input plus its bias, "
                "and cannot be reconstructed: it has a hook, or a forward of its own"
            )

    with watched(network) as handles:
        for name in layers:
            handles.append(on_input(network, name, multiply))
            handles.append(on_output(network, name, compare))
        run_on(network, x)


def input_moments(network: nn.Module, layers: Sequence[str], loader: Inputs) -> dict[str, tuple[Moments, ...]]:
    """Moments of the inputs of several layers from one pass over the data.

    :param network: run in evaluation mode; left as it is.
    :param layers: names of linear layers and convolutions.
    :param loader: yields x, or a pair or list that begins with it.
    :returns: layer → moments of its input, one for each group of a convolution.
    """
    found: dict[str, tuple[Moments, ...]] = {}

    def gather(name: str, module: nn.Module, x: Tensor) -> None:
        for pieces in patches(module, x):
            if name not in found:
                found[name] = tuple(Moments(p.shape[1], device=p.device) for p in pieces)
            for moments, piece in zip(found[name], pieces, strict=True):
                moments.update(piece)

    with watched(network) as handles:
        for name in layers:
            handles.append(on_input(network, name, gather))
        for x in batches_of(loader, network):
            run_on(network, x)
    _check(found, layers)
    return found


def joint_moments(original: nn.Module, network: nn.Module, layers: Sequence[str], loader: Inputs) -> dict[str, Moments]:
    """Moments of some layers' inputs in one network with their outputs in another, from one pass over the data.

    :param original: gives the targets Y; of the same layers.
    :param network: gives the inputs X; sees the same batches.
    :param layers: names of linear layers and convolutions that are not grouped.
    :returns: layer → joint moments.
    """
    found: dict[str, Moments] = {}
    seen: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}

    # copies: an activation that works in place would change what is kept before it is read
    def keep_input(name: str, module: nn.Module, x: Tensor) -> None:
        seen[name] = x.clone()

    def keep_output(name: str, module: nn.Module, y: Tensor) -> None:
        wanted[name] = y.clone()

    with watched(original, network) as handles:
        for name in layers:
            handles.append(on_input(network, name, keep_input))
            handles.append(on_output(original, name, keep_output))
        for x in batches_of(loader, network):
            run_on(original, x)
            run_on(network, x)
            for name in layers:
                layer = network.get_submodule(name)
                y = output_rows(wanted[name], layer)
                begin = 0
                for (piece,) in patches(layer, seen[name]):
                    if name not in found:
                        found[name] = Moments(piece.shape[1], y.shape[1], device=y.device)
                    found[name].update(piece, y[begin : begin + len(piece)])
                    begin += len(piece)
    _check(found, layers)
    return found


def _check(found: Mapping[str, tuple[Moments, ...] | Moments], layers: Sequence[str]) -> None:
    if layers and not found:
        raise DataError(EMPTY)
    for name, moments in found.items():
        for m in moments if isinstance(moments, tuple) else (moments,):
            if not bool(torch.isfinite(m._xx).all() & torch.isfinite(m._yx).all()):
                raise DataError(f"{name}: its inputs or outputs are NaN or infinite on these data: look for bad data")
