"""Constants and lists in TorchScript's intermediate form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from pyrosparse.infer.calls import Slot

__all__ = ["Words"]

# codes of TorchScript, the same in all its files
_DTYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.float64: 7, torch.complex32: 8, torch.complex64: 9, torch.complex128: 10, torch.bool: 11, torch.bfloat16: 15,
}  # fmt: skip
_FORMATS = {
    torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3,
}  # fmt: skip


class Words:
    """Constants and lists in TorchScript's intermediate form, each constant once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._lines: list[str] = []
        self._spares = 0

    def of(self, value: Any, kind: str) -> str:
        """Name of an argument of a kind of the operation's schema."""
        if isinstance(value, Slot):
            return f"%{value}"
        if isinstance(value, list):
            return self._list(value, kind)
        if isinstance(value, float) and not math.isfinite(value):
            return self._infinite(value)
        if isinstance(value, bool) and kind in {"number", "Tensor", "Optional[number]"}:
            value = int(value)
        # Python may give an integer where the schema has a floating-point number
        text, own = _constant(float(value) if "float" in kind and isinstance(value, int) else value)
        if (text, own) not in self._known:
            self._known[text, own] = self._write(own, f"prim::Constant{text}()")
        return self._known[text, own]

    def lines(self) -> Iterator[str]:
        """What has to be written before the names are used."""
        lines, self._lines = self._lines, []
        return iter(lines)

    def spare(self) -> str:
        """A name that nothing else has."""
        self._spares += 1
        return f"s{self._spares}"

    def _list(self, values: list[Any], kind: str) -> str:
        element = "Tensor" if "Tensor" in kind else next((n for n in ("bool", "float") if n in kind), "int")
        if element == "Tensor" and ("Optional[Tensor]" in kind or None in values):
            element = "Tensor?"
        given = ", ".join([self.of(v, element) for v in values])
        return self._write(f"{element}[]", f"prim::ListConstruct({given})")

    def _infinite(self, value: float) -> str:
        """±∞, or ∞ − ∞: the text has finite numbers alone."""
        large, ten = self.of(math.copysign(1e308, value), "float"), self.of(10.0, "float")
        infinite = self._write("float", f"aten::mul({large}, {ten})")
        return self._write("float", f"aten::sub({infinite}, {infinite})") if math.isnan(value) else infinite

    def _write(self, kind: str, text: str) -> str:
        name = f"%{self.spare()}"
        self._lines.append(f"  {name} : {kind} = {text}")
        return name


def _constant(value: Any) -> tuple[str, str]:
    """Text and kind of a constant.

    :raises NotImplementedError: for one that there is no text for.
    """
    if value is None:
        return "", "NoneType"
    if isinstance(value, int):
        return f"[value={int(value)}]", type(value).__name__
    if isinstance(value, float):
        digits = f"{value:.17g}"  # reads back as the same number; a point tells it from an integer
        mantissa, _, exponent = digits.partition("e")
        return f"[value={mantissa}{'' if '.' in mantissa else '.'}{exponent and 'e' + exponent}]", "float"
    if isinstance(value, str) and '"' not in value and "\\" not in value:
        return f'[value="{value}"]', "str"
    if isinstance(value, torch.device):
        return f'[value="{value}"]', "Device"
    code = _DTYPES.get(value, _FORMATS.get(value, 0 if value is torch.strided else None))
    if code is None:
        raise NotImplementedError(f"an argument is {value!r}")
    return f"[value={code}]", "int"
