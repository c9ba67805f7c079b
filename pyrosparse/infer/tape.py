"""The tensor operations of a function, written down as it runs, to be run again without its Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Player", "Tape"]

Player = Callable[..., tuple[Tensor, ...]]
"""Gives the tape's outputs for its inputs."""

# what an operation gives that way depends on numbers, so that Python, or the shapes behind it, may depend on them too
_OF_DATA = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# without autograd these give the tensor that they were given
_SAME = {torch.ops.aten.detach.default, torch.ops.aten.alias.default}
# what may write on its first argument where nothing reads that any more
_IN_PLACE = {
    getattr(torch.ops.aten, name).Tensor: getattr(torch.ops.aten, f"{name}_").Tensor
    for name in ("add", "sub", "mul", "div")
}
# codes of TorchScript, the same in all its files
_DTYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.float64: 7, torch.complex32: 8, torch.complex64: 9, torch.complex128: 10, torch.bool: 11, torch.bfloat16: 15,
}  # fmt: skip
_FORMATS = {
    torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3,
}  # fmt: skip


class _Slot(int):
    """Number of a tensor on a tape."""


@dataclass
class _Call:
    """One operation; arguments in the order of its schema, with slots in the place of tensors."""

    operation: Any
    arguments: list[Any]
    results: list[_Slot | None]  # None where it gave no tensor


