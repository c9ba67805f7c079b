"""The parts of a report, each a function from a run to HTML; a missing part is said, not hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyrosparse.report.figures import NONE, count, decimal, decimal4, finite, percent, points, shape, size_of, times
from pyrosparse.report.markup import Html, element, join, section, table
from pyrosparse.report.read import Run

__all__ = ["absent", "agreement", "config", "file", "headline", "layers", "notes", "stages"]

STAGES = {
    "teacher": "Teacher",
    "dense": "Dense network",
    "reconstruct": "Reconstructed",
    "fit": "Posterior fitted",
    "prune": "Pruned",
    "reconstruct_pruned": "Reconstructed",
    "fine_tune": "Fine-tuned",
    "quantise": "Trained through rounding",
    "file": "File, read back",
    "onnx": "ONNX Runtime",
    "magnitude": "Baseline: largest weights",
    "l1": "Baseline: ℓ1 penalty",
    "kmeans": "Baseline: k-means",
}


def absent(what: str, why: str = "") -> Html:
    """One plain sentence where a part would stand."""
    return element("p", what, f" {why}" if why else "", class_="absent")


def _ends(run: Run) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The dense stage, and what came out: each number from the latest stage that has it, the file's own first."""
    after: dict[str, Any] = {}
    for name in ("reconstruct", "prune", "reconstruct_pruned", "fine_tune", "quantise", "file"):
        after.update({k: v for k, v in run.stage(name).items() if finite(v) is not None})
    return run.stage("dense"), after


def headline(run: Run) -> Html:
    """Accuracy, bytes and weights before and after, as large plain figures."""
    before, after = _ends(run)
    if not before and not after:
        return absent("No measurements were found:", "metrics.json is missing or has no stages.")
    scored = finite(before.get("accuracy")) is not None or finite(after.get("accuracy")) is not None
    quality = "accuracy" if scored else "error"
    written = percent if scored else (lambda v: decimal(v, 4))
    change = points(after.get(quality), before.get(quality)) if scored else NONE
    weights_before = before.get("parameters")
    tiles = [
        _tile("Smaller file", times(before.get("bytes"), after.get("bytes")), "float32 numbers against the file"),
        _pair(
            f"Test {quality}",
            written(before.get(quality)),
            written(after.get(quality)),
            f"{change} points" if change != NONE else "",
        ),
        _pair("Bytes", size_of(before.get("bytes")), size_of(after.get("bytes")), _exact(after.get("bytes"))),
        _pair(
            "Numbers in use",
            count(weights_before),
            count(after.get("nonzero")),
            f"{times(weights_before, after.get('nonzero'))} fewer" if finite(after.get("nonzero")) else "",
        ),
    ]
    return element("div", *tiles, class_="tiles")


def _exact(value: Any) -> str:
    return f"{count(value)} bytes on disk" if finite(value) is not None else ""


def _tile(title: str, value: str, note: str) -> Html:
    return element(
        "div",
        element("div", title, class_="label"),
        element("div", value, class_="big"),
        element("div", note, class_="small"),
        class_="tile",
    )


def _pair(title: str, before: str, after: str, note: str) -> Html:
    arrow = element("span", "→", class_="arrow", aria_label="to")
    return element(
        "div",
        element("div", title, class_="label"),
        element("div", element("span", before, class_="before"), " ", arrow, " ", after, class_="big"),
        element("div", note, class_="small"),
        class_="tile",
    )


