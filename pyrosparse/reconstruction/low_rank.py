"""Two thin layers in place of one: U (V x) of rank r instead of M x, where that saves bytes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from pyrosparse.errors import ConfigError
from pyrosparse.nn import SelectLinear
from pyrosparse.reconstruction.moments import Moments, input_moments
from pyrosparse.reconstruction.report import ReconstructionReport, Row
from pyrosparse.reconstruction.sizes import network_bytes, own_bytes
from pyrosparse.reconstruction.watching import Inputs

__all__ = ["factorise", "low_rank_map", "smallest_rank"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def low_rank_map(M: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Directions in which a map can be cut short with the least error on its inputs.

    The A of rank r that minimises E‖M X − A X‖² is U_r U_rᵀ M, where U_r are the leading eigenvectors of M R Mᵀ
    (reduced-rank regression); its error is the sum of the other eigenvalues. R = I gives the truncated singular
    value decomposition.

    :param M: shape ``(m, d)``.
    :param R: Cov X, shape ``(d, d)``.
    :returns: U, shape ``(m, m)``, and the eigenvalues, shape ``(m,)``, both from the largest on.
    """
    values, U = torch.linalg.eigh(M @ R @ M.T)
    return U.flip(1), values.flip(0).clamp(min=0)


def smallest_rank(values: Tensor, error: float) -> int:
    """Smallest rank at which the eigenvalues that are left out are within ``error`` of the sum of all."""
    left_out = values.flip(0).cumsum(0).flip(0)  # of rank 0, 1, …, m − 1
    return max(1, int((left_out > error * values.sum()).sum()))


def factorise(
    network: nn.Module,
    loader: Inputs | None,
    *,
    error: float,
    report: ReconstructionReport | None = None,
) -> tuple[nn.Module, ReconstructionReport]:
    """Factorise each layer whose factors are smaller: r (d_out + d_in) numbers against d_out · d_in.

    A linear layer becomes two, a convolution one with r outputs and one with kernels of size 1.

    :param network: left as it is.
    :param loader: yields x or ``(x, y)``, for the covariance of each layer's inputs; None for a factorisation that
        knows nothing of the data: the truncated singular value decomposition.
    :param error: E‖M X − A X‖² / E‖M X‖² that a layer may have, or that of the weights without data.
    :param report: of an earlier stage, to go on with.
    :returns: the network with an ``nn.Sequential`` of two layers in the place of some, and the report.
    """
    if not 0 <= error < 1:
        raise ConfigError(f"the error of a factorisation is {error}: give a number from 0 up, below 1")
    small = deepcopy(network).eval()
    names = [n for n, m in small.named_modules() if isinstance(m, _LAYERS) and getattr(m, "groups", 1) == 1]
    moments = {} if loader is None else input_moments(small, names, loader)
    before = {row.layer: row for row in report.rows} if report else {}
    rows: list[Row] = []
    for name in names:
        layer = small.get_submodule(name)
        rank, rest = _split(small, name, layer, moments[name][0] if name in moments else None, error)
        row = before.get(name) or _untouched(name, layer)
        kib = own_bytes(small.get_submodule(name)) / 1024
        # Y − A X = (Y − M X) + (M − A) X, uncorrelated after least squares; the second part is relative to E‖M X‖²
        rows.append(replace(row, rank=rank, kib=kib, error=row.error + (1.0 - row.error) * rest))
    rows += [row for name, row in before.items() if name not in names]
    if report is None:
        method = "low rank of the weights alone" if loader is None else "low rank"
        return small, ReconstructionReport(method, rows, network_bytes(network) / 1024, network_bytes(small) / 1024)
    order = list(before)
    rows.sort(key=lambda row: order.index(row.layer))
    kib, notes = network_bytes(small) / 1024, list(report.notes)
    return small, replace(report, rows=rows, kib=kib, notes=notes, method=f"{report.method}, low rank")


@torch.no_grad()
def _split(
    network: nn.Module, name: str, layer: nn.Module, moments: Moments | None, error: float
) -> tuple[int | None, float]:
    """Put two factors in a layer's place if they are smaller; rank (None where it stays) and relative error."""
    assert isinstance(layer.weight, Tensor)
    M = layer.weight.detach().flatten(1).double()
    R = torch.eye(M.shape[1]).to(M) if moments is None else moments.R
    U, values = low_rank_map(M, R)
    r = smallest_rank(values, error)
    if r * sum(M.shape) + (0 if isinstance(layer.bias, Tensor) else len(M)) >= M.numel():
        return None, 0.0
    U = U[:, :r]
    V = U.T @ M
    bias = M.new_zeros(len(M))
    if isinstance(layer.bias, Tensor):
        bias += layer.bias.double()
    if moments is not None:
        bias += (M - U @ V) @ moments.mean_x
    inner, outer = _factors(layer, r)
    for parameter, value in ((inner.weight, V), (outer.weight, U), (outer.bias, bias)):
        assert isinstance(parameter, Tensor)
        parameter.copy_(value.reshape(parameter.shape))
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Sequential(inner, outer).eval())
    return r, float(values[r:].sum() / values.sum().clamp(min=1e-300))


def _factors(layer: nn.Module, r: int) -> tuple[nn.Module, nn.Module]:
    """Two layers that stand for one, the first without a bias."""
    with torch.random.fork_rng(devices=[]):  # their first weights are random, and thrown away
        pair = _linear_factors(layer, r) if isinstance(layer, nn.Linear) else _convolutions(layer, r)
    assert isinstance(layer.weight, Tensor)
    first, second = (part.to(device=layer.weight.device, dtype=layer.weight.dtype) for part in pair)
    return first, second


def _linear_factors(layer: nn.Linear, r: int) -> tuple[nn.Module, nn.Module]:
    if isinstance(layer, SelectLinear):
        inner: nn.Linear = SelectLinear(layer.index.cpu(), layer.original_features, r, False)
    else:
        inner = nn.Linear(layer.in_features, r, bias=False)
    return inner, nn.Linear(r, layer.out_features)


def _convolutions(layer: nn.Module, r: int) -> tuple[nn.Module, nn.Module]:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    kind: type[nn.Module] = type(layer)
    options = {k: getattr(layer, k) for k in ("stride", "padding", "dilation", "padding_mode")}
    inner = kind(layer.in_channels, r, layer.kernel_size, bias=False, **options)
    return inner, kind(r, layer.out_channels, 1)


def _untouched(name: str, layer: nn.Module) -> Row:
    assert isinstance(layer.weight, Tensor)
    outputs, inputs = layer.weight.shape[:2]
    kib = own_bytes(layer) / 1024
    return Row(name, inputs, inputs, outputs, outputs, 0.0, 0.0, 0.0, 0.0, kib, kib)
