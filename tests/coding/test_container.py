from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

import pytest

from pyrosparse.coding.container import MAGIC, pack, read, replacing, unpack, write
from pyrosparse.errors import CorruptFileError, DataError, ExportError, NewerFileError

HEADER = {"a": ["Q", ["fc1", "L", 3, 4]], "c": 0.5, "k": "su", "o": 16}


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_there_and_back(tmp_path: Path) -> None:
    data = pack(HEADER, b"12345678", 3)
    path = tmp_path / "net.psz"
    write(path, data)
    frame = read(path)
    assert frame.header == HEADER
    assert (frame.payload, frame.padding) == (b"12345678", 3)
    assert sum(frame.sizes.values()) == len(data) == path.stat().st_size
    assert data == pack(HEADER, b"12345678", 3)


def test_headers_are_short() -> None:
    assert unpack(pack(HEADER, b""), "net.psz").sizes["header"] <= 45


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"PK\3\4 something else", "not a .psz file"),
        (MAGIC, "checksum"),
        (MAGIC + b"\1", "checksum"),
        (sealed(MAGIC + b"\1"), "points beyond"),
        (sealed(MAGIC + b"\1\xff\xff\xff\xff\xff\xff"), "points beyond"),
        (sealed(MAGIC + b"\1\x05{}"), "points beyond"),
        (sealed(MAGIC + b"\1\x02[]\0"), "header"),
        (sealed(MAGIC + b"\1\x04{]}{\0"), "header"),
        (sealed(MAGIC + b"\0\x02{}\0"), "does not exist"),
        (sealed(MAGIC + b"\1\x02{}\x01\x07"), "padding"),
    ],
)
def test_damage_is_named(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFileError, match="net.psz") as caught:
        unpack(data, "net.psz")
    assert words in str(caught.value)


def test_newer_versions_are_told_apart_from_damage() -> None:
    with pytest.raises(NewerFileError, match="upgrade"):
        unpack(MAGIC + b"\x07 whatever comes later", "net.psz")


def test_every_truncation_and_every_flipped_bit_is_noticed() -> None:
    data = pack(HEADER, bytes(range(40)))
    for length in range(len(data)):
        with pytest.raises(CorruptFileError):
            unpack(data[:length], "net.psz")
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            unpack(bytes(flipped), "net.psz")


def test_headers_that_inflate_without_end_are_refused() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b'{"a":"' + b"x" * (1 << 24)) + deflate.flush()
    length = len(bomb)
    framed = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + bomb + b"\0"
    with pytest.raises(CorruptFileError, match="header"):
        unpack(sealed(MAGIC + b"\1" + framed), "net.psz")
    with pytest.raises(CorruptFileError, match="header"):
        text = b'{"a":' + b"[" * 100_000
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        deep = deflate.compress(text) + deflate.flush()
        framed = bytes([len(deep) & 127 | 128, len(deep) >> 7]) + deep + b"\0"
        unpack(sealed(MAGIC + b"\1" + framed), "net.psz")


def test_writing_replaces_the_file_and_keeps_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "net.psz"
    path.write_bytes(b"old")
    before = os.umask(0o027)
    try:
        write(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["net.psz"]


def test_missing_folders_and_folders_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="create the folder"):
        write(tmp_path / "nowhere" / "net.psz", b"x")
    with pytest.raises(ExportError, match="folder"):
        write(tmp_path, b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot write"):
        write(tmp_path / "file" / "net.psz", b"x")


def test_files_that_are_not_there_and_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"there is no file .*net\.psz"):
        read(tmp_path / "net.psz")
    with pytest.raises(DataError, match=f"{tmp_path}.*(is a folder|cannot be read)"):
        read(tmp_path)

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(DataError, match=r"net\.psz cannot be read: Permission denied"):
        read(tmp_path / "net.psz")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.psz"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match=r"net\.psz: No space left"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.psz"]


def test_an_error_of_the_caller_passes_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), replacing(tmp_path / "net.pt2") as temporary:
        temporary.write_bytes(b"half")
        raise KeyError("x")
    assert os.listdir(tmp_path) == []
