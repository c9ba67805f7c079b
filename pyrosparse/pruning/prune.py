"""From a posterior to a smaller network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.arguments import budget_bytes, check_numbers
from pyrosparse.errors import PruneError, PyrosparseWarning
from pyrosparse.guides.family import DEFAULT_THRESHOLD
from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.layers import Site, everything, over_parts, weight_name, weight_shape
from pyrosparse.likelihoods import Likelihood
from pyrosparse.posterior.cost import count_flops, output_positions
from pyrosparse.pruning.graph import find_links
from pyrosparse.pruning.masks import count_kept, keep_masks, masked_network
from pyrosparse.pruning.proof import difference, proved
from pyrosparse.pruning.pruned import Candidate, LayerReport, Pruned, PruneReport
from pyrosparse.pruning.removal import plan_removal
from pyrosparse.pruning.source import Source
from pyrosparse.pruning.surgery import cut_network
from pyrosparse.pruning.threshold import between, candidates, smallest_within, try_thresholds

__all__ = ["prune"]


def prune(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    threshold: float | str | None = None,
    budget: int | str | None = None,
    c: float = 0.5,
    val_loader: Batches | None = None,
    tolerance: float = 0.002,
    likelihood: Likelihood | None = None,
    network: nn.Module | None = None,
    example: Tensor | None = None,
) -> Pruned:
    """Throw away what the posterior says is not needed, and hand back a smaller network.

    Weights with log α above the threshold become 0. Inputs and units that no live weight uses are then
    removed for real, constants folded into biases, and the outputs compared with the masked network's: a removal
    that changes them is undone and named in ``report.notes``. Neither model nor guide is changed.

    :param model: a :class:`~pyrosparse.SparseModel`, or a Pyro model written by hand.
    :param guide: its guide.
    :param args: arguments of a pair written by hand, which is traced once with them.
    :param threshold: largest log α that is kept: a number (3 when None), or ``"auto"``: chosen on ``val_loader``
        so that the network is smallest while its error is within ``tolerance`` of the posterior mean's.
    :param budget: instead of a threshold, the largest number of bytes that the ``.psz`` file may have, or a size such
        as ``"20kB"``: of the thresholds whose file fits, the one with the lowest validation error (without
        ``val_loader``: the one that keeps most). Pass it to :func:`pyrosparse.save` too, whose ``c`` may be another.
    :param c: of ``budget``: step at which the file's size is measured, in posterior standard deviations.
    :param val_loader: yields ``(x, y)``; never the test data.
    :param tolerance: of ``threshold="auto"``: 0.002 is 0.2 points of error.
    :param likelihood: what measures the error, here and in all that is done with the result; the model's own, or
        labels for a pair written by hand.
    :param network: for a pair written by hand, a network whose parameters bear the names of the sites. Of sites that
        are not the weight of a linear or convolution layer (biases, say) the posterior mean is used.
    :param example: a batch of inputs, for comparing outputs; random inputs of the shape that the model has seen when
        None. A model that has never been run has seen none, and needs it.
    :returns: the smaller network, masks, posterior deviations and a report.
    :raises ConfigError: for a budget, ``c`` or tolerance that is no number.
    :raises PruneError: for ``"auto"`` without validation data, or a budget that no threshold meets.
    :raises NetworkError: if a pair written by hand comes without a network that has its sites.
    """
    check_numbers("prune", c=c, tolerance=tolerance)
    budget = None if budget is None else budget_bytes(budget)
    _check(threshold, budget, val_loader, tolerance)
    if not c > 0:
        raise PruneError(f"c is {c}; give a positive number of posterior standard deviations")
    source = Source(model, guide, args, network=network, likelihood=likelihood, example=example)
    statistic = ", ".join(dict.fromkeys(family.statistic for family in source.families.values()))
    report = PruneReport(threshold=DEFAULT_THRESHOLD, statistic=statistic)
    if val_loader is not None:
        there = {site: f.relevance() > -torch.inf for site, f in source.families.items()}
        dense = masked_network(source.network, source.families, there)
        report.dense_error = evaluate(dense, val_loader, likelihood=source.likelihood).error
    if budget is not None:
        report.threshold = _within_budget(source, budget, c, val_loader, report)
    elif threshold == "auto":
        assert val_loader is not None
        assert report.dense_error is not None
        report.threshold = _auto(source, val_loader, report, tolerance)
    elif threshold is not None:
        report.threshold = float(threshold)
    pruned = _cut(source, report, keep_masks(source.families, report.threshold, report.notes))
    _warn_of_empty(report)
    if val_loader is not None:
        report.error = evaluate(pruned.network, val_loader, likelihood=source.likelihood).error
    return pruned


def _check(threshold: float | str | None, budget: int | None, val_loader: Batches | None, tolerance: float) -> None:
    if threshold is not None and budget is not None:
        raise PruneError("threshold and budget are both given; give one of them")
    if threshold == "auto" and val_loader is None:
        raise PruneError("threshold='auto' is chosen on validation data: give val_loader")
    if threshold is not None and threshold != "auto":
        if isinstance(threshold, str) or math.isnan(threshold):
            raise PruneError(f"threshold is {threshold!r}; give a number (largest log α that is kept) or 'auto'")
    if not tolerance >= 0:
        raise PruneError(f"tolerance is {tolerance}; give a number of at least 0 (0.002 is 0.2 points of error)")
    if budget is not None and budget < 1:
        raise PruneError(f"budget is {budget} bytes; give a positive number")


def _warn_of_empty(report: PruneReport) -> None:
    """Say which layers have no weight left, now that units without inputs or readers are gone."""
    empty = [layer.site for layer in report.layers if not layer.kept]
    if empty:
        note = (
            f"no weight of {', '.join(empty)} is left at a threshold of {report.threshold:.3g}: what comes out there "
            "is the same for every input. Take a larger threshold, or fit with a smaller KL weight"
        )
        report.notes.append(note)
        warnings.warn(note, PyrosparseWarning, stacklevel=3)


def _cut(source: Source, report: PruneReport, masks: dict[str, Tensor]) -> Pruned:
    """Mask, plan, prove, cut, and say it all in the original's coordinates."""
    masked = masked_network(source.network, source.families, masks)
    small = masked_network(source.network, source.families, masks)
    report.notes.extend(source.notes)
    # a layer without a prior loses units too, where nothing reads them any more
    weights = {layer: masked.get_parameter(weight_name(layer)).detach() for layer in source.kept}
    layers = {layer: everything(masked.get_submodule(layer)) for layer in weights}
    layers |= {source.sites[site].layer: mask for site, mask in masks.items()}
    sigmas = {
        source.sites[s].layer: {"mask": masks[s].clone(), "sigma": std * over_parts(masks[s], std)}
        for s, std in ((s, f.std()) for s, f in source.families.items())
    }
    links = find_links(small, layers, source.input_shape, complex_input=source.complex_input)
    report.notes.extend(links.notes)
    taken: dict[str, tuple[Tensor | None, Tensor | None]] = {}
    if source.input_shape is not None and links.flow is not None:
        like = next(small.parameters())
        x = source.example
        x = source.reference(like) if x is None else x.to(like.device)
        plan = proved(masked, plan_removal(small, links, layers, weights), x)
        report.notes.extend(plan.notes)
        taken = cut_network(small, plan, posterior=lambda layer: sigmas.get(layer, {}))
        report.difference = difference(masked, small, x)
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    for layer, (outs, ins) in source.kept.items():
        new_outs, new_ins = taken.get(layer, (None, None))
        kept[layer] = (
            outs if new_outs is None else outs[new_outs.cpu()],
            ins if new_ins is None else ins[new_ins.cpu()],
        )
    pruned = Pruned(
        network=small,
        masks={
            s: _original_mask(site, kept[site.layer], sigmas[site.layer]["mask"]) for s, site in source.sites.items()
        },
        sigma={s: sigmas[site.layer]["sigma"] for s, site in source.sites.items()},
        kept=kept,
        original_parameters=source.original_parameters,
        report=report,
        likelihood=deepcopy(source.likelihood),
    )
    positions = _positions(source)
    report.layers = [_layer_report(site, pruned, positions.get(site.layer)) for site in source.sites.values()]
    return pruned


