"""Tables of times and memory in benchmarks/README.md."""

from __future__ import annotations

from cells import read, spread, verdicts
from common import RESULTS


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


def public() -> list[str]:
    """Table of step times against public packages."""
    result = read("step_time_public")
    if result is None:
        return []
    lines = [
        "## Step time against public packages",
        "",
        f"Batch {result['batch']}, one thread, nothing shrunk; ours is",
    ]
    lines += [f"`fit` with the exact KL. Denormal numbers are {result['denormals']} in every variant.", ""]
    lines += ["| network | variant | ms a step | of ours |", "|---|---|---|---|"]
    lines += [f"| {r['network']} | {r['variant']} | {r['ms']:.2f} | {r['of_ours']:.2f} |" for r in result["rows"]]
    absent = [f"- Not installed: {', '.join(result['not_installed'])}."] if result["not_installed"] else []
    return [*lines, "", *verdicts(result["verdict"]), *absent, ""]


def profile() -> list[str]:
    """Where the time of a step goes."""
    path = RESULTS / "step_profile.md"
    if not path.exists():
        return []
    head = "Milliseconds, 128 images, one thread, nothing shrunk; what the columns are: `step_profile.py`."
    return ["## Where the time of a step goes", "", head, "", *path.read_text().splitlines(), ""]


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


def wall_time() -> list[str]:
    """Table of whole runs."""
    found = [
        result
        for name in ("lenet_300_100", "lenet_300_100-cut", "lenet_5_caffe")
        if (result := read(f"wall_time-{name}")) is not None
    ]
    if not found:
        return []
    lines = [
        "## Wall time of whole Sparse VD runs",
        "",
        "Dense training, fit and pruning, of deterministic training of the whole network for as many epochs, whose",
        "steps were timed in between (one thread, denormal numbers flushed to zero). *Cut*: the dense network loses",
        "the units, and inputs, of least weight before the fit, and is trained for 3 further epochs, which are in the",
        "time and not in the count of epochs. LeNet-5-Caffe runs by the recipe of one cycle, without its teacher.",
        "",
        "| network | epochs | params, test error % | deterministic, s | with shrinking | without "
        "| step in the first epoch | in the last quarter |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = ("with_shrinking", "without_shrinking", "first_epoch_step", "last_quarter_step")
    for result in found:
        cells = (
            ", ".join([result["network"], *(aid for aid in result["recipe"]["aids"] if aid.startswith("cut"))]),
            str(result["runs"][0]["epochs"]),
            f"{spread(result['params'])}, {spread(result['test_error'], 2, 100)}",
            spread(result["seconds"]["deterministic"]),
            *(spread(result["of_deterministic"][name], 2) for name in names),
        )
        lines.append("| " + " | ".join(cells) + " |")
    asked = {
        "point": "the published point",
        "whole_run": "whole run ≤ 1.0",
        "last_quarter": "last quarter ≤ 0.35",
        "first_epoch": "first epoch ≤ 2.3",
    }
    notes = []
    for result in found:
        said = [f"{text} {'met' if result['verdict'][key] else '**not met**'}" for key, text in asked.items()]
        cut = ", cut" if result["recipe"]["precut"] else ""
        notes.append(
            f"- {result['network']}{cut}, seeds {', '.join(map(str, result['seeds']))}; asked: {'; '.join(said)}."
        )
    return [*lines, "", *notes, ""]


def memory() -> list[str]:
    """Table of peak memory."""
    result = read("memory")
    if result is None:
        return []
    head = f"Of network, optimiser and steps of {result['batch']} images on the {result['device'].upper()}; each"
    lines = ["## Peak memory", "", head, f"variant runs in processes of its own (medians of {result['rounds']}).", ""]
    lines += ["| network | method | MiB | of deterministic |", "|---|---|---|---|"]
    lines += [
        f"| {r['network']} | {r['method']} | {r['bytes'] / 2**20:.1f} | {r['of_deterministic']:.2f} |"
        for r in result["rows"]
    ]
    worst = max(r["of_deterministic"] for r in result["rows"] if r["method"] == "Sparse VD")
    met = "met" if worst <= 3.5 else "**not met**"
    return [
        *lines,
        "",
        f"- asked: Sparse VD at most 3.5 times deterministic training; measured {worst:.2f}: {met}.",
        "",
    ]