class Tape(TorchDispatchMode):
    """Writes down every operation on tensors while it is entered: below autograd, so those of a backward pass too.

    Tensors that come from none of these operations and are no inputs are constants: the tape keeps them, and reads
    them as they are when it is played. Python's own part of the function, its branches and its numbers, is on the
    tape as it was that time; ``refusal`` says where that is known to be wrong.

    :param inputs: what will be given anew each time it is played; distinct tensors.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.refusal: str | None = None
        self._slots = WeakTensorKeyDictionary()
        self._forms: dict[_Slot, tuple[Any, ...]] = {}
        self._calls: list[_Call] = []
        self._constants: dict[_Slot, Tensor] = {}
        self._fresh: set[_Slot] = set()  # constants that were made anew
        self._numbers: dict[complex, Tensor] = {}
        self._outputs: list[_Slot] = []
        self._inputs = [self._new(tensor) for tensor in inputs]
        self._reads = _Reads(self)

    def __enter__(self) -> Tape:
        self._reads.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._reads.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":  # names of stretches of time
            return func(*args, **kwargs)
        if _OF_DATA & set(func.tags) and not _picks(func, args):
            self.refusal = self.refusal or f"{func}: Python, or a shape, depends on the numbers in a tensor"
        if torch.Tag.inplace_view in func.tags:
            self.refusal = self.refusal or f"{func}: a tensor changes its form in place"
        if func is torch.ops.aten.lift_fresh.default:
            # a tensor that Python has just made: what follows may write on it
            made = self._slot(args[0])
            self._constants[made] = args[0].clone()
            self._fresh.add(made)
            func = torch.ops.aten.clone.default
        arguments = [
            self._read(args[i] if i < len(args) else kwargs.get(a.name, a.default_value))
            for i, a in enumerate(func._schema.arguments)
        ]
        result = func(*args, **kwargs)
        if func in _SAME:
            self._slots[result] = arguments[0]
            return result
        flat = _flat(result)
        if not all(tensor is None or isinstance(tensor, Tensor) for tensor in flat):
            self.refusal = self.refusal or f"{func} gives {type(flat[0]).__name__}, and no tensor"
            return result
        slots = [None if tensor is None else self._slot(tensor) for tensor in flat]
        self._calls.append(_Call(func, arguments, slots))
        return result

    def close(self, outputs: Sequence[Tensor]) -> None:
        """Say what it shall give when it is played."""
        self._outputs = [self._read(tensor) for tensor in outputs]
        self._reuse_memory()
        used = {*self._outputs, *(slot for call in self._calls for slot in _slots_of(call.arguments))}
        self._constants = {slot: tensor for slot, tensor in self._constants.items() if slot in used}
        self._fresh &= used

    def same_as(self, other: Tape) -> bool:
        """Whether two tapes have the same operations, with the same constants and numbers in the same places."""
        if (self._calls, self._outputs, self._fresh) != (other._calls, other._outputs, other._fresh):
            return False
        if self._constants.keys() != other._constants.keys():
            return False
        pairs = ((slot, tensor, other._constants[slot]) for slot, tensor in self._constants.items())
        return all(torch.equal(a, b) and a.dtype == b.dtype if s in self._fresh else a is b for s, a, b in pairs)

    def play(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the operations one after another, each tensor for as long as it is needed."""
        values = self._constants | dict(zip(self._inputs, inputs, strict=True))
        with torch.no_grad():
            for call, over in zip(self._calls, self._last_uses(), strict=True):
                arguments = _filled(call.arguments, values)
                schema = call.operation._schema.arguments
                named = {a.name: v for a, v in zip(schema, arguments, strict=True) if a.kwarg_only}
                result = call.operation(*arguments[: len(schema) - len(named)], **named)
                given = zip(call.results, _flat(result), strict=True)
                values |= {slot: tensor for slot, tensor in given if slot is not None}
                for slot in over:
                    del values[slot]
        return tuple(values[slot] for slot in self._outputs)

    def script(self) -> Player:
        """The same in TorchScript, whose interpreter takes a fraction of Python's time.

        :raises NotImplementedError: for an argument that it has no word for.
        """
        text = "\n".join(self._script())
        function = torch._C._create_function_from_graph("tape", torch._C.parse_ir(text))
        constants = list(self._constants.values())

        def play(*inputs: Tensor) -> tuple[Tensor, ...]:
            # optimised, it would fuse operations and round otherwise
            with torch.no_grad(), torch.jit.optimized_execution(False):
                return function(*inputs, *constants)

        return play

    def _new(self, tensor: Tensor) -> _Slot:
        slot = self._slots[tensor] = _Slot(len(self._forms))
        self._forms[slot] = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        return slot

    def _slot(self, tensor: Tensor) -> _Slot:
        known = self._slots.get(tensor)
        return self._new(tensor) if known is None else known

    def _read(self, value: Any) -> Any:
        """An argument, with slots in the place of tensors; TorchScript's text has no complex number."""
        if isinstance(value, complex):
            value = self._number(value)
        if isinstance(value, Tensor):
            known = self._slots.get(value)
            if known is None:
                known = self._new(value)
                self._constants[known] = value
            return known
        return [self._read(v) for v in value] if isinstance(value, tuple | list) else value

    def _number(self, value: complex) -> Tensor:
        """A complex number as a constant, one tensor for each."""
        if value not in self._numbers:
            self._numbers[value] = torch.tensor(value, dtype=torch.complex128)
            self._fresh.add(self._slot(self._numbers[value]))
            self._constants[self._slot(self._numbers[value])] = self._numbers[value]
        return self._numbers[value]

    def _reuse_memory(self) -> None:
        """Let sums and products write on a term that nothing reads any more.

        Autograd adds up gradients so, and a tape of its operations alone would need new memory for each sum.
        """
        memory = _Memory(self._calls)
        kept = {memory.of(slot) for slot in [*self._inputs, *self._constants, *self._outputs]}
        renamed: dict[_Slot, _Slot] = {}
        for index, call in enumerate(self._calls):
            call.arguments = _renamed(call.arguments, renamed)
            call.results = _renamed(call.results, renamed)
            target, *others = call.arguments or [None]
            if call.operation not in _IN_PLACE or not isinstance(target, _Slot):
                continue
            (result,) = call.results
            assert result is not None
            block = memory.of(target)
            free = block not in kept and memory.last[block] == index
            # real terms of one form: with others, another kernel might round otherwise
            forms = {self._forms[slot] for slot in (target, result, *_slots_of(others))}
            alike = len(forms) == 1 and self._forms[target][2].is_floating_point
            alone = all(memory.of(slot) != block for slot in _slots_of(others))
            whole = self._forms[block][0].numel() == self._forms[target][0].numel()
            if free and alone and whole and alike:
                if memory.of(result) in kept:
                    kept.add(block)
                memory.join(result, block)
                renamed[result] = target
                call.operation, call.results = _IN_PLACE[call.operation], [target]
        self._outputs = _renamed(self._outputs, renamed)

    def _last_uses(self) -> Iterator[list[_Slot]]:
        """After each call, the slots that nothing reads any more."""
        kept = {*self._inputs, *self._constants, *self._outputs}
        last: dict[_Slot, int] = {}
        for index, call in enumerate(self._calls):
            last |= dict.fromkeys([*_slots_of(call.arguments), *_slots_of(call.results)], index)
        over: list[list[_Slot]] = [[] for _ in self._calls]
        for slot, index in last.items():
            if slot not in kept:
                over[index].append(slot)
        return iter(over)

    def _script(self) -> Iterator[str]:
        """Lines of the function in TorchScript's intermediate form."""
        words = _Words()
        head = ", ".join(f"%{slot} : Tensor" for slot in [*self._inputs, *self._constants])
        yield f"graph({head}):"
        known = {*self._inputs, *self._constants}
        for call in self._calls:
            schema = call.operation._schema
            given = ", ".join(words.of(v, str(a.type)) for v, a in zip(call.arguments, schema.arguments, strict=True))
            yield from words.lines()
            # what works in place gives the slot that it was given, which has its name already
            fresh = [slot if slot is not None and slot not in known else None for slot in call.results]
            known |= {slot for slot in fresh if slot is not None}
            names = ", ".join(f"%{words.spare() if slot is None else slot} : Tensor" for slot in fresh)
            if [str(r.type) for r in schema.returns] == ["List[Tensor]"]:
                whole = words.spare()
                yield f"  %{whole} : Tensor[] = {schema.name}({given})"
                yield f"  {names} = prim::ListUnpack(%{whole})"
            elif names:
                yield f"  {names} = {schema.name}({given})"
            else:
                yield f"  {schema.name}({given})"
        outputs = ", ".join(f"%{slot}" for slot in self._outputs)
        types = ", ".join("Tensor" for _ in self._outputs)
        yield f"  %out : ({types}) = prim::TupleConstruct({outputs})"
        yield "  return (%out)"