def stages(run: Run) -> Html:
    """One row for each stage that was measured."""
    rows = run.rows("stages")
    lead = "What each step did to the network. No choice was made on the test data."
    if not rows:
        return section("Stage by stage", lead, absent("No stages were recorded."))
    dense = run.stage("dense")
    columns: list[tuple[str, str, Callable[[Any], str]]] = [
        ("Test accuracy", "accuracy", percent),
        ("Test error", "error", decimal4),
        ("Validation accuracy", "val_accuracy", percent),
        ("Validation error", "val_error", decimal4),
    ]
    present = {key for _, key, _ in columns if any(finite(row.get(key)) is not None for row in rows)}
    # accuracy is 1 - error: one of the two will do
    present -= {key.replace("accuracy", "error") for key in present if key.endswith("accuracy")}
    columns = [column for column in columns if column[1] in present]
    change = "accuracy" in present
    header = ["Stage", *(title for title, _, _ in columns)]
    header[2:2] = ["Change, points"] if change else []
    body = []
    for row in rows:
        quality = [write(row.get(key)) for _, key, write in columns]
        quality[1:1] = [_change(row, dense)] if change else []
        name = str(row.get("name", ""))
        numbers = [count(row.get("parameters")), count(row.get("nonzero")), count(row.get("bytes"))]
        ratio = NONE if row is dense else times(dense.get("bytes"), row.get("bytes"))
        body.append([STAGES.get(name, name), *quality, *numbers, ratio, decimal(row.get("seconds"), 1)])
    header += ["Parameters", "Non-zero", "Bytes", "Smaller", "Time, s"]
    return section("Stage by stage", lead, table(header, body, caption="Measurements at each stage"))


def _change(row: Mapping[str, Any], dense: Mapping[str, Any]) -> str:
    return NONE if row is dense else points(row.get("accuracy"), dense.get("accuracy"))


def layers(run: Run) -> Html:
    """One row for each layer, with a bar for its density."""
    rows = run.rows("layers")
    lead = "Where the weights went. The bar is the share of a layer's weights that is kept."
    if not rows:
        return section("Layer by layer", lead, absent("No layers were recorded."))
    stored = _stored(run)
    # a complex weight is two numbers
    what = "Numbers" if any(row.get("parts") == 2 for row in rows) else "Weights"  # noqa: PLR2004
    header = ["Layer", "Shape", "Shape now", "Units before", "after", what, "Kept", "Density", ""]
    header += ["Bytes in file", "Bits a weight"] if stored else []
    body = []
    for row in rows:
        entry = stored.get(str(row.get("site")), {})
        in_file, nonzero = finite(entry.get("bytes")), finite(entry.get("nonzero"))
        bits = 8 * in_file / nonzero if in_file is not None and nonzero else None
        body.append(
            [
                element("code", row.get("site", NONE)),
                shape(row.get("shape")) + (" complex" if row.get("parts") == 2 else ""),  # noqa: PLR2004
                shape(row.get("small_shape")),
                count(row.get("original_units")),
                count(row.get("units")),
                count(row.get("total")),
                count(row.get("kept")),
                *_density(finite(row.get("kept")), finite(row.get("total"))),
                *([count(in_file), decimal(bits, 1)] if stored else []),
            ]
        )
    if len(rows) > 1:
        total, kept = (sum(finite(row.get(key)) or 0 for row in rows) for key in ("total", "kept"))
        sums = [sum(finite(e.get(key)) or 0 for e in stored.values()) for key in ("bytes", "nonzero")]
        end = [count(sums[0]), decimal(8 * sums[0] / sums[1] if sums[1] else None, 1)] if stored else []
        body.append(["All layers", "", "", "", "", count(total), count(kept), *_density(kept, total), *end])
    after = absent(
        "Bytes in file are those of a layer's weights: where they are and, rounded to the posterior's precision, "
        "what they are; bits are over the weights that the rounding leaves non-zero."
    )
    shown = table(header, body, caption="Weights and units of each layer")
    return section("Layer by layer", lead, shown, after if stored else Html(""), _operations(rows))


def _operations(rows: list[Mapping[str, Any]]) -> Html:
    """Operations of all layers for one example, before and after; nothing where they were not counted."""
    before, after = ([finite(row.get(key)) for row in rows] for key in ("original_flops", "flops"))
    if any(n is None for n in (*before, *after)):
        return Html("")
    sums = [sum(n for n in column if n is not None) for column in (before, after)]
    return absent(
        f"{count(sums[0])} → {count(sums[1])} operations an example in these layers, {times(*sums)} fewer: of the "
        "smaller dense layers, where single zeros cost as much as other weights."
    )


