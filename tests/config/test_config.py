"""Settings: what a TOML file may say, what comes of it, and how mistakes are named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrosparse.config import Config, dumps, parse, parse_size, read
from pyrosparse.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert read(write(tmp_path, "")) == Config()


def test_resolved_settings_survive_a_round_trip(tmp_path: Path) -> None:
    text = """
    seed = 3
    [data]
    source = "idx"
    path = "mnist"
    validation = 500
    [model]
    name = "lenet_5_caffe"
    args = { channels = [10, 20], hidden = 250 }
    [prior]
    name = "LogUniform"
    exclude = ["fc2"]
    layers = { "conv*" = "ARD", fc1 = { name = "ARD", args = { precision = 2.0 } } }
    [fit]
    epochs = 5
    kl = { name = "overweight", args = { peak = 2 } }
    [fit.kl_layers]
    fc1 = 1.5
    conv1 = "constant"
    [fit.teacher]
    name = "lenet_300_100"
    [prune]
    budget = "20kB"
    """
    config = read(write(tmp_path, text))
    assert parse(tomllib.loads(dumps(config.to_dict()))) == config
    assert config.prior.layers["conv*"].name == "ARD"
    assert config.fit.kl_layers["fc1"].args == {"value": 1.5}
    assert config.prune.budget_bytes == 20_000


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read(write(tmp_path, '[data]\nsource = "npz"\npath = "here/data.npz"'))
    assert config.data.path == str(tmp_path / "here" / "data.npz")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("fit.epochs=7", "fit.epochs", 7),
        ("prune.threshold=2.5", "prune.threshold", 2.5),
        ("prune.threshold=auto", "prune.threshold", "auto"),
        ('device="cpu"', "device", "cpu"),
        ("device=cpu", "device", "cpu"),
        ("prior.exclude=['fc3']", "prior.exclude", ["fc3"]),
        ("export.onnx=false", "export.onnx", False),
        ("fit.kl={name='warm_up', args={until=0.5}}", "fit.kl.args.until", 0.5),
        ("fit.kl.args.until=0.2", "fit.kl.args.until", 0.2),
        ("fit.kl_layers.'fc1'=2", "fit.kl_layers.fc1.args.value", 2.0),
    ],
)
def test_overrides(override: str, key: str, value: object) -> None:
    found: Any = parse({"fit": {"kl": {"name": "warm_up"}}}, overrides=[override]).to_dict()
    for part in key.split("."):
        found = found[part]
    assert found == value


def test_a_later_override_wins() -> None:
    assert parse({}, overrides=["fit.epochs=7", "fit.epochs=8"]).fit.epochs == 8


def test_changes_are_named_by_their_keys() -> None:
    first, second = parse({}), parse({}, overrides=["fit.epochs=7", "prune.budget=20kB"])
    assert first.changes(second) == ["fit.epochs", "prune.budget"]
    assert first.changes(parse({})) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fit]\nepoch = 3", r"run.toml: unknown key fit.epoch; did you mean fit.epochs\?"),
        ("sed = 3", r"unknown key sed; did you mean seed\?"),
        ("[fitt]\nepochs = 3", r"unknown key fitt; did you mean fit\?"),
        ("[fit.teacher]\ntemprature = 3", r"unknown key fit.teacher.temprature; did you mean fit.teacher.temperature"),
        ("epochs = 3", r"unknown key epochs; did you mean pretrain.epochs or reconstruct.epochs or fit.epochs or"),
        ("[fit]\nqqqq = 3", r"unknown key fit.qqqq; \[fit\] knows autocast, clip, criterion"),
        ("[fit]\nepochs = 0", r"fit.epochs = 0: input should be greater than 0"),
        ("[fit]\nepochs = 2.5", r"fit.epochs = 2.5: input should be a valid integer"),
        ("[fit]\nlr = nan", r"fit.lr = nan: input should be"),
        ("[fit]\nlr = '1e-3'", r"fit.lr = '1e-3': input should be a valid number"),
        ("[fit]\nfreeze_at = 1.5", r"fit.freeze_at = 1.5"),
        ("fit = 3", r"fit = 3: a table belongs here, \[fit\]"),
        ("[model]\nargs = 3", r"model.args = 3: a table belongs here, \[model.args\]"),
        ("seed = 4294967296", r"seed = 4294967296: input should be less than 4294967296"),
        ("[pretrain]\nweights = 'a\\u0000b'".replace("'", '"'), r"pretrain.weights = 'a\\x00b' is no path"),
        ("[prior]\nname = 'Groups'", r"prior.name = 'Groups'"),
        ("[prune]\nthreshold = 'aut'", r"prune.threshold = 'aut'"),
        ("[prune]\nthreshold = 2.0\nbudget = '2kB'", r"\[prune\]: give a threshold or a budget, not both"),
        ("[prune]\nbudget = 'small'", r"\[prune\]: 'small' is not a size"),
        ("[data]\nvalidation = 1.5", r"data.validation = 1.5"),
        ("[data]\nsource = 'idxx'\npath='x'", r"data.source = 'idxx'; did you mean 'idx'\?"),
        ("[data]\nsource = 'idx'", r"data.source = 'idx' needs data.path"),
        ("[model]\nname = 'lenet_300_10'", r"model.name = 'lenet_300_10'; did you mean 'lenet_300_100'\?"),
        ("[model]\nargs = { num_class = 3 }", r"unknown key model.args.num_class; did you mean 'num_classes'\?"),
        ("[prior]\nname = 'LogUnifrm'", r"prior.name = 'LogUnifrm'; did you mean 'LogUniform'\?"),
        ("[prior]\nname = 'Prior'", r"prior.name = 'Prior'"),
        (
            "[prior]\nname = 'ARD'\nargs = { precison = 2 }",
            r"unknown key prior.args.precison; did you mean 'precision'\?",
        ),
        ("[prior.layers]\nfc1 = 'ARDD'", r"prior.layers.fc1.name = 'ARDD'; did you mean 'ARD'\?"),
        ("[fit]\nkl = 'warmup'", r"fit.kl.name = 'warmup'; did you mean 'warm_up'\?"),
        ("[fit.kl]\nname = 'warm_up'\nargs = { til = 1 }", r"unknown key fit.kl.args.til; did you mean 'until'\?"),
        ("[fit.kl]\nname = 'warm_up'\nargs = { until = 3 }", r"fit.kl: until is 3.0: give a fraction"),
        ("[fit.kl]\nname = 'warm_up'\nargs = { until = 'x' }", r"fit.kl.args.until = 'x'"),
        ("[fit.kl_layers]\nfc1 = 'cosin'", r"fit.kl_layers.fc1.name = 'cosin'; did you mean 'cosine'\?"),
        ("[fit.teacher]\nname = 'lenet'", r"fit.teacher.name = 'lenet'; did you mean"),
        ("[fit", r"run.toml is not TOML: Expected"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="is not TOML"):
        read(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.epochs", "write key=value"),
        ("=3", "write key=value"),
        ("fit epochs=3", "is not a dotted key"),
        ("fit.epoch=3", r"unknown key fit.epoch; did you mean fit.epochs\?"),
        ("fit.epochs=many", "fit.epochs = 'many'"),
        ("fit.epochs.x=3", r"\[fit.epochs\]: input should be a valid integer"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({}, overrides=[override])


@pytest.mark.parametrize(
    ("text", "size"), [("20kB", 20_000), ("1.5 MB", 1_500_000), ("800", 800), (800, 800), ("2KiB", 2048), ("9 b", 9)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "kB", "-3kB", "3 TB", "0", "0.1", "1e3", "3,5kB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
_VALUES = st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3))
_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.recursive(st.dictionaries(_KEYS, _VALUES, max_size=3), lambda inner: st.dictionaries(_KEYS, inner | _VALUES)))
def test_whatever_is_written_is_read_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(table)) == table


def test_nones_are_left_out() -> None:
    assert tomllib.loads(dumps({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}


def test_a_codebook_goes_with_a_posterior_and_without_steps() -> None:
    assert parse({"file": {"codebook": 16}}, file="run.toml").file.codebook == 16
    with pytest.raises(ConfigError, match="codebook"):
        parse({"file": {"codebook": 0}}, file="run.toml")
    with pytest.raises(ConfigError, match="file.codebook needs a posterior"):
        parse({"file": {"codebook": 16}, "quantise": {"epochs": 2}}, file="run.toml")


def test_random_codes_go_with_a_posterior_and_without_what_is_for_integers() -> None:
    chosen = {"file": {"codec": "random-code"}}
    config = parse(chosen | {"random_code": {"bits": 14}}, file="run.toml")
    assert (config.file.codec, config.random_code.bits, config.random_code.rounds) == ("random-code", 14, 8)
    assert parse(config.to_dict(), file="again.toml") == config
    assert "random_code" not in parse({}, file="run.toml").to_dict()
    for table, wrong, words in (
        ("file", {"codec": "random-codes"}, "codec"),
        ("file", {"codec": "random-code", "rate_weight": "auto"}, r"without file\.rate_weight"),
        ("file", {"codec": "random-code", "codebook": 8}, r"without file\.codebook"),
        ("random_code", {"bits": 21}, "bits"),
        ("quantise", {"epochs": 2}, r"without \[quantise\]"),
        ("prune", {"budget": "2kB"}, r"without prune\.budget"),
        ("reconstruct", {"position": "instead", "units": 3}, "needs a posterior"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse(chosen | {table: wrong}, file="run.toml")
    with pytest.raises(ConfigError, match="random_code. is for file.codec"):
        parse({"random_code": {"bits": 14}}, file="run.toml")
