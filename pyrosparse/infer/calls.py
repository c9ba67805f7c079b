"""Operations on a tape, and the memory that their tensors lie in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Call", "Memory", "Slot", "results_of", "slots_of", "with_names", "with_tensors"]


class Slot(int):
    """Number of a tensor on a tape."""


@dataclass
class Call:
    """One operation; arguments in the order of its schema, with slots in the place of tensors."""

    operation: Any
    arguments: list[Any]
    results: list[Slot | None]  # None where it gave no tensor


class Memory:
    """Which slots lie in the same memory, and which call is the last to touch it."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._block: dict[Slot, Slot] = {}
        self.last: dict[Slot, int] = {}
        for index, call in enumerate(calls):
            schema = call.operation._schema
            given = zip(call.arguments, schema.arguments, strict=True)
            shared = next((s for v, a in given if a.alias_info is not None for s in slots_of(v)), None)
            views = any(r.alias_info is not None for r in schema.returns)
            for slot in slots_of(call.results):
                if views and shared is not None and slot not in self._block:
                    self._block[slot] = self.of(shared)
            for slot in (*slots_of(call.arguments), *slots_of(call.results)):
                self.last[self.of(slot)] = index

    def of(self, slot: Slot) -> Slot:
        """The block of memory that a slot is in, named after its first tensor."""
        block = self._block.setdefault(slot, slot)
        return block if block == slot else self.of(block)

    def join(self, slot: Slot, block: Slot) -> None:
        """Let a slot, and what shares its memory, lie in another block."""
        old = self.of(slot)
        self._block[old] = block
        self.last[block] = max(self.last[block], self.last[old])


def results_of(result: Any) -> Sequence[Any]:
    """What an operation has given, as a sequence."""
    if result is None:
        return ()
    return result if isinstance(result, tuple | list) else (result,)


def slots_of(value: Any) -> Iterator[Slot]:
    """Every slot in an argument."""
    if isinstance(value, Slot):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from slots_of(v)


def with_names(value: Any, names: dict[Slot, Slot]) -> Any:
    """An argument, with other slots in the place of some."""
    if isinstance(value, Slot):
        return names.get(value, value)
    return [with_names(v, names) for v in value] if isinstance(value, list) else value


def with_tensors(value: Any, tensors: dict[Any, Tensor]) -> Any:
    """An argument, with tensors in the place of slots."""
    if isinstance(value, Slot):
        return tensors[value]
    return [with_tensors(v, tensors) for v in value] if isinstance(value, list) else value
