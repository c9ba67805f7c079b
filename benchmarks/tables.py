"""Turn the JSON in benchmarks/results into the tables of benchmarks/README.md, and draw the trade-off curves.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from typing import Any

from coding_tables import coders, random_codes
from common import FOLDER, RESULTS
from complex_tables import complex_networks
from curves import curve

README = FOLDER / "README.md"
INTRO = """# Benchmarks

Every figure here was written by a script in this folder; the JSON behind it, with recipe, seeds and versions, is in
`results/`. `python benchmarks/tables.py` makes this page from them. MNIST is looked for in
`$PYROSPARSE_DATA/mnist`, the four idx files.

Protocol: medians over seeds, with the lowest and the highest in brackets. The last 5,000 training images are the
validation data; thresholds, steps and epochs are chosen on them. Recipes are tuned on other seeds than those of the
tables (`--tune`), and the test set is looked at once a seed, at the end. *params* is weights over non-zero weights;
*file* is float32 bytes of all parameters of the original network over bytes of the `.psz` file on disk, with biases,
masks, index maps and header. Both are of the network that is read back from the file, and so is the error beside
them. Sampling alone moves a test error on MNIST by ±0.13 points (LeNet-300-100) and ±0.10 (LeNet-5).
"""


def read(name: str) -> dict[str, Any] | None:
    """One result, or None when its script has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def spread(figure: dict[str, float], digits: int = 0, scale: float = 1.0) -> str:
    """Median with the range of the seeds."""
    median, low, high = (f"{scale * figure[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def compression(network: str, rows: dict[str, str]) -> list[str]:
    """Table of one network."""
    lines = [
        "| row | params | file | bytes | test error % | before rounding: params, test error % | dense: test error % "
        "| CPU min a seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for row, title in rows.items():
        result = read(f"{network}-{row}")
        if result is None:
            notes.append(f"- {title}: not run yet.")
            continue
        file, pruned = result["file"], result["pruned"]
        teacher = f" + {result['teacher_cpu_seconds'] / 60:.1f} once" if result["teacher_cpu_seconds"] else ""
        cells = (
            title,
            spread(file["params"]),
            spread(file["ratio"]),
            spread(file["bytes"]),
            spread(file["test_error"], 2, 100),
            f"{spread(pruned['params'])}, {spread(pruned['test_error'], 2, 100)}",
            spread(result["dense"]["test_error"], 2, 100),
            spread(result["cpu_seconds"], 1, 1 / 60) + teacher,
        )
        lines.append("| " + " | ".join(cells) + " |")
        units = "; ".join("-".join(map(str, u)) for u in result["units"])
        aids = ", ".join(result["recipe"]["aids"]) or "none"
        notes.append(f"- {title}: seeds {', '.join(map(str, result['seeds']))}; units {units}; aids: {aids}.")
        for claim in result["verdict"]:
            met = "met" if claim["met"] else "**not met**"
            notes.append(
                f"  - asked: {claim['figure']} ≥ {claim['asked']:g} at ≤ {100 * claim['at_most_error']:.2f} %; "
                f"measured {claim['measured']:.0f} at {100 * claim['test_error']:.2f} %: {met}."
            )
    empty = 2  # the two lines of the header
    return [*lines, "", *notes] if len(lines) > empty else notes


def verdicts(claims: list[dict[str, Any]], scale: str = "{:.2f}") -> list[str]:
    """What was asked, what was measured, and whether it is met."""
    lines = []
    for claim in claims:
        met = "met" if claim["met"] else "**not met**"
        least = "at least " if claim.get("at_least") else ""
        lines.append(f"- {claim['claim']}: asked {scale.format(claim['asked'])}, measured {least}"
                     f"{scale.format(claim['measured'])}: {met}.")  # fmt: skip
    return lines


def whole_units() -> list[str]:
    """Table of the group methods, one row each, with the four rates."""
    found = [
        r for r in (read(p.stem) for p in sorted(RESULTS.glob("lenet_groups-*.json")) if "-seed" not in p.stem) if r
    ]
    if not found:
        return []
    lines = [
        "## Whole units",
        "",
        "*dense* is weights over weights of the smaller dense network; *bits* counts these at",
    ]
    lines += ["the bits of each layer's posterior precision, an estimate.", ""]
    lines += ["| row | params | dense | bits | file | test error % | dense: test error % | CPU min a seed |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    notes = []
    for result in found:
        row = result["row"].removeprefix("lenet_groups-")
        rates = [
            spread(result["rates"][key], 1 if key == "dense" else 0) for key in ("params", "dense", "bits", "file")
        ]
        errors = [spread(result[key], 2, 100) for key in ("test_error", "dense_test_error")]
        cells = (row, *rates, *errors, spread(result["cpu_seconds"], 1, 1 / 60))
        lines.append("| " + " | ".join(cells) + " |")
        seeds, units = (", ".join(map(str, result["seeds"])), "; ".join("-".join(map(str, u)) for u in result["units"]))
        notes.append(f"- {row}: seeds {seeds}; units {units}; aids: {', '.join(result['aids']) or 'none'}.")
        notes += [f"  {line}" for line in verdicts([c | {"claim": c["figure"]} for c in result["verdict"]], "{:.1f}")]
    return [*lines, "", *notes, ""]


def group_steps() -> list[str]:
    """Table of the group methods' step times."""
    result = read("step_time_groups")
    if result is None:
        return []
    lines = ["## Step time of the group methods, LeNet-300-100", "", "By hand: the form of the published code in plain"]
    lines += [f"torch with plain Adam. Denormal numbers are {result['denormals']} in every variant.", ""]
    lines += ["| variant | ms a step | of deterministic |", "|---|---|---|"]
    lines += [f"| {k} | {v:.2f} | {result['of_deterministic'][k]:.2f} |" for k, v in result["ms"].items()]
    return [*lines, "", *verdicts(result["verdict"]), ""]


def inference() -> list[str]:
    """Table of inference times."""
    result = read("inference")
    if result is None:
        return []
    lines = ["## Inference, pruned against dense", ""]
    lines += ["| network | engine | threads | batch | ms | times faster than dense |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        name = f"{row['network']}, {row['row']}"
        cells = (
            name,
            row["engine"],
            str(row["threads"]),
            f"{row['batch']:,}",
            f"{row['ms']:.3f}",
            f"{row['faster']:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def reconstructions() -> list[str]:
    """Table of linear reconstruction."""
    titles = {
        "lenet_300_100": "LeNet-300-100, no shifts",
        "lenet_300_100-shifts": "LeNet-300-100, pixel shifts of ±1",
        "lenet_5_caffe": "LeNet-5-Caffe, pixel shifts of ±1",
    }
    found = {title: read(f"reconstruction-{name}") for name, title in titles.items()}
    lines, notes = [], []
    for name, result in found.items():
        if result is not None and "aids" in result:
            notes.append(f"- {name}: {'; '.join(result['aids'])}.")
        for row, figure in (result or {"medians": {}})["medians"].items():
            asked = figure.get("asked")
            said = "" if asked is None else f"≤ {asked['kib']:g} KiB, ≤ {100 * asked['error']:.2f} %"
            met = "" if asked is None else "met" if figure["met"] else "**not met**"
            cells = (name, row, f"{figure['kib']:.1f}", f"{100 * figure['test_error']:.2f}", said, met)
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


def steps(name: str, title: str) -> list[str]:
    """Table of step times."""
    result = read(name)
    if result is None:
        return []
    lines = [
        f"## {title}",
        "",
        f"Batch {result['batch']}, {result['threads']} thread, medians of {result['rounds']} interleaved rounds of "
        f"{result['steps']} steps. Denormal numbers are {result['denormals']} in every variant.",
        "",
    ]
    lines += ["| variant | ms a step | of by hand, fused Adam | of deterministic |", "|---|---|---|---|"]
    for variant, row in result["rows"].items():
        lines.append(f"| {variant} | {row['ms']:.2f} | {row['to_by_hand_fused']:.2f} | {row['to_deterministic']:.2f} |")
    return [*lines, ""]


def main() -> None:
    """Write README.md."""
    lines = [INTRO]
    small = {"plain": "Sparse VD, no aids", "ard": "ARD, no aids", "aided": "Sparse VD, shifts and distillation"}
    conv = {"first": "Sparse VD, one cycle", "second": "Sparse VD, two cycles"}
    lines += ["## MNIST, LeNet-300-100", "", *compression("lenet_300_100", small), *curve("lenet_300_100", small), ""]
    lines += ["## MNIST, LeNet-5-Caffe", "", *compression("lenet_5_caffe", conv), *curve("lenet_5_caffe", conv), ""]
    lines += steps("step_time", "Step time, LeNet-300-100")
    for part in (whole_units, group_steps, complex_networks, inference, reconstructions, together, solvers):
        lines += part()
    lines += [*coders(read("coding_table"), verdicts), *random_codes(read("coding_random"))]
    demo = read("demo")
    if demo:
        m = demo["median"]
        lines += [
            "## `pyrosparse demo`",
            "",
            f"{m['seconds']:.0f} s after the install; accuracy {100 * m['dense_accuracy']:.1f} % → "
            f"{100 * m['file_accuracy']:.1f} %; "
            f"file {m['ratio']:.0f} times smaller than the float32 parameters ({m['file_bytes']:,.0f} bytes).",
            "",
        ]
    start = read("start_time")
    if start:
        lines += [
            "## `pyrosparse --help`",
            "",
            f"{start['median_seconds']:.2f} s (median of {start['calls']} calls).",
            "",
        ]
    README.write_text("\n".join(lines).rstrip() + "\n")
    print(README.read_text())


if __name__ == "__main__":
    main()
