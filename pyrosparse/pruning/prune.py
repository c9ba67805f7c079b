"""From a posterior to a smaller network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError, PruneError
from pyrosparse.guides.family import DEFAULT_THRESHOLD, Family
from pyrosparse.infer.evaluate import Batches, evaluate
from pyrosparse.layers import Site, axes
from pyrosparse.likelihoods import Likelihood
from pyrosparse.model import SparseModel
from pyrosparse.posterior.read import Posterior, read
from pyrosparse.pruning.graph import find_links
from pyrosparse.pruning.masks import keep_masks, masked_network
from pyrosparse.pruning.proof import difference, proved, reference_input
from pyrosparse.pruning.pruned import Candidate, LayerReport, Pruned, PruneReport
from pyrosparse.pruning.removal import plan_removal
from pyrosparse.pruning.surgery import cut_network
from pyrosparse.pruning.threshold import between, candidates, smallest_within, try_thresholds

__all__ = ["prune"]


def prune(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    threshold: float | str | None = None,
    budget: int | None = None,
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
    :param budget: instead of a threshold, the largest number of bytes that the ``.psz`` file may have: of the
        thresholds whose file fits, the one with the lowest validation error (without ``val_loader``: the one
        that keeps most).
    :param val_loader: yields ``(x, y)``; never the test data.
    :param tolerance: of ``threshold="auto"``: 0.002 is 0.2 points of error.
    :param likelihood: what measures the error; the model's own, or labels for a pair written by hand.
    :param network: for a pair written by hand, a network whose parameters bear the names of the sites.
    :param example: a batch of inputs, for comparing outputs; random inputs of the shape that the model has seen when
        None.
    :returns: the smaller network, masks, posterior deviations and a report.
    :raises PruneError: for ``"auto"`` without validation data, or a budget that no threshold meets.
    :raises NetworkError: if a pair written by hand comes without a network that has its sites.
    """
    _check(threshold, budget, val_loader)
    source = _Source(model, guide, args, network, likelihood)
    report = PruneReport(threshold=DEFAULT_THRESHOLD)
    if val_loader is not None:
        everything = {site: torch.isfinite(f.relevance()) for site, f in source.families.items()}
        dense = masked_network(source.network, source.families, everything)
        report.dense_error = evaluate(dense, val_loader, likelihood=source.likelihood).error
    if budget is not None:
        report.threshold = _within_budget(source, budget, val_loader, report, example)
    elif threshold == "auto":
        assert val_loader is not None
        assert report.dense_error is not None
        report.threshold = _auto(source, val_loader, report, tolerance)
    elif threshold is not None:
        report.threshold = float(threshold)
    pruned = _cut(source, report, example)
    if val_loader is not None:
        report.error = evaluate(pruned.network, val_loader, likelihood=source.likelihood).error
    return pruned


def _check(threshold: float | str | None, budget: int | None, val_loader: Batches | None) -> None:
    if isinstance(threshold, str) and threshold != "auto":
        raise PruneError(f"threshold is {threshold!r}; give a number (largest log α that is kept) or 'auto'")
    if threshold is not None and budget is not None:
        raise PruneError("threshold and budget are both given; give one of them")
    if threshold == "auto" and val_loader is None:
        raise PruneError("threshold='auto' is chosen on validation data: give val_loader")
    if budget is not None and budget < 1:
        raise PruneError(f"budget is {budget} bytes; give a positive number")


class _Source:
    """The posterior, and the network that it belongs to, in today's coordinates."""

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        network: nn.Module | None,
        likelihood: Likelihood | None,
    ) -> None:
        self.posteriors: dict[str, Posterior] = read(model, guide, *args)
        self.families: dict[str, Family] = {site: p.family for site, p in self.posteriors.items()}
        if isinstance(model, SparseModel):
            self.network: nn.Module = model.network
            self.likelihood: Likelihood | None = likelihood or model.likelihood
            self.sites = model.sites
            self.kept = model.kept
            self.original_parameters = model.original_parameters
            self.input_shape = model.input_shape
            return
        if network is None:
            raise NetworkError(
                "this model is written by hand: give prune the network that its sites belong to (network=…), with "
                "parameters named after the sites"
            )
        self.network, self.likelihood = network, likelihood
        self.sites = {site: _site(network, p) for site, p in self.posteriors.items()}
        self.kept = {
            s.layer: (torch.arange(s.shape[s.out_axis]), torch.arange(s.shape[s.in_axis])) for s in self.sites.values()
        }
        self.original_parameters = sum(p.numel() for p in network.parameters())
        self.input_shape = next((a.shape[1:] for a in args if isinstance(a, Tensor) and a.dim() > 1), None)


def _site(network: nn.Module, posterior: Posterior) -> Site:
    layer, _, name = posterior.site.rpartition(".")
    parameters = dict(network.named_parameters())
    if posterior.site not in parameters:
        raise NetworkError(
            f"site {posterior.site!r} is no parameter of the network (it has {', '.join(parameters)}): name sites after "
            "the parameters that they replace"
        )
    if parameters[posterior.site].shape != posterior.shape:
        raise NetworkError(
            f"site {posterior.site!r} has shape {tuple(posterior.shape)}, and the network's parameter "
            f"{tuple(parameters[posterior.site].shape)}"
        )
    if name != "weight":
        raise NetworkError(f"site {posterior.site!r} is not the weight of a layer: only weights can be pruned")
    out_axis, in_axis = axes(network.get_submodule(layer))
    return Site(posterior.site, layer, posterior.shape, out_axis, in_axis)


