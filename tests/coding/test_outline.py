from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrosparse.coding import architecture
from pyrosparse.coding.container import MAGIC, pack, unpack
from pyrosparse.coding.outline import MARK, OUTLINES, OutlineError, expand, shorten
from pyrosparse.errors import CorruptFileError
from pyrosparse.models import zoo
from tests.coding.test_container import sealed

SMALL = ("lenet_300_100", "lenet_5_caffe", "digits_mlp", "complex_dense", "complex_conv")


def lenet(kept: int | None = 165, *, c: float | None = 1.0, k: str | None = None, o: int = 431080) -> dict[str, Any]:
    """Header of a LeNet-5 with 8, 14 and 24 units."""
    first = ["fc1", "L", 224, 24] if kept is None else ["fc1", "S", kept, 224, 24]
    tree = ["Q", ["conv1", "C2", 1, 8, 5], ["relu1", "R"], ["pool1", "M2", 2], ["conv2", "C2", 8, 14, 5],
            ["relu2", "R"], ["pool2", "M2", 2], ["flatten", "F"], first, ["relu3", "R"],
            ["fc2", "L", 24, 10]]  # fmt: skip
    usual = "auauauau" if kept is None else "auauauiau"
    return {"a": tree, **({} if c is None else {"c": c}), "k": k or usual, "o": o}


@pytest.mark.parametrize(
    "header",
    [lenet(), lenet(None), lenet(c=None), lenet(c=0.613), lenet(c=1 / 3), lenet(c=1e300), lenet(c=1e-9), lenet(o=7),
     lenet(k="sxhpgikru")],
)  # fmt: skip
def test_there_and_back(header: dict[str, Any]) -> None:
    data = shorten(header)
    assert data is not None
    again = expand(data)
    assert again == header
    assert type(again.get("c", 0.0)) is float
    assert unpack(pack(header, b"xyz"), "net.psz").header == header


def test_a_lenet_takes_a_few_bytes() -> None:
    assert len(shorten(lenet()) or b"") <= 8  # 54 as text


@pytest.mark.parametrize("name", SMALL)
def test_the_zoo_s_small_networks_have_outlines(name: str) -> None:
    network = zoo.build(name)
    count = sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())
    tensors = len(network.state_dict())
    codecs = ("pu" if name.startswith("complex") else "au") * (tensors // 2)
    header = {"a": architecture.describe(network), "c": 0.5, "k": codecs, "o": count}
    assert len(shorten(header) or b"x" * 100) <= 10
    assert [outline.parameters for outline in OUTLINES].count(count) == 1


@pytest.mark.parametrize(
    "header",
    [
        lenet() | {"d": "f"},
        lenet() | {"c": 1},
        lenet() | {"c": None},
        lenet() | {"o": 431080.0},
        lenet() | {"o": True},
        lenet() | {"o": None},
        lenet() | {"o": -1},
        lenet() | {"k": "au"},
        lenet() | {"k": "auauauia?"},
        lenet() | {"k": None},
        lenet() | {"a": 3},
        {"a": ["Q"], "k": "", "o": 1},
        {"t": [], "k": "", "o": 1},
        {},
        lenet() | {"o": 1 << 50},
        lenet() | {"a": [*lenet()["a"], ["R"]]},
        lenet() | {"a": ["Q", ["conv1", "C2", 1, 8.0, 5], *lenet()["a"][2:]]},
    ],
)
def test_other_headers_are_sent_as_text(header: dict[str, Any]) -> None:
    assert shorten(header) is None
    assert unpack(pack(header, b""), "net.psz").header == header


@given(st.integers(0, 31), st.binary(max_size=70))
@settings(max_examples=300, deadline=None)
def test_any_digits_are_a_header_or_refused(place: int, digits: bytes) -> None:
    data = bytes([place << 3 | MARK]) + digits
    try:
        header = expand(data)
    except OutlineError:
        with pytest.raises(CorruptFileError, match="header"):
            unpack(sealed(MAGIC + b"\3" + bytes([len(data)]) + data + b"\0"), "net.psz")
        return
    assert set(header) <= {"a", "c", "k", "o"}


def test_versions_before_the_third_have_none() -> None:
    data = shorten(lenet()) or b""
    with pytest.raises(CorruptFileError, match="header"):
        unpack(sealed(MAGIC + b"\2" + bytes([len(data)]) + data + b"\0"), "net.psz")
