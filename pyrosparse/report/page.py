"""The report: one self-contained HTML page from the files of a run folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pyrosparse.errors import DataError
from pyrosparse.report import gallery, polar, sections
from pyrosparse.report.figures import NONE, count, percent, size_of, times
from pyrosparse.report.markup import Html, element, join
from pyrosparse.report.read import Run, read_run
from pyrosparse.report.reconstruction import reconstruction
from pyrosparse.report.scales import scales
from pyrosparse.report.style import STYLE
from pyrosparse.report.worth import worth

__all__ = ["render", "write"]


def write(run_dir: Path | str) -> Path:
    """Write ``report.html`` into a run folder.

    The page is made from ``config.toml``, ``metrics.json``, ``history.jsonl`` and
    ``posterior.safetensors`` alone; what is missing is said on the page. The same files give the
    same bytes. It needs no network: style and pictures are inside.

    :param run_dir: the folder that ``pyrosparse run`` wrote.
    :returns: path of the page.
    :raises DataError: if it is not a run folder, or cannot be written to.
    :raises CorruptFileError: if one of its files cannot be understood.
    """
    run = read_run(run_dir)
    path = run.folder / "report.html"
    part = run.folder / "report.html.part"
    try:
        part.write_text(render(run), encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise DataError(f"cannot write {path} ({error.strerror}): free some space or choose another folder") from error
    return path


def render(run: Run) -> str:
    """The page's HTML."""
    title = _title(run)
    body = [
        element(
            "header",
            _origin(run),
            element("h1", title),
            element("p", _summary(run), class_="summary"),
            sections.headline(run),
        ),
        element("main", sections.stages(run), reconstruction(run), *_of_the_posterior(run), sections.config(run)),
        element("footer", sections.agreement(run), sections.notes(run), _missing(run)),
    ]
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", f"{title} – pyrosparse"),
            element("style", Html(STYLE)),
        ]
    )
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{join(body)}\n</body>\n</html>\n'


def _of_the_posterior(run: Run) -> list[Html]:
    """What a run has to say of its posterior; of one that has none, only its file."""
    if not run.has_posterior:
        return [sections.file(run)]
    return [
        sections.layers(run),
        scales(run),
        sections.file(run),
        worth(run),
        gallery.tradeoff(run),
        gallery.live_weights(run),
        polar.phases(run),
        gallery.posterior(run),
        gallery.histograms(run),
        gallery.history(run),
    ]


def _title(run: Run) -> str:
    return str(run.config.get("name") or run.folder.resolve().name)


def _origin(run: Run) -> Html:
    """The line above the title: what this is and what it was made with."""
    parts = ["pyrosparse report", *(str(run.metrics[k]) for k in ("model", "data") if run.metrics.get(k))]
    return element("p", ", ".join(parts), class_="kind")


def _missing(run: Run) -> Html:
    if not run.missing:
        return Html("")
    return sections.absent(f"Not in the run folder: {', '.join(run.missing)}.")


def _summary(run: Run) -> str:
    """One sentence: what went in and what came out."""
    dense = run.stage("dense")
    last = ("file", "quantise", "fine_tune", "reconstruct_pruned", "prune", "reconstruct")
    final = next((stage for name in last if (stage := run.stage(name))), None)
    if not dense or not final:
        return "This run has not been measured from end to end."
    parts = [f"The network went from {size_of(dense.get('bytes'))} to {size_of(final.get('bytes'))}"]
    ratio = times(dense.get("bytes"), final.get("bytes"))
    if ratio != NONE:
        parts.append(f", {ratio.replace('×', ' times')} smaller")
    if percent(final.get("accuracy")) != NONE:
        before, after = percent(dense.get("accuracy")), percent(final.get("accuracy"))
        parts.append(f"; its test accuracy went from {before} to {after}")
    if count(final.get("nonzero")) != NONE:
        parts.append(f", with {count(final.get('nonzero'))} of {count(dense.get('parameters'))} numbers left")
    return "".join(parts) + "."
