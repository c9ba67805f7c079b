"""The parts of a report that are pictures: each picks arrays out of a run, draws them and says what to see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrosparse.report import images, pictures
from pyrosparse.report.figures import count, finite
from pyrosparse.report.markup import Html, element, figure, section
from pyrosparse.report.read import Run, SiteArrays
from pyrosparse.report.sections import absent
from pyrosparse.report.theme import to_svg

__all__ = ["histograms", "history", "live_weights", "posterior", "tradeoff"]

NO_POSTERIOR = "posterior.safetensors is not in the run folder."


def _grid(*children: object, small: bool = False) -> Html:
    return element("div", *children, class_="grid small" if small else "grid")


def _column(rows: list[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    values = (finite(row.get(key)) for row in rows)
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def tradeoff(run: Run) -> Html:
    """Accuracy against bytes over thresholds, with the chosen one."""
    title = "Accuracy against bytes"
    lead = "Each point is a network pruned at another threshold and measured on validation data."
    rows = [r for r in run.rows("curve") if finite(r.get("threshold")) is not None]
    rows = [r for r in rows if _quality(r) is not None]
    in_bytes = bool(rows) and all(finite(r.get("bytes")) is not None for r in rows)
    cost = "bytes" if in_bytes else next((k for k in ("nonzero", "kept") if np.isfinite(_column(rows, k)).any()), "")
    rows = [r for r in rows if finite(r.get(cost)) is not None]
    if not rows or not cost:
        return section(title, lead, absent("No curve was computed."))
    thresholds = _column(rows, "threshold")
    marked = [i for i, row in enumerate(rows) if row.get("chosen") is True]
    chosen = marked[0] if marked else None
    if chosen is None and run.threshold is not None and np.abs(thresholds - run.threshold).min() < 1e-6:
        chosen = int(np.abs(thresholds - run.threshold).argmin())
    quality = np.array([_quality(r) for r in rows], dtype=np.float64)
    dense = finite(run.stage("dense").get("val_accuracy"))
    svg = to_svg(
        pictures.accuracy_against_bytes(
            _column(rows, cost),
            100 * quality,
            thresholds,
            chosen=chosen,
            in_bytes=in_bytes,
            reference=None if dense is None else 100 * dense,
            measure="validation accuracy, %",
        ),
        key="tradeoff",
        alt=f"Validation accuracy against {'file size' if in_bytes else 'weights kept'} at {len(rows)} thresholds",
    )
    what = "the file" if in_bytes else "the number of weights"
    caption = f"Up is better, left is smaller ({what}, log scale). The network that was kept is marked."
    if chosen is None:
        caption = f"Up is better, left is smaller ({what}, log scale)."
    return section(title, lead, _grid(figure(svg, "Over thresholds", caption), element("div", _curve_list(rows, cost))))


def _quality(row: Mapping[str, Any]) -> float | None:
    accuracy, error = finite(row.get("val_accuracy")), finite(row.get("val_error"))
    return accuracy if accuracy is not None else None if error is None else 1 - error


def _curve_list(rows: list[Mapping[str, Any]], cost: str) -> Html:
    from pyrosparse.report.figures import percent, size_of
    from pyrosparse.report.markup import table

    body = [
        [
            f"{row['threshold']:g}".replace("-", "\N{MINUS SIGN}"),
            count(row.get("nonzero", row.get("kept"))),
            *([size_of(row.get("bytes"))] if cost == "bytes" else []),
            percent(_quality(row)),
        ]
        for row in rows
    ]
    header = ["Threshold", "Weights", *(["File"] if cost == "bytes" else []), "Accuracy"]
    return table(header, body, caption="The same points as numbers", left=0)


def live_weights(run: Run) -> Html:
    """The first layer as an image of its inputs, then the masks."""
    title, lead = "Which weights live", "Colour is a weight that is kept; blank is one that is gone."
    if not run.sites:
        return section(title, lead, absent("No masks can be drawn:", NO_POSTERIOR))
    sites = list(run.sites.values())
    drawn = [_first(sites[0])] if sites[0].keep.size else []
    drawn += [_mask(i, site) for i, site in enumerate(sites) if site.keep.size and not _is_filters(site, i)]
    return section(title, lead, _grid(*(d for d in drawn if d), small=True))


def _is_filters(site: SiteArrays, index: int) -> bool:
    return index == 0 and site.keep.ndim == 4 and site.keep.shape[1] <= 4


def _first(site: SiteArrays) -> Html:
    """The first layer as a picture of the input or of its filters; nothing if it has no such picture."""
    if _is_filters(site, 0):
        svg = to_svg(images.filter_tiles(site.mean, site.keep), key="first", alt=f"Filters of {site.site}")
        shown = min(math.prod(site.keep.shape[:2]), images.MAX_TILES)
        return figure(svg, site.site, f"{shown} filters. Blue is positive, orange negative, blank pruned.")
    picture = images.image_shape(site.keep.shape[1]) if site.keep.ndim == 2 else None
    if picture is None:
        return Html("")
    counts = site.keep.sum(0).reshape(picture).sum(0)
    alt = f"Live weights of {site.site} at each of the {counts.shape[0]} × {counts.shape[1]} pixels of the input"
    svg = to_svg(images.input_image(counts), key="first", alt=alt)
    dead = int((counts == 0).sum())
    caption = f"How many live weights leave each pixel. {dead:,} of {counts.size:,} pixels are not looked at at all."
    return figure(svg, f"{site.site}, seen from the input", caption)


def _mask(index: int, site: SiteArrays) -> Html:
    kept, keep = int(site.keep.sum()), site.keep
    svg = to_svg(images.mask_image(keep), key=f"mask{index}", alt=f"Keep-mask of {site.site}: {kept} of {keep.size}")
    if keep.ndim < 2:
        return figure(svg, site.site, f"{kept:,} of {keep.size:,} weights live.")
    flat = keep.reshape(keep.shape[0], keep.shape[1], -1).any(-1)
    rows, columns = int(flat.any(1).sum()), int(flat.any(0).sum())
    text = f"{rows:,} of {flat.shape[0]:,} outputs and {columns:,} of {flat.shape[1]:,} inputs have a live weight."
    return figure(svg, site.site, text)


def histograms(run: Run) -> Html:
    """One histogram of log α for each site, on one axis for all."""
    title = "What decides: log α"
    lead = "α = σ² / μ² says how noisy a weight is for its size. Weights right of the line carry no information to speak of."
    if not run.sites:
        return section(title, lead, absent("No histograms can be drawn:", NO_POSTERIOR))
    finite_values = [s.log_alpha[s.present] for s in run.sites.values()]
    everything = np.concatenate([v for v in finite_values if v.size] or [np.zeros(1)])
    low, high = (float(q) for q in np.quantile(everything, (0.0005, 0.9995)))
    if run.threshold is not None:
        low, high = min(low, run.threshold - 1), max(high, run.threshold + 1)
    drawn = []
    for i, (name, site) in enumerate(run.sites.items()):
        alt = f"Histogram of log alpha of {name}: {int(site.keep.sum())} of {site.keep.size} weights kept"
        picture = pictures.log_alpha_histogram(site.log_alpha, threshold=run.threshold, bounds=(low, high))
        gone = int((~site.present).sum())
        caption = f"{gone:,} more weights were cut while fitting and are not drawn." if gone else "All weights of the layer."
        drawn.append(figure(to_svg(picture, key=f"alpha{i}", alt=alt), name, caption))
    line = "no threshold was recorded" if run.threshold is None else f"the threshold is log α = {run.threshold:g}"
    return section(title, f"{lead} Counts are on a log scale; {line}.", _grid(*drawn, small=True))


def posterior(run: Run) -> Html:
    """A few posteriors against zero, and all weights by mean and standard deviation."""
    title, lead = "The posterior at a glance", "Each weight has a Normal posterior. Kept weights are sure not to be zero."
    if not any(site.present.any() for site in run.sites.values()):
        return section(title, lead, absent("No posterior can be drawn:", NO_POSTERIOR))
    labels, mean, std, keep = _examples(run)
    few = to_svg(
        pictures.posteriors(mean, std, keep, labels),
        key="few",
        alt=f"Posteriors of {len(labels)} weights, {int(keep.sum())} kept and {int((~keep).sum())} pruned",
    )
    alive = [s for s in run.sites.values() if s.present.any()]
    everything = pictures.mean_against_std(
        np.concatenate([s.mean[s.present] for s in alive]),
        np.concatenate([s.std[s.present] for s in alive]),
        threshold=run.threshold,
    )
    total = sum(int(s.present.sum()) for s in alive)
    return section(
        title,
        lead,
        _grid(
            figure(
                few,
                "Some weights",
                "Blue: kept, from the surest down to the one nearest the threshold. Grey: pruned; zero is well inside. "
                "Curves are drawn to one height.",
            ),
            figure(
                to_svg(everything, key="all", alt=f"Mean against standard deviation of {total} weights"),
                f"All {total:,} weights",
                "The dashed line is the threshold: below it the mean is large for its uncertainty and the weight is kept. "
                "Stronger colour, more weights.",
            ),
        ),
    )


def _examples(run: Run) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Five kept and four pruned weights of the largest site, spread evenly over the ranks of their relevance."""
    site = max(run.sites.values(), key=lambda s: (bool((s.keep & s.present).any()), int(s.present.sum())))
    order = np.argsort(-site.relevance, axis=None, kind="stable")
    order = order[site.present.ravel()[order]]
    kept = order[site.keep.ravel()[order]]
    cut = order[~site.keep.ravel()[order]]
    picked = np.concatenate([_spread(kept, 5), _spread(cut, 4)]).astype(int)
    labels = [f"{site.site}[{', '.join(str(int(k)) for k in np.unravel_index(i, site.mean.shape))}]" for i in picked]
    return labels, site.mean.ravel()[picked], site.std.ravel()[picked], site.keep.ravel()[picked]


