"""The tensor operations of a function, written down as it runs, to be run again without its Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from pyrosparse.infer.calls import Call, Memory, Slot, results_of, slots_of, with_names, with_tensors
from pyrosparse.infer.torchscript import Words

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
        self._forms: dict[Slot, tuple[Any, ...]] = {}
        self._calls: list[Call] = []
        self._constants: dict[Slot, Tensor] = {}
        self._fresh: set[Slot] = set()  # constants that were made anew
        self._numbers: dict[complex, Tensor] = {}
        self._outputs: list[Slot] = []
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
        flat = results_of(result)
        if not all(tensor is None or isinstance(tensor, Tensor) for tensor in flat):
            self.refusal = self.refusal or f"{func} gives {type(flat[0]).__name__}, and no tensor"
            return result
        slots = [None if tensor is None else self._slot(tensor) for tensor in flat]
        self._calls.append(Call(func, arguments, slots))
        return result

    def close(self, outputs: Sequence[Tensor]) -> None:
        """Say what it shall give when it is played."""
        self._outputs = [self._read(tensor) for tensor in outputs]
        self._reuse_memory()
        used = {*self._outputs, *(slot for call in self._calls for slot in slots_of(call.arguments))}
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
                arguments = with_tensors(call.arguments, values)
                schema = call.operation._schema.arguments
                named = {a.name: v for a, v in zip(schema, arguments, strict=True) if a.kwarg_only}
                result = call.operation(*arguments[: len(schema) - len(named)], **named)
                given = zip(call.results, results_of(result), strict=True)
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

    def _new(self, tensor: Tensor) -> Slot:
        slot = self._slots[tensor] = Slot(len(self._forms))
        self._forms[slot] = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        return slot

    def _slot(self, tensor: Tensor) -> Slot:
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
        memory = Memory(self._calls)
        kept = {memory.of(slot) for slot in [*self._inputs, *self._constants, *self._outputs]}
        renamed: dict[Slot, Slot] = {}
        for index, call in enumerate(self._calls):
            call.arguments = with_names(call.arguments, renamed)
            call.results = with_names(call.results, renamed)
            target, *others = call.arguments or [None]
            if call.operation not in _IN_PLACE or not isinstance(target, Slot):
                continue
            (result,) = call.results
            assert result is not None
            block = memory.of(target)
            free = block not in kept and memory.last[block] == index
            # real terms of one form: with others, another kernel might round otherwise
            forms = {self._forms[slot] for slot in (target, result, *slots_of(others))}
            alike = len(forms) == 1 and self._forms[target][2].is_floating_point
            alone = all(memory.of(slot) != block for slot in slots_of(others))
            whole = self._forms[block][0].numel() == self._forms[target][0].numel()
            if free and alone and whole and alike:
                if memory.of(result) in kept:
                    kept.add(block)
                memory.join(result, block)
                renamed[result] = target
                call.operation, call.results = _IN_PLACE[call.operation], [target]
        self._outputs = with_names(self._outputs, renamed)

    def _last_uses(self) -> Iterator[list[Slot]]:
        """After each call, the slots that nothing reads any more."""
        kept = {*self._inputs, *self._constants, *self._outputs}
        last: dict[Slot, int] = {}
        for index, call in enumerate(self._calls):
            last |= dict.fromkeys([*slots_of(call.arguments), *slots_of(call.results)], index)
        over: list[list[Slot]] = [[] for _ in self._calls]
        for slot, index in last.items():
            if slot not in kept:
                over[index].append(slot)
        return iter(over)

    def _script(self) -> Iterator[str]:
        """Lines of the function in TorchScript's intermediate form."""
        words = Words()
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


def _picks(operation: Any, arguments: Sequence[Any]) -> bool:
    """Whether it reads entries by their indices: only masks give as many as they have true ones."""
    if operation is not torch.ops.aten.index.Tensor:
        return False
    return all(i is None or i.dtype not in {torch.bool, torch.uint8} for i in arguments[1])
