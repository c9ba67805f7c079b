"""Read ``.psz`` files: as a network, or tensor by tensor."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from enum import StrEnum

import torch
from torch import Tensor, nn

from pyrosparse.coding import container
from pyrosparse.coding.decode import Spec, decode, open_stream, read_specs
from pyrosparse.coding.sharing import tie
from pyrosparse.coding.template import fill
from pyrosparse.errors import ConfigError, CorruptFileError, NetworkError
from pyrosparse.layers import LINEAR_LAYERS
from pyrosparse.nn import Selecting

__all__ = ["Layout", "iter_tensors", "load", "read_tensors"]


class Layout(StrEnum):
    """How weight matrices are handed out."""

    DENSE = "dense"
    """As they are in the network."""
    CSR = "csr"
    """Compressed sparse rows: real matrices of two axes; other tensors stay dense."""


def load(
    path: str | os.PathLike[str], *, network: nn.Module | None = None, layout: str | Layout = Layout.DENSE
) -> nn.Module:
    """Read a network, in evaluation mode.

    Layers are decoded one by one; no more than one is in memory in more than its final form.

    :param path: a ``.psz`` file.
    :param network: needed only if the file does not know the network's class (``info(path).architecture``
        is False): a network of the original architecture. It is copied; parameters are replaced by name,
        and layers take the sizes that the file has.
    :param layout: ``"csr"`` gives real linear layers weights in compressed sparse rows, which torch multiplies with but
        does not train; it saves memory below a density of a third, and time below a twentieth.
    :raises CorruptFileError: the file is truncated, altered or not a ``.psz`` file.
    :raises NewerFileError: a later version of the format wrote it.
    :raises NetworkError: ``network`` is missing, or does not fit (the parameter is named).
    """
    layout = _layout(layout)
    frame = container.read(path)
    known, specs, shared = read_specs(frame, path)
    if network is None and known is None:
        for _ in _tensors(frame, specs, shared, path, layout):  # a damaged file is to be told from a whole one
            pass
        raise NetworkError(
            f"{path} is whole, but holds a network of a class that the file does not know; "
            "pass one of the original architecture: load(path, network=...)"
        )
    state = _state(frame, specs, shared, path)
    if network is not None:
        module = fill(network, state, path)
        tie(module, shared, path)
    else:
        assert known is not None
        module = known
        module.load_state_dict(state, assign=True)
        tie(module, shared, path)
        _check_indices(module, path)
    if layout is Layout.CSR:
        sparse: dict[Tensor, nn.Parameter] = {}  # what layers share stays shared
        for layer in module.modules():
            if isinstance(layer, LINEAR_LAYERS) and isinstance(layer, nn.Linear):
                weight = layer.weight
                if weight not in sparse:
                    sparse[weight] = nn.Parameter(_csr(weight.detach()), requires_grad=False)
                layer.weight = sparse[weight]
    return module.eval()


def iter_tensors(path: str | os.PathLike[str], *, layout: str | Layout = Layout.DENSE) -> Iterator[tuple[str, Tensor]]:
    """Decode a file tensor by tensor, whatever the network's class: index maps first, then in the network's order.

    Other names of weights that layers share come last, with the same tensors again. Nothing but shared weights and
    index maps is kept of what was handed out before. The last step checks that the file is whole beyond its checksum,
    which is compared before the first.

    :param path: a ``.psz`` file.
    :param layout: see :class:`Layout`.
    :return: names and tensors.
    :raises CorruptFileError: the file is truncated, altered or not a ``.psz`` file.
    """
    layout = _layout(layout)
    frame = container.read(path)
    _, specs, shared = read_specs(frame, path)
    return _tensors(frame, specs, shared, path, layout)


def read_tensors(path: str | os.PathLike[str], *, layout: str | Layout = Layout.DENSE) -> dict[str, Tensor]:
    """Read the tensors of a file by name, whatever the network's class.

    :param path: a ``.psz`` file.
    :param layout: see :class:`Layout`.
    :raises CorruptFileError: the file is truncated, altered or not a ``.psz`` file.
    """
    layout = _layout(layout)
    frame = container.read(path)
    _, specs, shared = read_specs(frame, path)
    return _state(frame, specs, shared, path, layout)


def _state(
    frame: container.Frame,
    specs: list[Spec],
    shared: dict[str, str],
    path: str | os.PathLike[str],
    layout: Layout = Layout.DENSE,
) -> dict[str, Tensor]:
    """Tensors by name, in the network's order."""
    state = dict(_tensors(frame, specs, shared, path, layout))
    return {name: state[name] for name, _, _ in specs}


def _tensors(
    frame: container.Frame, specs: list[Spec], shared: dict[str, str], path: str | os.PathLike[str], layout: Layout
) -> Iterator[tuple[str, Tensor]]:
    firsts = dict.fromkeys(shared.values(), torch.empty(0))
    for name, content in decode(open_stream(frame, path), specs, frame.header["k"], path):
        tensor = content.tensor()
        del content  # the next one is decoded without it
        if layout is Layout.CSR and tensor.dim() == 2 and tensor.is_floating_point():
            tensor = _csr(tensor)
        if name in firsts:
            firsts[name] = tensor
        yield name, tensor
        del tensor
    for name, first in shared.items():
        yield name, firsts[first]


def _csr(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def _layout(layout: str | Layout) -> Layout:
    try:
        return Layout(layout)
    except ValueError as error:
        raise ConfigError(f"layout is {layout!r}; give {' or '.join(repr(each.value) for each in Layout)}") from error


def _check_indices(module: nn.Module, path: str | os.PathLike[str]) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, Selecting) and layer.index.numel():
            if not 0 <= int(layer.index.min()) <= int(layer.index.max()) < layer.original_features:
                raise CorruptFileError(f"{path}: {name}.index points beyond the {layer.original_features} inputs")
