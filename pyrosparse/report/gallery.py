"""The parts of a report that are pictures: each picks arrays out of a run, draws them and says what to see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrosparse.report import curves, images, pictures
from pyrosparse.report.figures import count, decimal, finite, percent, size_of
from pyrosparse.report.markup import Html, element, figure, section, table
from pyrosparse.report.read import LOG_ALPHA, Run, SiteArrays
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
    lead = "Each point is the network pruned at another threshold and measured on validation data, without fine-tuning."
    rows = [r for r in run.rows("curve") if finite(r.get("threshold")) is not None]
    accuracy = any(finite(r.get("val_accuracy")) is not None for r in (*rows, *run.rows("stages")))
    rows = [r for r in rows if _quality(r, accuracy) is not None]
    cost = next((k for k in ("bytes", "nonzero", "kept") if rows and np.isfinite(_column(rows, k)).all()), "")
    if not cost:
        return section(title, lead, absent("No curve was computed."))
    chosen = _chosen(run, rows)
    quality = np.array([_quality(r, accuracy) for r in rows], dtype=np.float64)
    svg = to_svg(
        curves.quality_against_size(
            _column(rows, cost),
            quality,
            accuracy=accuracy,
            in_bytes=cost == "bytes",
            chosen=chosen,
            note="" if chosen is None else _note(rows[chosen], accuracy, run.statistic),
            reference=finite(run.stage("dense").get("val_accuracy" if accuracy else "val_error")),
        ),
        key="tradeoff",
        alt=f"Validation {'accuracy' if accuracy else 'error'} against "
        f"{'file size' if cost == 'bytes' else 'weights kept'} at {len(rows)} thresholds",
    )
    marked = "" if chosen is None else " The threshold that was used is marked."
    caption = f"{'Up' if accuracy else 'Down'} is better, left is smaller.{marked}"
    if accuracy:
        caption += " The accuracy axis is stretched towards 100 % where errors differ much."
    return section(
        title,
        lead,
        _grid(
            figure(svg, "Over thresholds", caption),
            _points(rows, cost, chosen, accuracy=accuracy, statistic=run.statistic),
        ),
    )


def _note(row: Mapping[str, Any], accuracy: bool, statistic: str) -> str:
    quality = _quality(row, accuracy)
    written = percent(quality) if accuracy else decimal(quality, 4)
    place = f"{size_of(row['bytes'])}, " if finite(row.get("bytes")) is not None else ""
    return f"chosen: {statistic} ≤ {float(row['threshold']):.3g}\n{place}{written}"


def _chosen(run: Run, rows: list[Mapping[str, Any]]) -> int | None:
    marked = [i for i, row in enumerate(rows) if row.get("chosen") is True]
    if marked or run.threshold is None:
        return marked[0] if marked else None
    away = np.abs(_column(rows, "threshold") - run.threshold)
    return int(away.argmin()) if away.min() < 1e-6 else None


def _quality(row: Mapping[str, Any], accuracy: bool) -> float | None:
    error, known = finite(row.get("val_error")), finite(row.get("val_accuracy"))
    if not accuracy:
        return error
    return known if known is not None else None if error is None else 1 - error


def _points(rows: list[Mapping[str, Any]], cost: str, chosen: int | None, *, accuracy: bool, statistic: str) -> Html:
    """The points of the curve as a table."""
    body = []
    for i, row in enumerate(rows):
        quality = _quality(row, accuracy)
        cells = [
            f"{float(row['threshold']):.3g}".replace("-", "\N{MINUS SIGN}"),
            count(row.get("nonzero", row.get("kept"))),
            *([size_of(row.get("bytes"))] if cost == "bytes" else []),
            percent(quality) if accuracy else decimal(quality, 4),
        ]
        body.append([element("strong", cell) for cell in cells] if i == chosen else cells)
    header = [f"{statistic} ≤", "Non-zero", *(["File"] if cost == "bytes" else []), "Accuracy" if accuracy else "Error"]
    return table(header, body, caption="The points of the curve as numbers", left=0)


def live_weights(run: Run) -> Html:
    """The first layer as an image of its inputs, then the masks."""
    title, lead = "Which weights live", "Colour is a weight that is kept; blank is one that is gone."
    if not run.sites:
        return section(title, lead, absent("No masks can be drawn:", NO_POSTERIOR))
    sites = list(run.sites.values())
    drawn = [_first(sites[0], run.example_shape)] if sites[0].keep.size else []
    drawn += [_mask(i, site) for i, site in enumerate(sites) if site.keep.size and not _is_filters(site, i)]
    return section(title, lead, _grid(*(d for d in drawn if d), small=True))


def _is_filters(site: SiteArrays, index: int) -> bool:
    return index == 0 and site.keep.ndim == 4 and site.keep.shape[1] <= 4


def _first(site: SiteArrays, example: tuple[int, ...] | None) -> Html:
    """The first layer as a picture of the input or of its filters; nothing if it has no such picture."""
    if _is_filters(site, 0):
        of_complex = site.complex_mean is not None
        tiles = images.filter_tiles(site.mean if site.complex_mean is None else site.complex_mean, site.keep)
        svg = to_svg(tiles, key="first", alt=f"Filters of {site.site}")
        shown = min(math.prod(site.keep.shape[:2]), images.MAX_TILES)
        colours = (
            "The hue is the phase (0 is red, 2π/3 green, −2π/3 blue), its strength the modulus"
            if of_complex
            else "Blue is positive, orange negative"
        )
        return figure(svg, site.site, f"{shown} filters. {colours}, blank pruned.")
    picture = images.image_shape(site.keep.shape[1], example) if site.keep.ndim == 2 else None
    if picture is None:
        return Html("")
    counts = site.keep.sum(0).reshape(picture).sum(0)
    alt = f"Live weights of {site.site} at each of the {counts.shape[0]} × {counts.shape[1]} pixels of the input"
    svg = to_svg(images.input_image(counts), key="first", alt=alt)
    dead = int((counts == 0).sum())
    caption = f"How many live weights leave each pixel; {dead:,} of {counts.size:,} pixels are never looked at."
    return figure(svg, f"{site.site}, seen from the input", caption)


def _mask(index: int, site: SiteArrays) -> Html:
    kept, keep = int(site.keep.sum()), site.keep
    svg = to_svg(images.mask_image(keep), key=f"mask{index}", alt=f"Keep-mask of {site.site}: {kept} of {keep.size}")
    if keep.ndim < 2:
        return figure(svg, site.site, f"{kept:,} of {keep.size:,} weights live.")
    others = tuple(range(2, keep.ndim))
    rows, columns = int(keep.any((1, *others)).sum()), int(keep.any((0, *others)).sum())
    text = f"{rows:,} of {keep.shape[0]:,} outputs and {columns:,} of {keep.shape[1]:,} inputs have a live weight."
    return figure(svg, site.site, text)


def histograms(run: Run) -> Html:
    """One histogram of log α for each site, on one axis for all."""
    title = f"What decides: {run.statistic}"
    lead = "α = σ² / μ² says how noisy a weight is for its size; right of the line the noise wins and the weight goes."
    if run.statistic != LOG_ALPHA:
        lead = "Weights of a group share a scale and the number that decides on it; right of the line they go."
    if not run.sites:
        return section(title, lead, absent("No histograms can be drawn:", NO_POSTERIOR))
    known = [s.log_alpha[s.present] for s in run.sites.values()]
    everything = np.concatenate([v for v in known if v.size] or [np.zeros(1)])
    low, high = (float(q) for q in np.quantile(everything, (0.0005, 0.9995)))
    if run.threshold is not None:
        low, high = min(low, run.threshold - 1), max(high, run.threshold + 1)
    drawn = []
    for i, (name, site) in enumerate(run.sites.items()):
        gone = int((~site.present).sum())
        alt = f"Histogram of log alpha of {name}: {int(site.keep.sum())} of {site.keep.size} weights kept"
        picture = pictures.log_alpha_histogram(
            site.log_alpha, threshold=run.threshold, bounds=(low, high), name=run.statistic
        )
        caption = "The bar at the right: weights cut while fitting, at exactly 0 since." if gone else ""
        lost = (
            0 if run.threshold is None else int((site.present & ~site.keep & (site.log_alpha <= run.threshold)).sum())
        )
        caption += f" Of those below the line, {lost:,} went with dead units." if lost else ""
        drawn.append(figure(to_svg(picture, key=f"alpha{i}", alt=alt), name, caption))
    line = "no threshold was recorded" if run.threshold is None else f"the threshold is {run.threshold:.3g}"
    return section(title, f"{lead} Counts are on a log scale; {line}.", _grid(*drawn, small=True))


def posterior(run: Run) -> Html:
    """A few posteriors against zero, and all weights by mean and standard deviation."""
    title = "The posterior at a glance"
    lead = "Each weight has a posterior of mean μ and standard deviation σ; whether it is kept is asked of its group."
    if of_weights := run.statistic == LOG_ALPHA:
        lead = "Each weight has a Normal posterior N(μ, σ²). A weight is kept when μ is large for its σ; "
        lead += "one that is mostly noise around zero is not worth its bits."
    if any(s.complex_mean is not None for s in run.sites.values()):
        lead += (
            " Of complex weights, μ is the modulus of the mean and σ² the total variance; the direction of the mean, "
            "along which the curves are drawn, has one half of it in a circular posterior, and more or less in others."
        )
    alive = [s for s in run.sites.values() if s.present.any()]
    if not alive:
        return section(title, lead, absent("No posterior can be drawn:", NO_POSTERIOR))
    site = max(alive, key=lambda s: int(s.keep.sum()))
    labels, mean, std, keep = examples(site)
    few = to_svg(
        pictures.posteriors(mean, std, keep, labels),
        key="few",
        alt=f"Posteriors of {len(labels)} weights of {site.site}, {int(keep.sum())} kept and {int((~keep).sum())} not",
    )
    whole = pictures.mean_against_std(
        np.concatenate([s.mean[s.present] for s in alive]),
        np.concatenate([s.std[s.present] for s in alive]),
        threshold=run.threshold if of_weights else None,
    )
    total = sum(int(s.present.sum()) for s in alive)
    gone = sum(s.keep.size for s in run.sites.values()) - total
    rest = f" The other {gone:,} were cut while fitting." if gone else ""
    return section(
        title,
        lead,
        _grid(
            figure(
                few,
                f"Some weights of {site.site}",
                "Blue is kept, surest first; grey is pruned. From each band of relevance the weight with the "
                "largest |μ|; all curves are drawn to one height.",
            ),
            figure(
                to_svg(whole, key="all", alt=f"Mean against standard deviation of {total} weights"),
                f"All {total:,} weights that have a posterior",
                ("Below the dashed line, the threshold, the mean is large enough for its uncertainty. " * of_weights)
                + f"Stronger colour, more weights.{rest}",
            ),
        ),
    )


def examples(site: SiteArrays) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Pick weights that show what kept and pruned look like.

    Kept and pruned weights are each ranked by relevance and cut into bands, and each band gives the one of
    largest mean; where no pruned weight has a posterior left, a weight that was cut stands for them.

    :returns: labels, means, standard deviations (of complex weights in the direction of the mean), whether kept.
    """
    order = np.argsort(-site.relevance, axis=None, kind="stable")
    keep, present, size = site.keep.ravel()[order], site.present.ravel()[order], np.abs(site.mean).ravel()
    bands = [*_bands(order[keep & present], 5), *_bands(order[~keep & present], 4)]
    picked = [int(band[size[band].argmax()]) for band in bands]
    if (keep | ~present).all():
        picked += [int(i) for i in order[~present][:1]]
    where = np.array(picked, dtype=int)
    places = np.unravel_index(where, site.mean.shape)
    labels = [f"[{', '.join(str(int(i)) for i in place)}]" for place in zip(*places, strict=True)]
    std = site.std if site.along is None else site.along
    return labels, site.mean.ravel()[where], std.ravel()[where], site.keep.ravel()[where]


def _bands(ranked: NDArray[np.int64], number: int) -> list[NDArray[np.int64]]:
    return [band for band in np.array_split(ranked, number) if band.size]


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
        svg = to_svg(curves.elbo(epoch, fit, kl, beta), key="elbo", alt="Minus log-likelihood, KL and beta by epoch")
        text = (
            "−ELBO = −log-likelihood + KL, in nats over the training set. Below: β, the weight of the KL while fitting."
        )
        drawn.append(figure(svg, "ELBO = log-likelihood − KL", text))
    else:
        drawn.append(absent("The parts of the ELBO were not recorded."))
    if np.isfinite(kept).any():
        total = finite(rows[0].get("total"))
        svg = to_svg(
            curves.kept_over_time(epoch, kept, total=total, units=_units(run, rows)),
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
        names = names or [f"layer {i + 1}" for i in range(len(lists[0]))]
        lines = {name: [_number(u[i]) for u in lists] for i, name in enumerate(names)}
    else:
        return {}
    return {name: np.array(values) for name, values in lines.items()}


def _number(value: Any) -> float:
    number = finite(value)
    return math.nan if number is None else number
