"""Tables and pictures of the complex networks in benchmarks/README.md."""

from __future__ import annotations

import itertools
import json
from typing import Any

from cells import read, spread
from common import RESULTS
from complex_mnist import STUDY as MNIST
from complex_rows import Study
from complex_twins import STUDY as TWINS
from curves import round_ticks
from matplotlib.figure import Figure

COLOURS = ("#0b6e99", "#d9730d", "#4f7a28", "#9b51e0", "#b3392f", "#5f5b56")
GROUPS = {
    "MNIST, complex networks": (MNIST, ["conv-fft", "dense-fft"]),
    "Complex networks, real twins and phase": (TWINS, ["flevoland", "fsdd"]),
}


ABOUT = (
    "Rates count the numbers of the weights, two for a complex one, and not the biases, of networks in memory, not "
    "yet rounded; what is chosen is the lowest validation error after fine-tuning of at least the rate. *β* is the KL "
    "weight of the chosen points: above 1 the prior is over-weighted, below it the posterior is a cold one. *Dense* "
    "has fewer epochs than path and fine-tuning have; where it was trained for as many, a line below says so."
)


def _weights(study: Study, row: str, seeds: list[int], asked: str) -> str:
    """KL weights of the points that the seeds have chosen."""
    found = [json.loads((RESULTS / f"{study.name}-{row}-seed{seed}.json").read_text()) for seed in seeds]
    betas = sorted({f["chosen"][asked]["kl_weight"] for f in found})
    return f"{betas[0]:g}" if len(betas) == 1 else f"{betas[0]:g} to {betas[-1]:g}"


def _row(study: Study, result: dict[str, Any]) -> list[str]:
    """Lines of one row: the dense network, then each rate."""
    dense = spread(result["dense"]["test_error"], 2, 100)
    minutes = spread(result["cpu_seconds"], 1, 1 / 60)
    lines = [f"| {result['row']} | 1 | | {dense} | | | {result['parameters']:,} | {minutes} |"]
    for asked, found in result["rates"].items():
        if "rate" not in found:
            missed = f"{found['seeds_that_missed_it']} of {len(result['seeds'])} seeds did not reach it"
            lines.append(f"| | ≥ {asked} | | {missed} | | | | |")
            continue
        before, after, above = (spread(found[key], 2, 100) for key in ("before", "after", "above_dense"))
        beta = _weights(study, result["row"], result["seeds"], asked)
        lines.append(f"| | {spread(found['rate'], 0)} | {beta} | {after} | {before} | {above} | | |")
    return lines


