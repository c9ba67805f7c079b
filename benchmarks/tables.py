"""Turn the JSON in benchmarks/results into the tables of benchmarks/README.md, and draw the trade-off curves.

python benchmarks/tables.py
"""

from __future__ import annotations

from typing import Any

from cells import read, spread, verdicts
from coding_tables import coders, random_codes
from common import FOLDER, RESULTS
from complex_tables import complex_networks
from curves import curve
from reconstruction_tables import alexnet, reconstructions, solvers, together
from speed_tables import group_steps, inference, memory, profile, public, steps, wall_time

# recipes whose test errors have been seen, and which were then changed: with new seeds
TRIALS = {
    "ghs-5": (
        "rate 140 and 40 epochs had dense rates of 182 and 184 at 1.10 and 1.06 % (seeds 43 and 44), "
        "chosen after others on 40 and 41.",
    ),
}
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
    lines += ["the bits of each layer's posterior precision, an estimate. Points behind L0 gates have no precision of"]
    lines += ["their own: bits and file of these rows say little.", ""]
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
        notes += [_claim(c) for c in result["verdict"]]
        notes += [f"  - before it: {trial}" for trial in TRIALS.get(row, ())]
    return [*lines, "", *notes, ""]


def _claim(c: dict[str, Any]) -> str:
    met = "met" if c["met"] else "**not met**"
    asked, measured = f"{c['asked']:.1f} at ≤ {100 * c['at_most_error']:.2f} %", f"{c['measured']:.1f}"
    return f"  - {c['figure']}: asked ≥ {asked}; measured {measured} at {100 * c['test_error']:.2f} %: {met}."


def main() -> None:
    """Write README.md."""
    lines = [INTRO]
    small = {"plain": "Sparse VD, no aids", "ard": "ARD, no aids", "aided": "Sparse VD, shifts and distillation"}
    conv = {"first": "Sparse VD, one cycle", "second": "Sparse VD, two cycles"}
    lines += ["## MNIST, LeNet-300-100", "", *compression("lenet_300_100", small), *curve("lenet_300_100", small), ""]
    lines += ["## MNIST, LeNet-5-Caffe", "", *compression("lenet_5_caffe", conv), *curve("lenet_5_caffe", conv), ""]
    lines += steps("step_time", "Step time, LeNet-300-100")
    for part in (
        whole_units,
        group_steps,
        public,
        profile,
        wall_time,
        memory,
        complex_networks,
        inference,
        reconstructions,
        together,
        alexnet,
        solvers,
    ):
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


if __name__ == "__main__":
    main()
