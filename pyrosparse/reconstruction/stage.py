"""Linear reconstruction as a stage: a network in, a smaller network and a report out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from math import isfinite

import torch
from torch import Tensor, nn

from pyrosparse.errors import ConfigError, NetworkError, PyrosparseWarning
from pyrosparse.pruning.proof import difference
from pyrosparse.pruning.removal import Removal, UnitCut
from pyrosparse.pruning.surgery import cut_network
from pyrosparse.reconstruction.chain import Chain, Chaining, LayerFit, Outcome
from pyrosparse.reconstruction.goals import goals_of, missed
from pyrosparse.reconstruction.low_rank import factorise
from pyrosparse.reconstruction.moments import check_layers
from pyrosparse.reconstruction.path import Solver
from pyrosparse.reconstruction.report import ReconstructionReport, Row
from pyrosparse.reconstruction.sizes import network_bytes, own_bytes
from pyrosparse.reconstruction.units import Structure, Units, find_units
from pyrosparse.reconstruction.watching import Inputs, first_inputs

__all__ = ["movable_units", "reconstruct"]

# of the largest output: room for another order of summation, on top of that of the network's float format
_TOLERANCE = 1e-3
# examples on which layers are compared with their weights
_LOOKED_AT = 4

PerLayer = float | Mapping[str, float]


def reconstruct(
    network: nn.Module,
    loader: Inputs,
    *,
    lam: PerLayer | None = None,
    lam_ratio: PerLayer | None = None,
    units: PerLayer | None = None,
    kib: PerLayer | None = None,
    error: PerLayer | None = None,
    chaining: Chaining | str = Chaining.PARALLEL,
    debias: bool = True,
    refit: bool = False,
    low_rank: float | None = None,
    input_features: bool = True,
    solver: Solver | str = Solver.NEWTON,
    tol: float = 1e-6,
) -> tuple[nn.Module, ReconstructionReport]:
    r"""Remove units of a network that the next layer can do without, by linear reconstruction, without training.

    Each layer W is replaced by the M that solves

    .. math:: \min_M \tfrac12 E\|Y - M X\|^2 + \lambda \sum_g \|M_g\|

    from the moments of its inputs X and targets Y over the data; a group is a unit that the layer reads (a feature,
    the k·k columns of a channel, the H·W columns of a channel behind a flattening). Units with M_g = 0 are cut out
    of the layers that give them, and the bias becomes b' = E[Y] − M E[X] (Robin & Jain, 2019). Units that several
    layers read, as in residual networks, are one group in all of them.

    Exactly one of the first five options says how much goes; each takes one number for all layers, or a mapping from
    layers to numbers that leaves all other layers as they are. What ``units``, ``kib`` and ``error`` bound need not be
    monotone in λ: see :func:`~pyrosparse.reconstruction.path.search` for the λ that are looked at. A bound that the
    network does not keep in the end is warned of, with what it is instead.

    :param network: linear layers, convolutions, batch normalisation, pooling, flattening, elementwise activations
        and sums of residual blocks; left as it is.
    :param loader: yields x or ``(x, y)``; only x is looked at. One pass for parallel and bottom-up, one a layer else,
        and with a size of the whole network as many again for each λ that is tried (up to 29).
    :param lam: λ.
    :param lam_ratio: λ/λ_max of each layer, between 0 and 1.
    :param units: units that a layer may read.
    :param kib: KiB (1024 bytes) of the whole network at one common λ/λ_max; of each layer in a mapping. Float32
        weights and biases and the index of kept input features count, before any low-rank factorisation.
    :param error: relative error of reconstruction that a layer may have, E‖Y − M X‖²/E‖Y‖², in its own problem. A
        refit measures errors from what the layer reads in the end, and a factorisation adds its own: where that
        is more than was asked for, a warning says so.
    :param chaining: see :class:`Chaining`.
    :param debias: least squares on the kept units in place of the shrunken solution.
    :param refit: at the end, fit every layer anew by least squares, from the input on, to what it gave in the
        original network from what it reads now; one more pass over the data a layer.
    :param low_rank: relative error that a factorisation of each layer into two may have afterwards; it is made where
        it saves bytes. None for no factorisation.
    :param input_features: whether features of the network's input may go; the smaller network still takes all of
        them. Only linear layers can choose features.
    :param solver: see :class:`Solver`; it serves where λ or λ/λ_max is given. For other goals λ is searched for by
        Newton's method, the only one whose steps stay few as λ falls.
    :param tol: relative duality gap at which a solver stops.
    :returns: the smaller network in evaluation mode, and the report.
    :raises ConfigError: for options that do not go together or are out of range.
    :raises NetworkError: for a network with a part that cannot be reconstructed through, by its name.
    :raises PruneError: for a size that is out of reach.
    """
    chaining, solver = Chaining.named(chaining), Solver.named(solver)
    if not 0 < tol < 1:
        raise ConfigError(f"tol is {tol}: give a relative duality gap between 0 and 1")
    x = _checked(network, first_inputs(loader, network))
    structure = _structure(network, x, input_features=input_features)
    check_layers(network, structure.layers, x[:_LOOKED_AT])
    goals = goals_of(structure.units, lam=lam, lam_ratio=lam_ratio, units=units, kib=kib, error=error)
    original = deepcopy(network).eval()
    chain = Chain(original, loader, structure, chaining=chaining, debias=debias, solver=solver, tol=tol)
    whole = float(kib) if isinstance(kib, int | float) else None
    outcome = chain.run(goals) if whole is None else chain.run_within(whole)
    if refit:
        chain.refit(outcome)
    small = deepcopy(outcome.network)
    cut_network(small, Removal(structure.flow, [UnitCut(u, keep) for u, keep in outcome.kept.items()]))
    report = _report(original, small, structure, outcome)
    report.method = _words(chaining, debias=debias, refit=refit)
    report.difference = _proved(outcome.network, small, x)
    if low_rank is not None:
        small, report = factorise(small, loader, error=low_rank, report=report)
    notes = [*outcome.notes, *missed(goals, report), *([] if whole is None else _too_large(whole, report))]
    for note in notes:
        warnings.warn(note, PyrosparseWarning, stacklevel=2)
    report.notes = [*notes, *(f"{u}: all stay, since {u.pinned}" for u in structure.units if u.pinned)]
    return small, report


def movable_units(network: nn.Module, x: Tensor, *, input_features: bool = True) -> list[Units]:
    """Find the units that :func:`reconstruct` would look at; those that must stay are pinned, and say why.

    :param x: examples, ``(B, …)``.
    :raises NetworkError: for a network that cannot be reconstructed.
    """
    return _structure(network, _checked(network, x), input_features=input_features).units


def _structure(network: nn.Module, x: Tensor, *, input_features: bool) -> Structure:
    structure = find_units(network, x.shape[1:])
    for u in structure.units:
        if u.of_input and not input_features and not u.pinned:
            u.pinned = "input_features is off"
    if all(u.pinned for u in structure.units):
        raise NetworkError("no layer has inputs that can go: " + "; ".join(f"{u}: {u.pinned}" for u in structure.units))
    return structure


def _checked(network: nn.Module, x: Tensor) -> Tensor:
    parameter = next(network.parameters(), None)
    if parameter is None:
        raise NetworkError("the network has no parameters: there is nothing to reconstruct")
    if parameter.is_complex() or x.is_complex():
        raise NetworkError("reconstruction works on real networks, and this one has complex parameters or inputs")
    return x.to(parameter.device)


@torch.no_grad()
def _proved(masked: nn.Module, small: nn.Module, x: Tensor) -> float:
    found = difference(masked.eval(), small.eval(), x)
    if not isfinite(found):
        raise NetworkError("the network gives NaN or infinite outputs on these data: look at its last layers")
    if found > _TOLERANCE + 8 * torch.finfo(next(small.parameters()).dtype).eps:
        raise NetworkError(
            f"cutting the units changes the outputs by {found:.2g} of the largest: the network does something with "
            "them that its graph does not show; please report this"
        )
    return found


def _report(original: nn.Module, small: nn.Module, structure: Structure, outcome: Outcome) -> ReconstructionReport:
    reads = {layer: u for u in structure.units for layer in u.consumers}
    gives = {layer: u for u in structure.units for layer in u.producers}
    rows = []
    for layer in structure.layers:
        fit, u = outcome.fits.get(layer, LayerFit()), reads[layer]
        before, after = original.get_submodule(layer), small.get_submodule(layer)
        assert isinstance(before.weight, Tensor)
        outputs = before.weight.shape[0]
        rows.append(
            Row(
                layer,
                u.count,
                int(outcome.kept[u].sum()) if u in outcome.kept else u.count,
                outputs,
                int(outcome.kept[gives[layer]].sum()) if gives.get(layer) in outcome.kept else outputs,
                fit.lam,
                fit.lam / fit.lam_max if fit.lam_max > 0 else 0.0,
                fit.gap,
                fit.error,
                own_bytes(before) / 1024,
                own_bytes(after) / 1024,
            )
        )
    return ReconstructionReport("", rows, network_bytes(original) / 1024, network_bytes(small) / 1024)


def _too_large(kib: float, report: ReconstructionReport) -> list[str]:
    return [f"the network has {report.kib:.1f} KiB, and {kib:g} were asked for"] if report.kib > kib else []


def _words(chaining: Chaining, *, debias: bool, refit: bool) -> str:
    extras = [word for word, asked in (("debiased", debias), ("refitted", refit)) if asked]
    return ", ".join([f"linear reconstruction, {chaining}", *extras])
