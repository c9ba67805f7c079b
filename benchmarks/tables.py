"""Turn the JSON in benchmarks/results into the tables of benchmarks/README.md, and draw the trade-off curves.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from typing import Any

from common import FOLDER, RESULTS
from matplotlib.figure import Figure

README = FOLDER / "README.md"
INTRO = """# Benchmarks

Every figure here was written by a script in this folder; the JSON behind it, with seeds and versions, is in
`results/`. `python benchmarks/tables.py` makes this page from them.

Protocol: three seeds, medians, with the lowest and the highest seed in brackets. The last 5,000 training images
are the validation data; thresholds, steps and epochs are chosen on them, and the test set is looked at once, at the
end. *params* is weights over non-zero weights; *file* is float32 bytes of all parameters of the original network
over bytes of the `.psz` file on disk, with biases, masks, index maps and header. The errors stand beside the network
that they belong to: the pruned network, and the one loaded from the file.
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
        "| row | params | pruned: test error % | file | bytes | file: test error % | dense: test error % | CPU min |",
        "|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for row, title in rows.items():
        result = read(f"{network}-{row}")
        if result is None:
            continue
        cells = (
            title,
            spread(result["params"]),
            spread(result["test_error_pruned"], 2, 100),
            spread(result["file"]),
            spread(result["bytes"]),
            spread(result["test_error_file"], 2, 100),
            spread(result["test_error_dense"], 2, 100),
            spread(result["cpu_seconds"], 1, 1 / 60),
        )
        lines.append("| " + " | ".join(cells) + " |")
        units = "; ".join("-".join(map(str, u)) for u in result["units"])
        aids = ", ".join(result["aids"]) or "none"
        notes.append(f"- {title}: seeds {', '.join(map(str, result['seeds']))}; units {units}; aids: {aids}.")
    return [*lines, "", *notes]


def curve(network: str, rows: dict[str, str]) -> list[str]:
    """Draw validation error against file bytes and return the lines that show it."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    colours = ("#0b6e99", "#d9730d", "#4f7a28", "#9b51e0")
    drawn = False
    for colour, (row, title) in zip(colours, rows.items(), strict=False):
        label: str | None = title
        for path in sorted(RESULTS.glob(f"{network}-{row}-seed*.json")):
            points = sorted(json.loads(path.read_text())["curve"], key=lambda p: p["bytes"])
            xs, ys = [p["bytes"] for p in points], [100 * p["val_error"] for p in points]
            axes.plot(xs, ys, "o-", color=colour, markersize=3, linewidth=1, label=label)
            label, drawn = None, True
    if not drawn:
        return []
    axes.set(xscale="log", yscale="log", xlabel="bytes of the .psz file", ylabel="validation error, %")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    name = f"{network}-curve.svg"
    figure.savefig(RESULTS / name, metadata={"Date": None})
    return ["", f"![validation error against file bytes, one line a seed](results/{name})"]


def steps(name: str, title: str) -> list[str]:
    """Table of step times."""
    result = read(name)
    if result is None:
        return []
    lines = [
        f"## {title}",
        "",
        f"Batch {result['batch']}, {result['threads']} thread, medians of {result['rounds']} interleaved rounds.",
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
