"""Trace: operations on tensors as one flat Python function, compiled once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_leaves, tree_unflatten


class Slot(NamedTuple):
    """A tensor of the recording, by number."""

    number: int


class Operation(NamedTuple):
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[int | None]  # slots, in the order of the result's leaves; None where that is no tensor
    several: bool  # whether the result is a list or tuple, if only of one tensor, as `split` may give

    @property
    def slots(self) -> list[int]:
        return [slot for slot in self.outputs if slot is not None]


class Trace:
    """The recorded operations: called with the recorded function's arguments, gives its result."""

    def __init__(self, operations: list[Operation], inputs: int, result: list[Any], spec: TreeSpec) -> None:
        """inputs: how many tensors the arguments hold; result: the leaves of the result, slots where tensors."""
        self.operations = _needed(operations, result)
        self._inputs, self._result, self._spec = inputs, result, spec
        # A result of plain containers is written into the code as it is.
        self._plain = _is_plain(tree_unflatten(result, spec))
        self._code = self._compiled()

    def __call__(self, args: Any) -> Any:
        given: list[Tensor] = []
        _gather(args, given)
        found = self._code(given)
        return found if self._plain else tree_unflatten(found, self._spec)

    def same_operations(self, other: "Trace") -> bool:
        """Whether both compute the same of their inputs: the same operations, with equal constants."""
        numbers: dict[int, int] = {}  # this trace's slots -> the other's; inputs have the same number in both

        def same(own: Any, its: Any) -> bool:
            if isinstance(own, Slot) and isinstance(its, Slot):
                return numbers.setdefault(own.number, own.number if own.number < self._inputs else -1) == its.number
            if isinstance(own, Tensor) and isinstance(its, Tensor):
                return own.shape == its.shape and own.dtype == its.dtype and bool(torch.equal(own, its))
            if type(own) is not type(its):
                return False
            if isinstance(own, dict):
                return own.keys() == its.keys() and all(same(value, its[key]) for key, value in own.items())
            if isinstance(own, list | tuple):
                return len(own) == len(its) and all(map(same, own, its))
            return bool(own == its or (own != own and its != its))  # NaN is equal to NaN here

        if len(self.operations) != len(other.operations):
            return False
        for own, its in zip(self.operations, other.operations, strict=True):
            if own.function is not its.function or not (same(own.args, its.args) and same(own.kwargs, its.kwargs)):
                return False
            numbers.update(zip(own.slots, its.slots, strict=False))
        return self._spec == other._spec and same(self._result, other._result)

    def _compiled(self) -> Callable[[list[Tensor]], Any]:
        """The operations as one Python function, whose locals are let go after their last use."""
        names: dict[str, Any] = {}

        def text(value: Any) -> str:
            if isinstance(value, Slot):
                return f"t{value.number}"
            if type(value) is dict:
                return "{" + ", ".join(f"{key!r}: {text(entry)}" for key, entry in value.items()) + "}"
            if type(value) in (list, tuple):
                inner = ", ".join(text(entry) for entry in value)
                return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if value else "()"
            name = f"c{len(names)}"
            names[name] = value
            return name

        last: dict[int, int] = {}
        for number, operation in enumerate(self.operations):
            for slot in (*_slots(operation.args), *_slots(operation.kwargs), *operation.slots):
                last[slot] = number
        over: dict[int, list[str]] = {}
        for slot in last.keys() - set(_slots(self._result)):
            over.setdefault(last[slot], []).append(f"t{slot}")
        lines = [f"def replay(given):\n    {''.join(f't{slot}, ' for slot in range(self._inputs))} = given"]
        for number, operation in enumerate(self.operations):
            words = [text(arg) for arg in operation.args]
            words += [f"{key}={text(value)}" for key, value in operation.kwargs.items()]
            targets = "".join("_, " if slot is None else f"t{slot}, " for slot in operation.outputs)
            targets = targets if operation.several else targets[:-2]
            drop = f"; del {', '.join(over[number])}" if number in over else ""
            lines.append(f"    {targets} = {text(operation.function)}({', '.join(words)}){drop}")
        found = tree_unflatten(self._result, self._spec) if self._plain else self._result
        lines.append(f"    return {text(found)}")
        exec(compile("\n".join(lines), "<trace>", "exec"), names)
        return names["replay"]


def _is_plain(value: Any) -> bool:
    """Whether nested containers are dicts with names, lists and tuples, and nothing derived from them."""
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, Slot) or not isinstance(value, dict | list | tuple)


def _gather(value: Any, found: list[Tensor]) -> None:
    """Appends the tensors of nested containers in their order, as `tree_leaves` has it, in a third of the time."""
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, dict):
        for entry in value.values():
            _gather(entry, found)
    elif isinstance(value, list | tuple):
        for entry in value:
            _gather(entry, found)


def _needed(operations: list[Operation], result: Any) -> list[Operation]:
    """The operations that the result depends on, and those that write in place, in order."""
    wanted = set(_slots(result))
    kept = []
    for operation in reversed(operations):
        if wanted.intersection(operation.slots) or operation.function._schema.is_mutable:
            wanted.update(_slots(operation.args), _slots(operation.kwargs))
            kept.append(operation)
    return kept[::-1]


def _slots(value: Any) -> list[int]:
    leaves = tree_leaves(value, is_leaf=lambda entry: isinstance(entry, Slot))
    return [leaf.number for leaf in leaves if isinstance(leaf, Slot)]
