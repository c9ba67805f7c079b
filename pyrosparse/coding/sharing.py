"""Parameters that several layers share: sent once, and one parameter again when they are read.

Of the names of such a parameter one is sent as any other; the others have the letter ``w`` and, in the header's list of
the same key, the position of that one among the tensors.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import nn

from pyrosparse.errors import CorruptFileError, NetworkError

__all__ = ["SHARED", "read_shared", "shared_names", "tie"]

SHARED = "w"

Spec = tuple[str, tuple[int, ...], torch.dtype]  # name, shape, dtype


def shared_names(network: nn.Module, sent: Container[str] = ()) -> dict[str, str]:
    """Name under which a parameter is sent, for each of its other names.

    :param sent: of the names of a parameter the first of these is the one, or else the first of all.
    """
    stored = network.state_dict().keys()
    names: dict[int, list[str]] = {}
    for name, value in network.named_parameters(remove_duplicate=False):
        if name in stored:
            names.setdefault(id(value), []).append(name)
    found: dict[str, str] = {}
    for group in names.values():
        first = next((name for name in group if name in sent), group[0])
        found |= {name: first for name in group if name != first}
    return found


def read_shared(header: Mapping[str, Any], specs: list[Spec], path: str | os.PathLike[str]) -> dict[str, str]:
    """Name of the tensor that is sent, for each that only refers to it; the header's codecs are known to be in order.

    :raises CorruptFileError: if one refers to a tensor that is not there, not sent, or of another shape or type.
    """
    letters, targets = header["k"], header.get(SHARED, [])
    places = [i for i, letter in enumerate(letters) if letter == SHARED]
    if not isinstance(targets, list) or len(targets) != len(places):
        raise CorruptFileError(f"{path}: the header does not say whose weights are shared")
    found = {}
    for place, target in zip(places, targets, strict=True):
        name, *kind = specs[place]
        if type(target) is not int or not 0 <= target < len(specs) or letters[target] in {SHARED, "i"}:
            raise CorruptFileError(f"{path}: {name} shares the numbers of a tensor that the file does not have")
        if specs[target][1:] != tuple(kind):
            raise CorruptFileError(f"{path}: {name} shares the numbers of a tensor of another shape or type")
        found[name] = specs[target][0]
    return found


def tie(network: nn.Module, shared: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Make one parameter of those that a file has once."""
    for name, first in shared.items():
        owner, _, leaf = name.rpartition(".")
        try:
            network.get_parameter(name)
            network.get_submodule(owner)._parameters[leaf] = network.get_parameter(first)
        except AttributeError as error:
            raise NetworkError(
                f"{path}: {name} and {first} are one parameter there, and in the network they are none ({error})"
            ) from error