class _Memory:
    """Which slots lie in the same memory, and which call is the last to touch it."""

    def __init__(self, calls: Sequence[_Call]) -> None:
        self._block: dict[_Slot, _Slot] = {}
        self.last: dict[_Slot, int] = {}
        for index, call in enumerate(calls):
            schema = call.operation._schema
            given = zip(call.arguments, schema.arguments, strict=True)
            shared = next((s for v, a in given if a.alias_info is not None for s in _slots_of(v)), None)
            views = any(r.alias_info is not None for r in schema.returns)
            for slot in _slots_of(call.results):
                if views and shared is not None and slot not in self._block:
                    self._block[slot] = self.of(shared)
            for slot in (*_slots_of(call.arguments), *_slots_of(call.results)):
                self.last[self.of(slot)] = index

    def of(self, slot: _Slot) -> _Slot:
        """The block of memory that a slot is in, named after its first tensor."""
        block = self._block.setdefault(slot, slot)
        return block if block == slot else self.of(block)

    def join(self, slot: _Slot, block: _Slot) -> None:
        """Let a slot, and what shares its memory, lie in another block."""
        old = self.of(slot)
        self._block[old] = block
        self.last[block] = max(self.last[block], self.last[old])


class _Reads(TorchFunctionMode):
    """Sees numbers leave tensors by ways that are no operations."""

    _WAYS = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr})

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._WAYS:
            self.tape.refusal = (
                self.tape.refusal or f"Tensor.{func.__name__}: Python depends on the numbers in a tensor"
            )
        return func(*args, **(kwargs or {}))


class _Words:
    """Constants and lists in TorchScript's intermediate form, each constant once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._lines: list[str] = []
        self._spares = 0

    def of(self, value: Any, kind: str) -> str:
        """Name of an argument of a kind of the operation's schema."""
        if isinstance(value, _Slot):
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


def _picks(operation: Any, arguments: Sequence[Any]) -> bool:
    """Whether it reads entries by their indices: only masks give as many as they have true ones."""
    if operation is not torch.ops.aten.index.Tensor:
        return False
    return all(i is None or i.dtype not in {torch.bool, torch.uint8} for i in arguments[1])


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


def _flat(result: Any) -> Sequence[Any]:
    """What an operation has given, as a sequence."""
    if result is None:
        return ()
    return result if isinstance(result, tuple | list) else (result,)


def _slots_of(value: Any) -> Iterator[_Slot]:
    if isinstance(value, _Slot):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from _slots_of(v)


def _renamed(value: Any, names: dict[_Slot, _Slot]) -> Any:
    if isinstance(value, _Slot):
        return names.get(value, value)
    return [_renamed(v, names) for v in value] if isinstance(value, list) else value


def _filled(value: Any, tensors: dict[Any, Tensor]) -> Any:
    """An argument, with tensors in the place of slots."""
    if isinstance(value, _Slot):
        return tensors[value]
    return [_filled(v, tensors) for v in value] if isinstance(value, list) else value
