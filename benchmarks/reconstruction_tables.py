"""Tables of linear reconstruction for benchmarks/README.md."""

from __future__ import annotations

from typing import Any

from cells import read, spread, verdicts
from rows import spread as spread_of

__all__ = ["alexnet", "reconstructions", "solvers", "together"]

TITLES = {
    "lenet_300_100": "LeNet-300-100, no shifts",
    "lenet_300_100-shifts": "LeNet-300-100, pixel shifts of ±1",
    "lenet_5_caffe": "LeNet-5-Caffe, pixel shifts of ±1",
}
# test error in percent that was asked of the dense networks
BASELINES = {"lenet_300_100": 1.68, "lenet_300_100-shifts": 1.68}


def reconstructions() -> list[str]:
    """Table of linear reconstruction."""
    lines, notes = [], []
    for name, title in TITLES.items():
        result = read(f"reconstruction-{name}")
        if result is None:
            continue
        notes += [f"- {title}: {'; '.join(result['aids'])}."] if result.get("aids") else []
        for row, medians in result["medians"].items():
            kib, error = (spread_of([seed[row][key] for seed in result["seeds"]]) for key in ("kib", "test_error"))
            asked = medians.get("asked")
            said = "" if asked is None else f"≤ {asked['kib']:g} KiB, ≤ {100 * asked['error']:.2f} %"
            met = "" if asked is None else "met" if medians["met"] else "**not met**"
            if row == "dense" and name in BASELINES:
                said = f"≤ {BASELINES[name]:.2f} %"
                met = "met" if 100 * error["median"] <= BASELINES[name] else "**not met**"
            cells = (title, row, spread(dict(kib), 1), spread(dict(error), 2, 100), said, met)
            lines.append("| " + " | ".join(cells) + " |")
    if not lines:
        return []
    head = [
        "## Linear reconstruction, MNIST",
        "",
        "KiB of float32 weights, biases and indices; medians of three seeds. Retraining takes soft labels of the dense",
        "network itself. Earlier recipes without shifts and dropout had test errors of 1.69 % (dense), 1.68 % (plain,",
        "185 KiB) and 1.65 % (retrained) with hard labels and no weight decay (seeds 40 to 42), and of 1.68 %, 1.75 %",
        "and 1.70 % (159 KiB) with soft labels and weight decay (seeds 43 to 45).",
        "",
        "| network | row | KiB | test error % | asked | |",
    ]
    return [*head, "|---|---|---|---|---|---|", *lines, "", *notes, *([""] if notes else [])]


def alexnet() -> list[str]:
    """Table of AlexNet's layers on synthetic moments."""
    result = read("reconstruction_alexnet")
    if result is None or not result.get("complete"):
        return []
    lines = [
        "## AlexNet on synthetic data",
        "",
        "Layer by layer, on inputs of uneven strength that are correlated through half as many factors: correctness "
        "and time, not accuracy.",
        "",
        "| layer | columns | units kept | relative error | on fresh draws | relative gap | path, s | MiB | MiB after |",
        "|---" * 9 + "|",
    ]
    for row in result["layers"]:
        cells = (
            row["layer"],
            f"{row['columns']:,}",
            f"{row['kept']:,}",
            f"{row['error']:.4f}",
            f"{row['error_of_draws']:.4f}",
            f"{row['gap']:.0e}",
            f"{row['path_seconds']:.1f}",
            f"{row['mib_before']:.1f}",
            f"{row['mib']:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    whole = result["network"]
    lines += [
        "",
        f"- The whole network on {whole['images']} images: {whole['mib_before']:.0f} → {whole['mib']:.1f} MiB in "
        f"{whole['seconds']:.0f} s; taking the units out changes outputs by {whole['cut_changes_outputs_by']:.0e}. "
        "So few images say nothing of others.",
        f"- Correct in every respect: {'yes' if result['correct'] else '**no**'}.",
    ]
    return [*lines, ""]


def together() -> list[str]:
    """Table of reconstruction with a posterior, against each alone."""
    result = read("reconstruction-together")
    if result is None or "level" not in result["recipe"]:
        return []
    lines = [
        "## Reconstruction together with a posterior, LeNet-300-100",
        "",
        f"The smallest file of each row whose validation error is at most {100 * result['recipe']['level']:.1f} %, the "
        "same for every row and seed.",
        "",
        "| row | bytes | file | validation error % | test error % | CPU min a seed | within the level |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, figures in result["rows"].items():
        cells = (
            row,
            spread(figures["bytes"]),
            spread(figures["file"]),
            spread(figures["val_error"], 2, 100),
            spread(figures["test_error"], 2, 100),
            spread(figures["cpu_seconds"], 1, 1 / 60),
            ("every seed" if figures["within"] else "**not every seed**")
            + (f"; at an end of its grid: {', '.join(figures['edges'])}" if figures["edges"] else ""),
        )
        lines.append("| " + " | ".join(cells) + " |")
    gains = [
        f"- {both}: {spread(times, 2)} times smaller than {one}."
        for both, alone in result["gains"].items()
        for one, times in alone.items()
    ]
    return [*lines, "", *gains, ""]


def solvers() -> list[str]:
    """Table of the group lasso's solvers."""
    result = read("reconstruction_solvers")
    if result is None:
        return []
    names = list(result["rows"][0]["times_newton"])
    others = [name for name in names if name != "Newton"]
    lines = [
        "## Group lasso, relative duality gap 1e-6, one thread",
        "",
        "| problem | λ/λ_max | kept | Newton, CPU ms | "
        + " | ".join(f"{name}, times Newton" for name in others)
        + " |",
        "|---" * (4 + len(others)) + "|",
    ]
    for row in result["rows"]:
        short = row.get("lower_bound", [])
        times = [
            f"{'> ' if name in short else ''}{row['times_newton'][name]:.1f}"
            + ("" if row["reached"][name] or name in short else " (gap missed)")
            for name in others
        ]
        cells = (
            row["problem"],
            f"{row['ratio']:g}",
            str(row["kept"]),
            f"{1e3 * row['cpu_seconds']['Newton']:.1f}",
            *times,
        )
        lines.append("| " + " | ".join(cells) + " |")
    bounds = "; ".join(
        f"{name}: {'at every step' if _held(found) else '**not held**'}"
        for name, found in result["fista_bound"].items()
    )
    lines += ["", *verdicts(result["verdict"], "{:.1f}"), f"- The bound of FISTA holds: {bounds}."]
    if any(row.get("lower_bound") for row in result["rows"]):
        limit = result["settings"]["limit_cpu_seconds"]
        lines.append(f'- A "> " is a lower bound: the solver had not reached the gap after {limit} CPU seconds.')
    if not result.get("complete"):
        lines.append(f"- {len(result['rows'])} of {result.get('rows_asked', 8)} rows have been measured.")
    return [*lines, ""]


def _held(bound: bool | dict[str, Any]) -> bool:
    return bound if isinstance(bound, bool) else bool(bound["holds"])