def _spread(ranked: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    if len(ranked) <= number:
        return ranked
    return ranked[np.linspace(0, len(ranked) - 1, number).round().astype(int)]


def history(run: Run) -> Html:
    """The two parts of the ELBO, and what was kept, over the epochs."""
    title, lead = "How the fit went", "The ELBO pays for misfit and for information stored in the weights."
    rows = list(run.history)
    if not rows:
        return section(title, lead, absent("No history was recorded:", "history.jsonl is missing or empty."))
    epoch = _column(rows, "epoch")
    epoch = epoch if np.isfinite(epoch).all() else np.arange(1, len(rows) + 1, dtype=np.float64)
    drawn = []
    fit, kl, beta, kept = (_column(rows, key) for key in ("log_likelihood", "kl", "beta", "kept"))
    if np.isfinite(fit).any() and np.isfinite(kl).any():
        svg = to_svg(pictures.elbo(epoch, fit, kl, beta), key="elbo", alt="Minus log-likelihood, KL and beta by epoch")
        text = "−ELBO = −log-likelihood + KL, in nats over the training set. Below: β, the weight on the KL while fitting."
        drawn.append(figure(svg, "ELBO = log-likelihood − KL", text))
    else:
        drawn.append(absent("The parts of the ELBO were not recorded."))
    if np.isfinite(kept).any():
        total = finite(rows[0].get("total"))
        svg = to_svg(
            pictures.kept_over_time(epoch, kept, total=total, units=_units(run, rows)),
            key="kept",
            alt=f"Weights kept by epoch, {count(kept[-1])} at the end",
        )
        text = "Weights below the threshold at the end of each epoch"
        drawn.append(figure(svg, "What is left", f"{text}; below, the units that live shrinking left in each layer."))
    else:
        drawn.append(absent("The number of weights kept was not recorded."))
    return section(title, lead, _grid(*drawn))


def _units(run: Run, rows: list[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Units of each layer by epoch, from tables or lists; empty if they were not recorded or never change."""
    given = [row.get("units") for row in rows]
    if all(isinstance(u, Mapping) and u for u in given):
        tables = [u for u in given if isinstance(u, Mapping)]
        lines = {str(k): [_number(u.get(k)) for u in tables] for k in tables[0]}
    elif all(isinstance(u, list) and u for u in given) and len({len(u) for u in given if isinstance(u, list)}) == 1:
        lists = [u for u in given if isinstance(u, list)]
        sites = list(run.sites)
        names = [s.rpartition(".")[0] or s for s in sites] if len(sites) == len(lists[0]) else []
        lines = {(names[i] if names else f"layer {i + 1}"): [_number(u[i]) for u in lists] for i in range(len(lists[0]))}
    else:
        return {}
    return {name: np.array(values) for name, values in lines.items()}


def _number(value: Any) -> float:
    number = finite(value)
    return math.nan if number is None else number