def _cut(source: _Source, report: PruneReport, example: Tensor | None) -> Pruned:
    """Mask, plan, prove, cut, and say it all in the original's coordinates."""
    masks = keep_masks(source.families, report.threshold, report.notes)
    masked = masked_network(source.network, source.families, masks)
    small = masked_network(source.network, source.families, masks)
    layers = {source.sites[site].layer: mask for site, mask in masks.items()}
    sigmas = {
        source.sites[s].layer: {"mask": masks[s].clone(), "sigma": f.std() * masks[s]}
        for s, f in source.families.items()
    }
    links = find_links(small, layers, source.input_shape)
    report.notes.extend(links.notes)
    taken: dict[str, tuple[Tensor | None, Tensor | None]] = {}
    if source.input_shape is not None and links.links:
        x = example
        if x is None:
            x = reference_input(source.input_shape, next(small.parameters()))
        weights = {layer: masked.get_submodule(layer).weight.detach() for layer in layers}
        plan = proved(masked, plan_removal(small, links, layers, weights), x)
        report.notes.extend(plan.notes)
        taken = cut_network(small, plan, posterior=lambda layer: sigmas[layer])
        report.difference = difference(masked, small, x)
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    for layer, (outs, ins) in source.kept.items():
        new_outs, new_ins = taken.get(layer, (None, None))
        kept[layer] = (
            outs if new_outs is None else outs[new_outs.cpu()],
            ins if new_ins is None else ins[new_ins.cpu()],
        )
    for parameter in small.parameters():
        parameter.grad = None
    pruned = Pruned(
        network=small,
        masks={s: _original_mask(site, kept[site.layer], sigmas[site.layer]["mask"]) for s, site in source.sites.items()},
        sigma={s: sigmas[site.layer]["sigma"] for s, site in source.sites.items()},
        kept=kept,
        original_parameters=source.original_parameters,
        report=report,
    )
    report.layers = [_layer_report(site, pruned) for site in source.sites.values()]
    return pruned


def _auto(source: _Source, val_loader: Batches, report: PruneReport, tolerance: float) -> float:
    """Smallest network within the tolerance: a coarse search, then a fine one below its result."""
    assert report.dense_error is not None

    def search(thresholds: list[float]) -> Candidate:
        report.curve += try_thresholds(source.network, source.families, thresholds, val_loader, source.likelihood)
        report.curve.sort(key=lambda c: c.threshold)
        assert report.dense_error is not None
        return smallest_within(report.curve, report.dense_error, tolerance)

    coarse = search(candidates(source.families))
    lower = [c.threshold for c in report.curve if c.threshold < coarse.threshold]
    if not lower:
        return coarse.threshold
    return search(between(source.families, max(lower), coarse.threshold)).threshold


def _original_mask(site: Site, kept: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Put the mask of the smaller weight into the original's shape."""
    index = [torch.arange(n) for n in site.shape]
    index[site.out_axis], index[site.in_axis] = kept
    full = torch.zeros(site.shape, dtype=torch.bool)
    full[torch.meshgrid(*index, indexing="ij")] = mask.cpu()
    return full


def _layer_report(site: Site, pruned: Pruned) -> LayerReport:
    outs, ins = pruned.kept[site.layer]
    return LayerReport(
        site=site.name,
        shape=tuple(site.shape),
        small_shape=tuple(pruned.network.get_parameter(site.name).shape),
        kept=int(pruned.masks[site.name].sum()),
        total=site.total,
        units=len(outs),
        original_units=site.shape[site.out_axis],
        inputs=len(ins),
        original_inputs=site.shape[site.in_axis],
    )


def _within_budget(
    source: _Source, budget: int, val_loader: Batches | None, report: PruneReport, example: Tensor | None
) -> float:
    """Threshold whose file fits the budget and whose error is lowest."""
    # the file is a later station; only its size is asked for here
    from pyrosparse.coding import encoded_size  # noqa: PLC0415

    def size_of(threshold: float) -> int:
        return encoded_size(_cut(source, PruneReport(threshold=threshold), example))

    thresholds = candidates(source.families)
    if val_loader is None:
        tried = [
            Candidate(t, sum(int(m.sum()) for m in keep_masks(source.families, t).values()), None, size_of(t))
            for t in thresholds
        ]
    else:
        tried = try_thresholds(
            source.network, source.families, thresholds, val_loader, source.likelihood, size_of=size_of
        )
    report.curve = tried
    fitting = [c for c in tried if c.bytes is not None and c.bytes <= budget]
    if not fitting:
        least = min(c.bytes for c in tried if c.bytes is not None)
        raise PruneError(
            f"no threshold gives a file of at most {budget:,} bytes: the smallest has {least:,}. "
            "Allow more bytes, or fit with a larger KL weight"
        )
    return min(fitting, key=lambda c: (c.error if c.error is not None else 0.0, -c.kept)).threshold
