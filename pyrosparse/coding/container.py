"""The frame of a ``.psz`` file.

::

    "PSZ" version                      4 bytes
    length of the header               varint
    header                             an outline, JSON, or raw deflate of it with the preset dictionary below
    length of the padding              varint, nearly always 0
    payload                            number of the range coder, most significant byte first, without zeros at its end
    CRC-32 of all that stands before   4 bytes

Nothing but the checksum is trusted to be whole: every length is compared with what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrosparse.coding.outline import MARK, OutlineError, expand, shorten
from pyrosparse.errors import CorruptFileError, DataError, ExportError, NewerFileError

__all__ = ["MAGIC", "VERSION", "Frame", "pack", "read", "read_bytes", "replacing", "unpack", "write"]

MAGIC = b"PSZ"
VERSION = (
    3  # 1 has no groups and no codebooks; 1 and 2 spend more on small numbers, steps and index maps; both are read
)
LARGEST_HEADER = 1 << 20  # bytes, after inflating
CHECKSUM = 4

# Deflate finds in here what headers have in common. Part of the format: it may not change.
DICTIONARY = (
    b'"track_running_stats":false"count_include_pad":false"negative_slope":"padding_mode":"circular""reflect"'
    b'"affine":false"padding":"same""groups":"dilation":2"inplace":true"approximate":"tanh""stride":2"bias":false'
    b'["decoder","Q",["encoder","Q",["classifier","Q",["features","Q",["D1",["M1",2["C1",["B1",["A1",2["CT2",["C3",'
    b'["dropout","D",{"p":0.2}],["norm1","B2",["bn1","B2",["tanh1","T"],["drop1","D"],["input","L",["hidden","L",'
    b'["output","L",["softmax","SM",{"dim":1}],["pool","AA2",1],["avgpool1","A2",2],["conv3","C2",32,64,3,'
    b'{"padding":1}],["conv4","C2",64,128,3,{"padding":1}],["fc4","L",300,10],["R"],["L",128,10],["L",784,500,'
    b'"d":"fffffff","s":null,"n":"ihhhhfxuxuxu","t":[["fc1.weight",[["fc1.bias",[["weight",[["bias",['
    b'{"a":["Q",["conv1","C2",1,20,5],["relu1","R"],["pool1","M2",2],["conv2","C2",20,50,5],["relu2","R"],'
    b'["pool2","M2",2],["flatten","F"],["fc1","S",784,300],["fc1","L",64,100],["relu1","R"],["fc2","L",300,100],'
    b'["relu2","R"],["relu3","R"],["fc3","L",100,10]],"c":0.25,"c":0.71,"c":2.0,"c":1.41,"c":1.0,"c":0.5,'
    b'"k":"susu","k":"isususu","o":266610}'
)


@dataclass(frozen=True)
class Frame:
    """What is inside a file; ``sizes`` says where its bytes went."""

    version: int
    header: dict[str, Any]
    payload: bytes
    padding: int
    sizes: dict[str, int]


def pack(header: dict[str, Any], payload: bytes, padding: int = 0) -> bytes:
    """Put a file together."""
    short = shorten(header) or _deflated(header)
    framed = _varint(len(short)) + short + _varint(padding) + bytes(padding)
    body = MAGIC + bytes([VERSION]) + framed + payload
    return body + zlib.crc32(body).to_bytes(CHECKSUM, "little")


def _deflated(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    short = deflate.compress(text) + deflate.flush()
    return text if len(short) >= len(text) or short[:1] == b"{" else short


def unpack(data: bytes, path: str | os.PathLike[str]) -> Frame:
    """Take a file apart; ``path`` is for messages.

    :raises NewerFileError: if a later version of the format wrote it.
    :raises CorruptFileError: if it is not whole.
    """
    if not data.startswith(MAGIC):
        what = "is empty" if not data else "is not a .psz file"
        raise CorruptFileError(f"{path}: {what}; write one with pyrosparse.save")
    if len(data) > len(MAGIC) and data[len(MAGIC)] > VERSION:
        raise NewerFileError(
            f"{path}: written in version {data[len(MAGIC)]} of the format; this pyrosparse reads up to "
            f"version {VERSION}: upgrade it"
        )
    start, end = len(MAGIC) + 1, len(data) - CHECKSUM
    if end < start or zlib.crc32(data[:end]) != int.from_bytes(data[end:], "little"):
        raise CorruptFileError(f"{path}: the checksum does not match: the file is truncated or was altered")
    if not 1 <= data[len(MAGIC)] <= VERSION:
        raise CorruptFileError(f"{path}: version {data[len(MAGIC)]} of the format does not exist")
    length, start = _read_varint(data, start, end, path)
    header = _parse(data[start : start + length], data[len(MAGIC)], path)
    after, padding_start = start + length, 0
    padding, padding_start = _read_varint(data, after, end, path)
    if padding > end - padding_start or any(data[padding_start : padding_start + padding]):
        raise CorruptFileError(f"{path}: the padding is damaged")
    payload = data[padding_start + padding : end]
    sizes = {
        "magic and version": len(MAGIC) + 1,
        "header": after - len(MAGIC) - 1,
        "padding": padding + padding_start - after,
        "weights": len(payload),
        "checksum": CHECKSUM,
    }
    return Frame(data[len(MAGIC)], header, payload, padding, sizes)


def _parse(data: bytes, version: int, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        if version >= 3 and data and data[0] & MARK == MARK:
            return expand(data)
        if not data.startswith(b"{"):
            inflate = zlib.decompressobj(-15, DICTIONARY)
            data = inflate.decompress(data, LARGEST_HEADER)
            if not inflate.eof or inflate.unused_data:
                raise ValueError("too long or cut short")
        header = json.loads(data, parse_constant=_refuse)
    except (ValueError, zlib.error, RecursionError, OutlineError) as error:
        raise CorruptFileError(f"{path}: the header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise CorruptFileError(f"{path}: the header is not an object")
    return header


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, start: int, end: int, path: str | os.PathLike[str]) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if start >= end:
            break
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value > end - start:
                break
            return value, start
    raise CorruptFileError(f"{path}: a length in the file points beyond its end")


def read(path: str | os.PathLike[str]) -> Frame:
    """Read and check a file.

    :raises CorruptFileError: if it is not a whole ``.psz`` file.
    :raises DataError: if there is no such file, or it cannot be read.
    """
    return unpack(read_bytes(path), path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a file.

    :raises DataError: if there is none, it is a folder, or the operating system refuses.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: write one with pyrosparse.save, or look at the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder: give the .psz file itself") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes so that the path holds either the old file or all of the new one.

    :raises ExportError: if the folder is missing or not writable, or the disk is full.
    """
    with replacing(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and move it there once the block has ended well.

    :raises ExportError: if the operating system refuses; nothing half-written is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()  # left by a process of the same number that was killed
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        hint = "create the folder first" if not path.parent.is_dir() else "check space and permissions"
        raise ExportError(f"cannot write {path}: {error.strerror or error}; {hint}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