def _stored(run: Run) -> dict[str, Mapping[str, Any]]:
    """What the file has for each site, by its name."""
    file = run.metrics.get("file")
    listed = file.get("layers") if isinstance(file, Mapping) else None
    sites = {str(row.get("site")) for row in run.rows("layers")}
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    return {str(entry.get("name")): entry for entry in entries if str(entry.get("name")) in sites}


PURPOSES = ("weights: where they are", "weights: what they are", "biases", "index maps", "header and checksum")


def file(run: Run) -> Html:
    """What every byte of the file is for, as one bar."""
    info = run.metrics.get("file")
    parts = info.get("sections") if isinstance(info, Mapping) else None
    lead = "Every byte on disk counts, whatever it is for."
    if not isinstance(parts, Mapping) or not parts:
        return section("The file", lead, absent("No file was written."))
    sums = dict.fromkeys(PURPOSES, 0.0)
    for name, value in parts.items():
        sums[_purpose(str(name))] += finite(value) or 0.0
    total = sum(sums.values()) or 1.0
    shown = [(i, name, n) for i, (name, n) in enumerate(sums.items()) if n]
    bar = (Html(f'<i class="shade{i}" style="flex-grow:{n:g}"></i>') for i, _, n in shown)
    legend = (
        element(
            "div",
            Html(f'<i class="shade{i}"></i>'),
            element("dt", name),
            element("dd", count(n), " bytes, ", _share(n, total)),
        )
        for i, name, n in shown
    )
    step = finite(info.get("c")) if isinstance(info, Mapping) else None
    rounded = (
        f" Weights are rounded to steps of {step:g} times their layer's posterior deviation."
        if step is not None
        else ""
    )
    return section(
        "The file",
        f"{lead} {count(total)} bytes in all.{rounded}",
        element("div", *bar, class_="bytes", aria_hidden="true"),
        element("dl", *legend, class_="legend"),
    )


def _purpose(name: str) -> str:
    endings = (" mask", 0), (" values", 1), (" steps", 1), (" codebook", 1), (".bias", 2), (".index", 3)
    return PURPOSES[next((i for ending, i in endings if name.endswith(ending)), 4)]


def _share(part: float, total: float) -> str:
    return percent(part / total, 0 if part >= 0.01 * total else 1)


def _density(kept: float | None, total: float | None) -> list[object]:
    if kept is None or not total:
        return [NONE, ""]
    share = kept / total
    bar = element("div", Html(f'<i style="width:{100 * share:.2f}%"></i>'), class_="bar", aria_hidden="true")
    return [percent(share, 2 if share < 0.1 else 1), bar]


def notes(run: Run) -> Html:
    """What the run itself had to say, if anything."""
    found = run.metrics.get("notes")
    listed = [str(n) for n in found] if isinstance(found, list) else []
    return element("ul", *(element("li", n) for n in listed), class_="notes") if listed else Html("")


def agreement(run: Run) -> Html:
    """How far the written files are from the network in memory."""
    found = run.metrics.get("agreement")
    if not isinstance(found, Mapping) or not found:
        return absent("The written files were not compared with the network in memory.")
    names = {"file": "the .psz file, read back", "onnx": "the ONNX model, in ONNX Runtime"}
    parts = [f"{names.get(k, k)}: {v:.2g}" for k, v in found.items() if finite(v) is not None]
    return element(
        "p", "Largest difference of an output on the test set from the network in memory: ", "; ".join(parts), "."
    )


def config(run: Run) -> Html:
    """The settings, seed and versions that made the run."""
    versions = run.metrics.get("versions")
    rows = sorted((str(k), str(v)) for k, v in versions.items()) if isinstance(versions, Mapping) else []
    seed = run.metrics.get("seed")
    rows = [*([("seed", str(seed))] if seed is not None else []), *rows]
    listed = join(element("div", element("dt", k), element("dd", v)) for k, v in rows)
    return section(
        "Settings and versions",
        "Everything needed to run this again.",
        element("dl", listed, class_="versions") if rows else absent("No versions were recorded."),
        element("pre", element("code", run.config_text.strip()), tabindex="0", aria_label="config.toml")
        if run.config_text.strip()
        else absent("No config.toml was found."),
    )