def _curve(study: Study, prefix: str) -> list[str]:
    """Draw validation error after fine-tuning against the rate: of each seed, the points that no other one beats.

    Dotted are the dense networks.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    rows = [name for name in study.rows if name.startswith(f"{prefix}-")]
    drawn = False
    for colour, row in zip(itertools.cycle(COLOURS), rows, strict=False):
        label: str | None = row
        for path in sorted(RESULTS.glob(f"{study.name}-{row}-seed*.json")):
            seed = json.loads(path.read_text())
            points = [(p["rate"], 100 * p["val_error"]["after"]) for p in seed["curve"]]
            best = sorted(p for p in points if not any(q[0] > p[0] and q[1] <= p[1] for q in points))
            axes.plot(*zip(*best, strict=True), "o-", color=colour, markersize=3, linewidth=1, label=label)
            axes.axhline(100 * seed["dense"]["val_error"], color=colour, linewidth=0.5, linestyle=":")
            label, drawn = None, True
    if not drawn:
        return []
    low, high = axes.get_ylim()
    axes.set(xscale="log", xlabel="times fewer numbers", ylabel="validation error after fine-tuning, %")
    axes.set(yscale="log" if high > 3 * low > 0 else "linear")
    round_ticks(axes.xaxis)
    round_ticks(axes.yaxis)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False, loc="upper left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    name = f"{study.name}-{prefix}.svg"
    figure.savefig(RESULTS / name, metadata={"Date": None})
    return ["", f"![{prefix}: validation error against compression, one line a seed; dotted: dense](results/{name})"]


def _recipes(study: Study, found: dict[str, dict[str, Any]]) -> list[str]:
    """What the networks were trained with, and the rows that have not been run."""
    lines: dict[str, list[str]] = {}
    for name, result in found.items():
        path = result["recipe"]["path"]
        epochs = path["first_epochs"] + (len(path["kl_weights"]) - 1) * path["step_epochs"]
        weights, thresholds = (", ".join(f"{v:g}" for v in path[key]) for key in ("kl_weights", "thresholds"))
        text = (
            f"{path['dense_epochs']} dense epochs, a path of {epochs} with KL weights {weights}, cut at log α "
            f"{thresholds}, each point fine-tuned for {path['tune_epochs']} at {path['tune_lr']:g}"
        )
        if path.get("teacher_weight"):
            text += (
                f", {path['teacher_weight']:.0%} of the labels its dense network's opinion at temperature "
                f"{path['teacher_temperature']:g}; the last epoch is taken"
            )
        lines.setdefault(text, []).append(name)
    seeds: dict[str, list[str]] = {}
    for name, result in found.items():
        seeds.setdefault(", ".join(map(str, result["seeds"])), []).append(name)
    lines |= {f"seeds {numbers}": [", ".join(rows)] for numbers, rows in seeds.items()}
    missing = [row for row in study.rows if row not in found]
    return [f"- {', '.join(names)}: {text}." for text, names in lines.items()] + (
        [f"- not run yet: {', '.join(missing)}."] if missing else []
    )


def _worth_of_phase(found: dict[str, dict[str, Any]]) -> list[str]:
    """How much the test error rises without phases, and with phases at random: medians over seeds, dense and cut."""
    lines = []
    for row, result in found.items():
        if not row.endswith("-complex"):
            continue
        other_rows = {kind: row.replace("-complex", f"-{kind}") for kind in ("modulus", "scrambled")}
        others = {kind: found[name] for kind, name in other_rows.items() if name in found}
        for asked in ("1", *result["rates"]):
            median = _median(result, asked)
            rises = {kind: rise for kind, other in others.items() if (rise := _median(other, asked)) is not None}
            if median is None or not rises:
                continue
            words = ", ".join(f"{100 * (m - median):+.2f} with {kind}" for kind, m in rises.items())
            at = "dense" if asked == "1" else f"at ×{asked}"
            lines.append(f"- {row.removesuffix('-complex')} {at}: {100 * median:.2f} % with phase; points: {words}.")
    return lines


def _long(found: dict[str, dict[str, Any]]) -> list[str]:
    """What the dense networks come to when they are trained for as long as the whole path."""
    lines = []
    for row, result in found.items():
        long = read(f"complex_long-{row}")
        if long is None:
            continue
        dense = spread(long["test_error"], 2, 100)
        above = (
            f"{100 * (figure['after']['median'] - long['test_error']['median']):+.2f} at ×{asked}"
            for asked, figure in result["rates"].items()
            if "after" in figure
        )
        lines.append(
            f"- {row}: its dense network trained for {long['epochs']} epochs, as many as path and fine-tuning have, "
            f"comes to {dense} %; points above that one: {', '.join(above)}."
        )
    return lines


def _median(result: dict[str, Any], asked: str) -> float | None:
    """Median test error of the dense network ("1") or after fine-tuning; None where a seed missed the rate."""
    figure = result["dense"]["test_error"] if asked == "1" else result["rates"][asked].get("after")
    return None if figure is None else float(figure["median"])


def complex_networks() -> list[str]:
    """Tables of complex networks and their twins, curves below each group."""
    lines: list[str] = []
    for title, (study, prefixes) in GROUPS.items():
        found = [
            json.loads(path.read_text())
            for row in study.rows
            if (path := RESULTS / f"{study.name}-{row}.json").exists()
        ]
        if not found:
            continue
        head = "| row | times fewer numbers | β | test error % | before fine-tuning | above dense, points | numbers "
        lines += [f"## {title}", "", ABOUT, "", head + "| CPU min a seed |", "|---|---|---|---|---|---|---|---|"]
        for result in found:
            lines += _row(study, result)
        lines.append("")
        lines += [f"- {part}: {text}." for part, text in study.splits.items()]
        lines += _recipes(study, {result["row"]: result for result in found})
        lines += [f"- seen before on the test set: {text}." for text in study.trials]
        if study is MNIST:
            lines += [f"- otherwise than the paper: {text}." for text in found[0]["otherwise_than_the_paper"]]
        lines += _worth_of_phase({result["row"]: result for result in found})
        lines += _long({result["row"]: result for result in found})
        for result in found:
            for claim in result["verdict"]:
                above = claim["above_dense"]
                measured = "not reached" if above is None else f"{100 * above:+.2f}"
                at_most = f"{100 * claim['above_dense_at_most']:+.2f}"
                bar = f"×{claim['rate']:g} at most {at_most} points above its dense network"
                met = "met" if claim["met"] else "**not met**"
                lines.append(f"- asked: {result['row']} {bar}; measured {measured}: {met}.")
        for prefix in prefixes:
            lines += _curve(study, prefix)
        lines.append("")
    return [*lines, *_baselines(), *_steps(), *_forms()]


NAMES = {
    "posterior": "posterior (C-VD), steps of its deviations",
    "modulus": "modulus, cut at once",
    "modulus-in-rounds": "modulus, cut in rounds",
    "l1": "ℓ1 on moduli",
}


def _baselines() -> list[str]:
    """Table of the posterior and what cuts by size, with files."""
    result = read("complex_baselines")
    if result is None:
        return []
    settings = result["settings"]
    lines = [
        "## Complex weights: the posterior and its baselines",
        "",
        f"{result['row']}, seeds {', '.join(map(str, result['seeds']))}: the points of the table above, tuned again "
        "with other batches, and, with as many weights, what else starts from the same dense network and has as many "
        "epochs in all. Files: the posterior's is rounded by its deviations, the others' by "
        f"{settings['clusters']} centres of k-means in the "
        "plane for each layer. Penalty and learning rates of the baselines were chosen on seed 39, on validation data.",
        "",
        "| | times fewer numbers | test error % | bytes | of the file, % |",
        "|---|---|---|---|---|",
    ]
    for rate, rows in result["rates"].items():
        lines.append(f"| **×{rate}** | | | | |")
        for name, row in rows.items():
            errors = spread(row["test_error"], 2, 100), spread(row["file_test_error"], 2, 100)
            lines.append(
                f"| {NAMES[name]} | {spread(row['rate'])} | {errors[0]} | {spread(row['bytes'])} | {errors[1]} |"
            )
    return [*lines, ""]


def _forms() -> list[str]:
    """Table of the forms in which complex maps can be computed."""
    result = read("complex_forms")
    if result is None:
        return []
    lines = [
        "## Forms of complex maps",
        "",
        "Time of forward and backward pass, one thread, complex64, best of interleaved runs, of that of the first "
        "form; medians over shapes (in the JSON one by one). In bold what the library takes.",
        "",
        "| map | | | | |",
        "|---|---|---|---|---|",
    ]
    for kind, medians in result["medians"].items():
        taken = "chosen" if kind == "bilinear" else "native" if kind == "linear" else "blocks"
        cells = [f"**{k} {v:.2f}**" if k == taken else f"{k} {v:.2f}" for k, v in medians.items()]
        lines.append(f"| {kind} | {' | '.join([*cells, *[''] * (4 - len(cells))])} |")
    return [*lines, ""]


def _steps() -> list[str]:
    result = read("complex_step_time")
    if result is None:
        return []
    lines = [
        "## Step time of complex networks",
        "",
        f"Batch {result['batch']}, {result['threads']} thread, medians of ",
    ]
    lines[-1] += f"{result['rounds']} interleaved rounds of {result['steps']} steps; cplxmodule {result['cplxmodule']}."
    for network in result["networks"].values():
        claim = network["verdict"]
        lines += ["", f"| {claim['claim']} | ms a step | of cplxmodule, approximate KL |", "|---|---|---|"]
        for name, row in network["rows"].items():
            lines.append(f"| {name} | {row['ms']:.1f} | {row['to_cplxmodule_approximate']:.2f} |")
        met = "met" if claim["met"] else "**not met**"
        lines += [
            "",
            f"- asked: at most {claim['asked']:.2f} with the exact KL; measured {claim['measured']:.2f}: {met}.",
        ]
    return [*lines, ""]
