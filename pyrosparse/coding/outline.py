"""Headers of the zoo's small networks: the number of an outline, and the few sizes that pruning has changed.

An outline is a tree of layers as :mod:`pyrosparse.coding.architecture` writes it, with places left open: ``"#"`` is a
number, ``"=k"`` is k times the last one, and a linear layer of kind ``"L?"`` is followed by the number of its inputs
and, where it selects some of them (``"S"``), that of those before. All that is open becomes the digits of
one integer, in a mixed base. A header that no outline fits is sent as text. Outlines are part of the format: they may
be added to, not changed.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["MARK", "OutlineError", "expand", "shorten"]

MARK = 7  # of the three lowest bits of the first byte: no deflate stream and no JSON starts so
LONGEST = 64  # bytes of a header in this form
LETTERS = "sapuhxigkr"  # codecs
WAYS = 4  # to send a step
STEPS = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
MOST_BITS = 41  # of a number
MOST_PLACES = 8  # after the point
SELECTING = {"L?": ("L", "S"), "ZL?": ("ZL", "ZS")}


@dataclass(frozen=True)
class Outline:
    """A network with places left open.

    :param tree: JSON.
    :param parameters: numbers in the network that nothing was pruned from.
    :param codecs: letters that a layer's weight and bias usually have.
    """

    tree: str
    parameters: int
    codecs: str = "au"


OUTLINES = (
    Outline(
        '["Q",["flatten","F"],["fc1","L?",784,"#"],["relu1","R"],["fc2","L?","=1","#"],["relu2","R"],["fc3","L?","=1",10]]',
        266_610,
    ),
    Outline(
        '["Q",["conv1","C2",1,"#",5],["relu1","R"],["pool1","M2",2],["conv2","C2","=1","#",5],["relu2","R"],'
        '["pool2","M2",2],["flatten","F"],["fc1","L?","=16","#"],["relu3","R"],["fc2","L?","=1",10]]',
        431_080,
    ),
    Outline(
        '["Q",["flatten","F"],["fc1","L?",64,"#"],["relu1","R"],["fc2","L?","=1","#"],["relu2","R"],["fc3","L?","=1",10]]',
        50_610,
    ),
    Outline(
        '["Q",["cast","ZI"],["flatten","F"],["fc1","ZL?",784,"#"],["act1","ZR"],["fc2","ZL?","=1",10],["real","RE"]]',
        6_512_660,
        "pu",
    ),
    Outline(
        '["Q",["cast","ZI"],["conv1","ZC2",1,"#",5],["act1","ZR"],["pool1","ZA2",2],["conv2","ZC2","=1","#",5],'
        '["act2","ZR"],["pool2","ZA2",2],["flatten","F"],["fc1","ZL?","=16","#"],["act3","ZR"],["fc2","ZL?","=1",10],'
        '["real","RE"]]',
        862_160,
        "pu",
    ),
)  # fmt: skip


class OutlineError(Exception):
    """A header that the outline does not fit, or digits that no header has."""


class Digits:
    """Numbers below sizes that both sides know, one after the other, as the digits of one integer."""

    def __init__(self, data: bytes | None = None) -> None:
        self._value = None if data is None else int.from_bytes(data, "little")
        self._sent: list[tuple[int, int]] = []

    def code(self, value: int | None, size: int) -> int:
        """Send a number below ``size``, or fetch it."""
        if self._value is None:
            assert value is not None
            if not 0 <= value < size:
                raise OutlineError(f"{value} is no digit below {size}")
            self._sent.append((value, size))
            return value
        self._value, digit = divmod(self._value, size)
        return digit

    def number(self, value: int | None) -> int:
        """A number of unknown size: its length in bits, then the bits below the leading one."""
        if value is not None and (type(value) is not int or value < 0):
            raise OutlineError(f"{value!r} is no size")
        length = self.code(None if value is None else value.bit_length(), MOST_BITS)
        lead = 1 << max(length - 1, 0)
        return lead + self.code(None if value is None else value - lead, lead) if length > 1 else length

    def finish(self) -> bytes:
        """Bytes of what was sent; a reader checks that there is nothing more."""
        value = self._value or 0
        if self._value is None:
            for digit, size in reversed(self._sent):
                value = value * size + digit
        elif value:
            raise OutlineError("digits are left over")
        return value.to_bytes(-(-value.bit_length() // 8), "little")


def shorten(header: dict[str, Any]) -> bytes | None:
    """Bytes of a header that one of the outlines fits; None for others."""
    if type(header.get("c", 0.0)) is not float or type(header.get("o")) is not int:
        return None
    text = json.dumps(header, sort_keys=True)
    for i, outline in enumerate(OUTLINES):
        digits = Digits()
        try:
            again = _code_header(digits, outline, header)
        except OutlineError:
            continue
        data = bytes([i << 3 | MARK]) + digits.finish()
        if json.dumps(again, sort_keys=True) == text and len(data) <= LONGEST:
            return data
    return None


def expand(data: bytes) -> dict[str, Any]:
    """Header of what :func:`shorten` returned.

    :raises OutlineError: if it returned no such thing.
    """
    place = data[0] >> 3
    if place >= len(OUTLINES) or len(data) > LONGEST:
        raise OutlineError("an outline that is not known")
    digits = Digits(data[1:])
    header = _code_header(digits, OUTLINES[place], None)
    digits.finish()
    return header


def _code_header(digits: Digits, outline: Outline, header: dict[str, Any] | None) -> dict[str, Any]:
    """Send or fetch a header with a tree, perhaps a step, codecs, and the number of parameters."""
    given = {} if header is None else header
    if header is not None and not set(header) <= {"a", "c", "k", "o"}:
        raise OutlineError("a header with more than an outline has")
    out: dict[str, Any] = {}
    usual: list[str] = []
    out["a"] = _Tree(digits, outline, usual).code(json.loads(outline.tree), given.get("a"), header is None)
    step = _code_step(digits, given.get("c"), header is None)
    if step is not None:
        out["c"] = step
    out["k"] = _code_codecs(digits, given.get("k"), "".join(usual), header is None)
    if digits.code(None if header is None else int(given.get("o") != outline.parameters), 2):
        out["o"] = digits.number(None if header is None else given.get("o"))
    else:
        out["o"] = outline.parameters
    return out


@dataclass
class _Tree:
    """Walks over an outline and a tree together."""

    digits: Digits
    outline: Outline
    usual: list[str]
    last: int = 0

    def code(self, plan: Any, tree: Any, reading: bool) -> Any:
        """Return the tree; ``tree`` is None, and not looked at, when it is read."""
        if not isinstance(plan, list):
            return self._leaf(plan, tree, reading)
        if not reading and not isinstance(tree, list):
            raise OutlineError("another tree")
        kind = next((item for item in plan[:2] if isinstance(item, str) and item in SELECTING), None)
        if kind is not None:
            place = plan.index(kind)
            chosen = self.digits.code(None if reading else int(tree[place : place + 1] == [SELECTING[kind][1]]), 2)
            plan = [*plan[:place], SELECTING[kind][chosen], *["?"][:chosen], *plan[place + 1 :]]
        if not reading and len(tree) != len(plan):
            raise OutlineError("another tree")
        out = [self.code(item, None if reading else tree[i], reading) for i, item in enumerate(plan)]
        if any(isinstance(item, int) for item in plan) and len(plan) > 3 or kind is not None:
            self.usual.append(self.outline.codecs + ("i" if kind is not None and chosen else ""))
        return out

    def _leaf(self, plan: Any, tree: Any, reading: bool) -> Any:
        if plan in {"#", "?"}:
            number = self.digits.number(None if reading else tree)
            self.last = number if plan == "#" else self.last  # how many are selected says nothing of what follows
            return number
        found = self.last * int(plan[1:]) if isinstance(plan, str) and plan.startswith("=") else plan
        if not reading and (type(found) is not type(tree) or found != tree):
            raise OutlineError("another tree")
        return found


def _code_step(digits: Digits, step: Any, reading: bool) -> float | None:
    """A step in standard deviations: none, a usual one, a decimal fraction, or any other."""
    fraction = None if reading or step is None else _fraction(step)
    way = None
    if not reading:
        way = 0 if step is None else 1 if step in STEPS else 2 if fraction is not None else 3
    way = digits.code(way, WAYS)
    if way == 0:
        return None
    if way == 1:
        return STEPS[digits.code(None if reading else STEPS.index(step), len(STEPS))]
    if way == 2:
        places = digits.code(None if fraction is None else fraction[1], MOST_PLACES)
        return digits.number(None if fraction is None else fraction[0]) / 10**places
    bits = None if reading else int.from_bytes(struct.pack("<d", step), "little")
    return float(struct.unpack("<d", digits.code(bits, 1 << 64).to_bytes(8, "little"))[0])


def _fraction(step: float) -> tuple[int, int] | None:
    """A whole number and the power of ten that it is divided by, if there are small ones."""
    for places in range(MOST_PLACES if 0 < step < 1 << MOST_BITS else 0):
        whole = round(step * 10**places)
        if whole / 10**places == step and whole < 1 << MOST_BITS - 1:
            return whole, places
    return None


def _code_codecs(digits: Digits, codecs: Any, usual: str, reading: bool) -> str:
    if not reading and (not isinstance(codecs, str) or len(codecs) != len(usual)):
        raise OutlineError("codecs of other tensors")
    if not digits.code(None if reading else int(codecs != usual), 2):
        return usual
    return "".join(LETTERS[digits.code(None if reading else LETTERS.find(codecs[i]), len(LETTERS))]
                   for i in range(len(usual)))  # fmt: skip