def _auto(source: Source, val_loader: Batches, report: PruneReport, tolerance: float) -> float:
    """Smallest network within the tolerance: a coarse search, then a fine one below its result."""

    def search(thresholds: list[float]) -> Candidate:
        report.curve += try_thresholds(source.network, source.families, thresholds, val_loader, source.likelihood)
        report.curve.sort(key=lambda c: c.threshold)
        assert report.dense_error is not None
        return smallest_within(report.curve, report.dense_error, tolerance, statistic=report.statistic)

    coarse = search(candidates(source.families))
    lower = [c.threshold for c in report.curve if c.threshold < coarse.threshold]
    if not lower:
        return coarse.threshold
    return search(between(source.families, max(lower), coarse.threshold)).threshold


def _original_mask(site: Site, kept: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Put the mask of the smaller weight into the original's shape."""
    full = torch.zeros(site.shape, dtype=torch.bool)
    full[torch.meshgrid(*site.index(*kept), indexing="ij")] = mask.cpu()
    return full


def _positions(source: Source) -> dict[str, int]:
    """Outputs of each unit for one example, where the shape of the input is known."""
    if source.input_shape is None:
        return {}
    layers = [site.layer for site in source.sites.values()]
    return output_positions(source.network, layers, source.input_shape, complex_input=source.complex_input)


def _layer_report(site: Site, pruned: Pruned, positions: int | None) -> LayerReport:
    outs, ins = pruned.kept[site.layer]
    module = pruned.network.get_submodule(site.layer)
    shape, bias = weight_shape(module), module.bias is not None
    before, after = (
        None if positions is None else count_flops(s, site.out_axis, positions, bias=bias, parts=site.parts)
        for s in (site.shape, shape)
    )
    return LayerReport(
        site=site.name,
        shape=tuple(site.shape),
        small_shape=tuple(shape),
        kept=site.parts * int(pruned.masks[site.name].sum()),
        total=site.total,
        units=len(outs),
        original_units=site.shape[site.out_axis],
        inputs=len(ins),
        original_inputs=site.shape[site.in_axis],
        flops=after,
        original_flops=before,
        parts=site.parts,
    )


def _within_budget(source: Source, budget: int, c: float, val_loader: Batches | None, report: PruneReport) -> float:
    """Threshold whose file fits the budget and whose error is lowest: a coarse search, then a fine one at the limit."""
    # the file is a later station; only its size is asked for here
    from pyrosparse.coding import encoded_size

    def measure(threshold: float) -> Candidate:
        masks = keep_masks(source.families, threshold)
        kept = count_kept(source.families, masks)
        size = encoded_size(_cut(source, PruneReport(threshold), masks), c=c)
        error = None
        if val_loader is not None and size <= budget:
            network = masked_network(source.network, source.families, masks)
            error = evaluate(network, val_loader, likelihood=source.likelihood).error
        return Candidate(threshold, kept, error, size)

    def fits(candidate: Candidate) -> bool:
        return candidate.bytes is not None and candidate.bytes <= budget

    tried = [measure(t) for t in candidates(source.families)]
    if not any(map(fits, tried)):
        least = min(c.bytes for c in tried if c.bytes is not None)
        raise PruneError(
            f"no threshold gives a file of at most {budget:,} bytes: the smallest has {least:,}. "
            "Allow more bytes, or fit with a larger KL weight"
        )
    largest = max(c.threshold for c in tried if fits(c))
    above = [c.threshold for c in tried if c.threshold > largest]
    if above:
        tried += [measure(t) for t in between(source.families, largest, min(above))]
    report.curve = sorted(tried, key=lambda c: c.threshold)
    return min(filter(fits, tried), key=lambda c: (c.error if c.error is not None else 0.0, -c.kept)).threshold
