from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

from pyrosparse.errors import DataError
from pyrosparse.report import write

MakeRun = Callable[..., Path]
BuildRun = Callable[..., Path]
VOID = {"meta", "br", "hr", "img", "path", "use", "rect"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects ids, links and headings."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.labels = 0
        self.drawings = 0
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.addresses += [str(given[k]) for k in ("src", "href", "xlink:href") if k in given]
        if tag == "svg":
            self.drawings += 1
            self.labels += bool(given.get("aria-label")) and given.get("role") == "img"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def page_of(folder: Path) -> Page:
    page = Page(write(folder).read_text(encoding="utf-8"))
    assert not page.open
    return page


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, build_run: BuildRun) -> Path:
    """A run folder in which nothing is missing, with its page."""
    folder = build_run(tmp_path_factory.mktemp("whole") / "run")
    write(folder)
    return folder


def small(make_run: MakeRun) -> Path:
    return make_run({"fc1.weight": (6, 16)}, epochs=3)


def test_a_whole_run(whole: Path) -> None:
    page = Page((whole / "report.html").read_text(encoding="utf-8"))
    assert not page.open
    stages = {row["name"]: row for row in json.loads((whole / "metrics.json").read_text())["stages"]}
    ratio = stages["dense"]["bytes"] / stages["file"]["bytes"]
    for expected in (f"{ratio:.0f}×", "98.06", "97.78", f"{stages['file']['bytes']:,}", "fc2.weight", "log α", "torch"):
        assert expected in page.words
    assert "digits_mlp" in page.words and "fc2: one unit was kept" in page.words
    assert page.drawings == page.labels == 12
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_fetched(whole: Path) -> None:
    text = (whole / "report.html").read_text(encoding="utf-8")
    for address in Page(text).addresses:
        assert address.startswith(("#", "data:image/png;base64,"))
    assert "@import" not in text and "<script" not in text and "<link" not in text
    # names of XML dialects are the only addresses in the text
    assert set(re.findall(r"https?://[^\"' <)]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    for reference in re.findall(r"url\(#([^)]+)\)", text):
        assert f'id="{reference}"' in text


def test_the_same_files_give_the_same_bytes_whatever_matplotlib_is_set_to(whole: Path) -> None:
    first = (whole / "report.html").read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert write(whole).read_bytes() == first
        assert dict(mpl.rcParams) == before


def test_what_comes_from_the_settings_is_escaped(make_run: MakeRun) -> None:
    attack = '<script>alert("1")</script>'
    folder = make_run({f"{attack}.weight": (8, 16)}, config=f"name = '{attack}'\n# {attack} & $x$\n")
    text = write(folder).read_text(encoding="utf-8")
    assert "<script" not in text
    assert attack in Page(text).words


@pytest.mark.parametrize("name", ["config.toml", "metrics.json", "history.jsonl", "posterior.safetensors"])
def test_a_missing_file_is_said(make_run: MakeRun, name: str) -> None:
    folder = small(make_run)
    (folder / name).unlink()
    assert f"Not in the run folder: {name}." in page_of(folder).words


def test_what_the_posterior_says_stands_beside_what_is_stored(make_run: MakeRun) -> None:
    folder = small(make_run)
    assert "What the weights are worth" not in page_of(folder).words
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["summary"] = {"sites": [{"site": "fc1.weight", "kl_bits": 1234.4}]}
    metrics["file"]["layers"][0] |= {"entropy_bits": 987.6, "bytes": 101, "precision_bits": 4321}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    words = page_of(folder).words
    assert "What the weights are worth" in words
    assert all(number in words for number in ("1,234", "4,321", "988", "808"))


def test_operations_before_and_after(make_run: MakeRun) -> None:
    folder = small(make_run)
    metrics = json.loads((folder / "metrics.json").read_text())
    for layer, (before, after) in zip(metrics["layers"], [(9000, 900), (1000, 100)], strict=False):
        layer |= {"original_flops": before, "flops": after}
    metrics["layers"] = metrics["layers"][:2]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    total = 1000 * sum((9, 1)[: len(metrics["layers"])])
    assert f"{total:,} → {total // 10:,} operations an example" in page_of(folder).words


def test_where_a_group_decides_nothing_is_said_of_single_weights(make_run: MakeRun) -> None:
    folder = small(make_run)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["summary"] = {"sites": [{"site": "fc1.weight", "kl_bits": 1.0, "statistic": "−log mode"}]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    words = page_of(folder).words
    assert "What decides: −log mode" in words and "asked of its group" in words
    assert "Normal posterior" not in words and "the noise wins" not in words and "Below the dashed line" not in words


def test_missing_tables_are_said(make_run: MakeRun) -> None:
    folder = small(make_run)
    (folder / "metrics.json").write_text('{"schema": 1}')
    words = page_of(folder).words
    for said in (
        "No measurements were found",
        "No stages were recorded.",
        "No layers were recorded.",
        "No file was written.",
        "No curve was computed.",
        "No versions were recorded.",
        "were not compared",
    ):
        assert said in words


def test_a_run_that_stopped_after_the_first_stage(make_run: MakeRun) -> None:
    folder = small(make_run)
    metrics = json.loads((folder / "metrics.json").read_text())
    stage = {k: v for k, v in metrics["stages"][0].items() if k not in ("error", "accuracy")}
    (folder / "metrics.json").write_text(json.dumps({"schema": 1, "stages": [stage]}))
    for name in ("history.jsonl", "posterior.safetensors"):
        (folder / name).unlink()
    page = page_of(folder)
    assert "has not been measured from end to end" in page.words
    assert "Validation accuracy" in page.words


def test_numbers_that_are_not_finite_are_left_out(make_run: MakeRun) -> None:
    folder = small(make_run)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["stages"][1]["accuracy"] = float("nan")
    metrics["curve"][0]["val_error"] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert "nan" not in page_of(folder).words


def test_errors_in_place_of_accuracies(make_run: MakeRun) -> None:
    folder = small(make_run)
    metrics = json.loads((folder / "metrics.json").read_text())
    for row in metrics["stages"]:
        del row["accuracy"], row["val_accuracy"]
        row["error"], row["val_error"] = 12.3456, 12.5
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = page_of(folder)
    assert "12.3456" in page.words and "Test error" in page.words
    assert "%" not in page.words.partition("Stage by stage")[0]


def test_a_convolution_as_the_first_layer(make_run: MakeRun) -> None:
    folder = make_run({"conv1.weight": (6, 1, 5, 5), "conv2.weight": (8, 6, 5, 5), "fc.weight": (10, 128)})
    assert "6 filters" in page_of(folder).words


def test_inputs_that_are_no_image(make_run: MakeRun) -> None:
    folder = make_run({"fc1.weight": (6, 16), "fc2.weight": (3, 6)}, example=(16,))
    assert "leave each pixel" not in page_of(folder).words


def test_a_posterior_of_which_all_pruned_weights_are_gone(make_run: MakeRun) -> None:
    from safetensors.numpy import load_file, save_file

    folder = small(make_run)
    tensors = load_file(folder / "posterior.safetensors")
    gone = tensors["fc1.weight/keep"] == 0
    tensors["fc1.weight/relevance"][gone] = -float("inf")
    tensors["fc1.weight/mean"][gone] = tensors["fc1.weight/std"][gone] = 0
    save_file(tensors, folder / "posterior.safetensors")
    assert "weights cut while fitting" in page_of(folder).words


def test_one_epoch_and_one_layer(make_run: MakeRun) -> None:
    page_of(make_run({"weight": (3, 7)}, epochs=1))


def test_a_folder_that_cannot_be_written_to(make_run: MakeRun) -> None:
    folder = small(make_run)
    (folder / "report.html.part").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        write(folder)
