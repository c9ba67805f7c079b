"""The parts of a report, each a function from a run to HTML; a missing part is said, not hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyrosparse.report.figures import NONE, count, decimal, finite, percent, points, shape, size_of, times
from pyrosparse.report.markup import Html, element, join, section, table
from pyrosparse.report.read import Run

__all__ = ["absent", "agreement", "config", "headline", "layers", "notes", "stages"]

STAGES = {
    "dense": "Dense network",
    "fit": "Posterior fitted",
    "prune": "Pruned",
    "fine_tune": "Fine-tuned",
    "file": "File, read back",
    "onnx": "ONNX Runtime",
}


def absent(what: str, why: str = "") -> Html:
    """One plain sentence where a part would stand."""
    return element("p", what, f" {why}" if why else "", class_="absent")


def _ends(run: Run) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The dense stage, and what came out: each number from the latest stage that has it, the file's own first."""
    after: dict[str, Any] = {}
    for name in ("prune", "fine_tune", "file"):
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
    if not rows:
        return section("Stage by stage", "What each step did to the network.", absent("No stages were recorded."))
    dense = run.stage("dense")
    scored = any(finite(row.get("accuracy")) is not None for row in rows)
    header = ["Stage", *(["Accuracy", "Change, points"] if scored else ["Error"])]
    header += ["Parameters", "Non-zero", "Bytes", "Smaller", "Time, s"]
    body = []
    for row in rows:
        name = str(row.get("name", ""))
        quality = (
            [percent(row.get("accuracy")), NONE if row is dense else points(row.get("accuracy"), dense.get("accuracy"))]
            if scored
            else [decimal(row.get("error"), 4)]
        )
        numbers = [count(row.get("parameters")), count(row.get("nonzero")), count(row.get("bytes"))]
        ratio = NONE if row is dense else times(dense.get("bytes"), row.get("bytes"))
        body.append([STAGES.get(name, name), *quality, *numbers, ratio, decimal(row.get("seconds"), 1)])
    lead = "What each step did to the network. Accuracy is on the test set, which no choice was made on."
    return section("Stage by stage", lead, table(header, body, caption="Measurements at each stage"))


def layers(run: Run) -> Html:
    """One row for each layer, with a bar for its density."""
    rows = run.rows("layers")
    lead = "Where the weights went. The bar is the share of a layer's weights that is kept."
    if not rows:
        return section("Layer by layer", lead, absent("No layers were recorded."))
    header = ["Layer", "Shape", "Shape now", "Kept", "Total", "Density", "", "Units before", "Units after"]
    bits = any(_bits(run, row) is not None for row in rows)
    header += ["Bits a weight kept"] if bits else []
    body = []
    kept_sum, total_sum = 0.0, 0.0
    for row in rows:
        kept, total = finite(row.get("kept")), finite(row.get("total"))
        kept_sum, total_sum = kept_sum + (kept or 0), total_sum + (total or 0)
        body.append(
            [
                element("code", row.get("site", NONE)),
                shape(row.get("shape")),
                shape(row.get("small_shape")),
                count(kept),
                count(total),
                *_density(kept, total),
                count(row.get("original_units")),
                count(row.get("units")),
                *([decimal(_bits(run, row), 1)] if bits else []),
            ]
        )
    if len(rows) > 1:
        rest = ["", "", ""] if bits else ["", ""]
        body.append(["All layers", "", "", count(kept_sum), count(total_sum), *_density(kept_sum, total_sum), *rest])
    return section("Layer by layer", lead, table(header, body, caption="Weights and units of each layer", left=1))


def _density(kept: float | None, total: float | None) -> list[object]:
    if kept is None or not total:
        return [NONE, ""]
    share = kept / total
    bar = element("div", Html(f'<i style="width:{100 * share:.2f}%"></i>'), class_="bar", aria_hidden="true")
    return [percent(share, 2 if share < 0.1 else 1), bar]


def _bits(run: Run, row: Mapping[str, Any]) -> float | None:
    """Bits in the file for each weight kept in a layer, if the metrics say so."""
    own = finite(row.get("bits_per_weight")) or finite(row.get("bits"))
    if own is not None:
        return own
    file = run.metrics.get("file")
    listed = file.get("layers") if isinstance(file, Mapping) else None
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, Mapping) and row.get("site") in (entry.get("site"), entry.get("name")):
            return finite(entry.get("bits_per_weight")) or finite(entry.get("bits"))
    return None


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
