"""Save a pruned network as a ``.psz`` file, and say what is in one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyrosparse.arguments import budget_bytes, check_numbers
from pyrosparse.coding import architecture, container
from pyrosparse.coding.choice import C_GRID, RATE_GRID, choose, choose_within
from pyrosparse.coding.codecs import index_of, send, shortest
from pyrosparse.coding.codes import INTEGERS, codes_of
from pyrosparse.coding.content import DTYPES, Content, size_of
from pyrosparse.coding.decode import sequence
from pyrosparse.coding.fileinfo import FileInfo, describe
from pyrosparse.coding.precision import Plan, make_plan
from pyrosparse.coding.rank import axes_of
from pyrosparse.coding.sharing import SHARED
from pyrosparse.coding.stream import Writer
from pyrosparse.errors import ConfigError, CorruptFileError, NetworkError, PruneError, PyrosparseWarning

if TYPE_CHECKING:
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["C_GRID", "RATE_GRID", "encoded_size", "info", "save"]

DEFAULT_C = 0.5


def save(
    path: str | os.PathLike[str],
    network: Pruned | nn.Module,
    *,
    c: float | None = None,
    val_loader: Iterable[Any] | None = None,
    tolerance: float = 0.001,
    sigma: Mapping[str, Tensor] | None = None,
    likelihood: Any = None,
    bias_bits: int | None = None,
    rate_weight: float | None = 0.0,
    budget: int | str | None = None,
    codebook: int | None = None,
    codec: str = INTEGERS,
) -> FileInfo:
    """Write a network to a ``.psz`` file: quantised, entropy-coded, checked, written atomically.

    :param path: the file; an existing one is replaced once the new one is complete.
    :param network: what :func:`pyrosparse.prune` returned, or any ``nn.Module``. A plain module without
        ``sigma`` is stored exactly, number by number; ``c``, ``rate_weight`` and ``bias_bits`` are then warned of.
    :param c: quantisation step of a layer in units of the median posterior standard deviation of its kept
        weights. ``None``: the largest of 0.25, 0.35, 0.5, 0.71, 1, 1.41, 2, 2.83, 4 with which the
        validation error rises by no more than ``tolerance``; 0.5 if there is no ``val_loader``.
    :param val_loader: validation data for the choice of ``c``: batches ``(x, y)``, read several times.
    :param tolerance: how much the validation error may rise, in the units of the error (0.001 is a tenth of
        a percentage point of accuracy).
    :param sigma: posterior standard deviations by parameter name (0 where pruned), for a plain module; layers
        without an entry are stored exactly.
    :param likelihood: a likelihood that measures the error; when ``None`` that of the pruned network, or else the
        default of :func:`pyrosparse.infer.evaluate`.
    :param bias_bits: bits of a bias with one scale a tensor; ``None``: half the step of the layer's weights.
    :param rate_weight: how much length counts against error in the choice of each weight's integer: each
        takes the one with the least ``(w − kΔ)²/2σ² + rate_weight · nats(k)``, where 0 rounds to the nearest
        and 1 trades a nat of error for a nat of file. ``None``: the one of 0, 0.03, 0.06, 0.1, 0.15 that, with
        a ``c`` of the grid no larger than the one above, gives the smallest file within the ``tolerance``; 0
        if there is no ``val_loader``.
    :param budget: largest number of bytes of the file, or a size such as ``"20kB"``. ``c`` and ``rate_weight``, where
        they are None, are then those with the lowest validation error of all with which the file fits; without a
        ``val_loader`` the finest ``c``.
    :param codebook: weights take one of so many centres of k-means instead of a multiple of a step (the baseline of
        Han, Mao and Dally, 2016): the file has the centres and the number of each weight's own. ``c`` then counts
        for biases alone.
    :param codec: ``"integers"``: multiples of the step; ``"random-code"``: weights are draws of shared chance, and the
        file has their numbers (relative-entropy coding). It wants what :func:`pyrosparse.coding.random_code`
        returned; other pruned networks are coded by :func:`pyrosparse.coding.code_posterior`, which is off by more.
        ``c`` is then the step of biases alone, chosen with ``val_loader`` as otherwise; ``rate_weight``, ``budget``
        and ``codebook`` are not for it.
    :return: what was written, byte by byte.
    :raises PruneError: if nothing that may be chosen fits the budget; no file is written then.
    :raises ConfigError: for another codec, settings that are no numbers, or ``sigma`` without an entry.
    :raises NetworkError: NaN or Inf in the network, tensors that files do not hold, or ``sigma`` that does not fit it.
    :raises ExportError: if the file cannot be written; nothing half-written is left.
    """
    check_numbers("save", c=c, rate_weight=rate_weight, tolerance=tolerance, bias_bits=bias_bits, codebook=codebook)
    budget = None if budget is None else budget_bytes(budget)
    others = {"sigma": sigma is not None, "rate_weight": rate_weight != 0, "budget": budget is not None,
              "codebook": codebook is not None}  # fmt: skip
    codes = codes_of(network, codec, [name for name, given in others.items() if given])
    if codes is not None:
        network = codes
    module, sigma, original = _contents_of(network, sigma)
    if not isinstance(network, nn.Module):
        likelihood = network.chosen_likelihood(likelihood)
    of_blocks = {} if codes is None else codes.codes
    plan = partial(make_plan, module, sigma, bias_bits=bias_bits, codebook=codebook, codes=of_blocks)
    if sigma is None:
        if c is not None or rate_weight or bias_bits is not None:
            warnings.warn(
                f"{path}: there are no posterior standard deviations for c and rate_weight to count in: every number "
                "is stored as it is, biases too; pass sigma, or what pyrosparse.prune returned",
                PyrosparseWarning,
                stacklevel=2,
            )
        c, rate_weight = None, 0.0
    elif budget is not None:
        c, rate_weight = choose_within(
            module,
            lambda c, rate: plan(c, rate_weight=rate),
            lambda planned: len(encode(module, planned, original)),
            budget,
            val_loader,
            grid=C_GRID if c is None else (c,),
            rates=RATE_GRID if rate_weight is None else (rate_weight,),
            likelihood=likelihood,
            path=path,
        )
    elif val_loader is not None and (c is None or rate_weight is None):
        c, rate_weight = choose(
            module,
            lambda c, rate: plan(c, rate_weight=rate),
            val_loader,
            grid=C_GRID if c is None else (c,),
            rates=RATE_GRID if rate_weight is None else (rate_weight,),
            tolerance=tolerance,
            likelihood=likelihood,
        )
    else:
        c, rate_weight = DEFAULT_C if c is None else c, rate_weight or 0.0
    planned = plan(c, rate_weight=rate_weight)
    if codebook is not None and all(content.book is None for content in planned.contents.values()):
        warnings.warn(
            f"{path}: no tensor got a codebook: the network has no weight matrices",
            PyrosparseWarning,
            stacklevel=2,
        )
    if emptied := planned.emptied(module):
        warnings.warn(
            f"{path}: at c = {c:g} every weight of {', '.join(emptied)} is rounded to 0: the posterior says of none "
            "that it is not 0, or c is too large; give a smaller c",
            PyrosparseWarning,
            stacklevel=2,
        )
    data = encode(module, planned, original)
    if budget is not None and len(data) > budget:
        raise PruneError(
            f"{path} takes {len(data):,} bytes without rounding, and the budget is {budget:,}: pass sigma, so that "
            "steps can be chosen, or allow more bytes"
        )
    try:
        written = describe(path, data)  # decodes it: what cannot be read back is not written
    except CorruptFileError as error:
        raise NetworkError(f"a file of this network could not be read back, and was not written: {error}") from error
    written = replace(written, rate_weight=rate_weight)
    container.write(path, data)
    return written


def info(path: str | os.PathLike[str]) -> FileInfo:
    """Say what every byte of a file is for. The file is decoded to find out.

    :raises CorruptFileError: the file is truncated, altered or not a ``.psz`` file.
    """
    return describe(path, container.read_bytes(path))


def encode(network: nn.Module, plan: Plan, original_parameters: int) -> bytes:
    """Return the bytes of a file; the same network and plan give the same bytes."""
    writer = Writer()
    names = list(plan.contents)
    contents: dict[str, Content] = dict(plan.contents)
    for i in sequence("".join(content.codec for content in contents.values())):
        name, index = names[i], contents.get(index_of(names[i]))
        places = index.levels.reshape(-1) if index is not None and index.codec == "i" else None
        contents[name] = shortest(name, contents[name], places=places)
        send(writer, name, contents[name], places=places)
    payload, padding = writer.finish(sum(size_of(content.shape) for content in contents.values()))
    header: dict[str, Any] = {}
    tree = architecture.describe(network)
    if tree is not None:
        header["a"] = tree
    else:
        header["t"] = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    if plan.c is not None:
        header["c"] = float(plan.c)
    stored = list(network.state_dict())
    header["k"] = "".join(SHARED if name in plan.shared else contents[name].codec for name in stored)
    if plan.shared:
        header[SHARED] = [stored.index(plan.shared[name]) for name in stored if name in plan.shared]
    default = "".join("i" if k == "i" else "f" for k in header["k"])
    letters = {dtype: letter for letter, dtype in DTYPES.items()}
    dtypes = "".join(letters[contents[plan.shared.get(name, name)].dtype] for name in stored)
    if dtypes != default:
        header["d"] = dtypes
    header["o"] = original_parameters
    return container.pack(header, payload, padding)


def encoded_size(
    network: Pruned | nn.Module,
    *,
    c: float | None = None,
    sigma: Mapping[str, Tensor] | None = None,
    bias_bits: int | None = None,
    rate_weight: float = 0.0,
    codebook: int | None = None,
) -> int:
    """Return how many bytes :func:`save` would write, without writing. ``c`` is 0.5 if it is not given."""
    module, sigma, original = _contents_of(network, sigma)
    check_numbers("encoded_size", c=c, bias_bits=bias_bits, rate_weight=rate_weight, codebook=codebook)
    c = None if sigma is None else DEFAULT_C if c is None else c
    plan = make_plan(module, sigma, c, bias_bits=bias_bits, rate_weight=rate_weight, codebook=codebook)
    return len(encode(module, plan, original))


def _contents_of(
    network: Pruned | nn.Module, sigma: Mapping[str, Tensor] | None
) -> tuple[nn.Module, Mapping[str, Tensor] | None, int]:
    """Module, standard deviations, and numbers in the original network."""
    if isinstance(network, nn.Module):
        if sigma is not None and not sigma:
            weights = ", ".join(_weights_of(network)) or "layers, of which the network has none"
            raise ConfigError(
                f"sigma is empty: give the posterior standard deviations of {weights}; or leave sigma out, to store "
                "every number as it is"
            )
        made = [p for p in network.parameters() if not is_lazy(p)]  # refused later
        return network, sigma, sum(p.numel() * (2 if p.is_complex() else 1) for p in made)
    if sigma is not None:
        return _contents_of(network.network, sigma)[:2] + (network.original_parameters,)
    return network.network, network.sigma or None, network.original_parameters


def _weights_of(network: nn.Module) -> list[str]:
    """Names of the weight matrices."""
    axes = axes_of(network)
    return [name for name, _ in network.named_parameters() if axes.get(name, 0) > 1]
