"""Trace: recorded tensor operations as one flat Python function, compiled once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_leaves, tree_unflatten


class Slot(NamedTuple):
    """A tensor of the recording, by number."""

    number: int


class Operation(NamedTuple):
    """A recorded call of a PyTorch operation.

    Attributes:
        outputs: slot numbers in the order of the result's leaves; None for a leaf that is not a tensor.
        sequence: whether the result is a list or tuple, maybe of only one tensor as `split` may return.
        kernel: a faster function with the same result, up to rounding.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[int | None]
    sequence: bool
    kernel: Callable[..., Any] | None = None

    @property
    def output_slots(self) -> list[int]:
        return [slot for slot in self.outputs if slot is not None]


class Trace:
    """Recorded operations. Called with the recorded function's arguments, it returns the function's result."""

    def __init__(self, operations: list[Operation], inputs: int, result: list[Any], spec: TreeSpec) -> None:
        """inputs: the number of tensors in the arguments. result: the leaves of the result, tensors as slots."""
        self.operations = _needed_operations(operations, result)
        self._inputs, self._result, self._spec = inputs, result, spec
        # A result of plain containers is written into the code itself.
        self._plain = _is_plain(tree_unflatten(result, spec))
        self._code = self._compile(faster=True)

    def __call__(self, args: Any) -> Any:
        return self._run(self._code, args)

    def without_kernels(self, args: Any) -> Any:
        """The result by the recorded operations themselves, rounded as the function's."""
        return self._run(self._compile(faster=False), args)

    def _run(self, code: Callable[[list[Tensor]], Any], args: Any) -> Any:
        tensors: list[Tensor] = []
        _collect_tensors(args, tensors)
        with np.errstate(all="ignore"):  # a model that diverges is found by its loss
            result = code(tensors)
        return result if self._plain else tree_unflatten(result, self._spec)

    def same_operations(self, other: "Trace") -> bool:
        """Whether both traces compute the same from their inputs: the same operations with equal constants."""
        numbers: dict[int, int] = {}  # slots of this trace -> slots of the other; inputs have the same numbers

        def same(left: Any, right: Any) -> bool:
            if isinstance(left, Slot) and isinstance(right, Slot):
                default = left.number if left.number < self._inputs else -1
                return numbers.get(left.number, default) == right.number
            if isinstance(left, Tensor) and isinstance(right, Tensor):
                return left.shape == right.shape and left.dtype == right.dtype and bool(torch.equal(left, right))
            if type(left) is not type(right):
                return False
            if isinstance(left, dict):
                return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
            if isinstance(left, list | tuple):
                return len(left) == len(right) and all(map(same, left, right))
            return bool(left == right or (left != left and right != right))  # NaN counts as equal to NaN

        if len(self.operations) != len(other.operations):
            return False
        for left, right in zip(self.operations, other.operations, strict=True):
            if left.function is not right.function or not same(left[1:3], right[1:3]):
                return False
            numbers.update(zip(left.output_slots, right.output_slots, strict=False))
        return self._spec == other._spec and same(self._result, other._result)

    def _compile(self, faster: bool) -> Callable[[list[Tensor]], Any]:
        """The operations, or their faster kernels, as one Python function that deletes locals after their last use."""
        constants: dict[str, Any] = {}

        def code(value: Any) -> str:
            if isinstance(value, Slot):
                return f"t{value.number}"
            if type(value) is dict:
                return "{" + ", ".join(f"{key!r}: {code(entry)}" for key, entry in value.items()) + "}"
            if type(value) in (list, tuple):
                entries = "".join(f"{code(entry)}, " for entry in value)
                return f"[{entries}]" if isinstance(value, list) else f"({entries})"
            name = f"c{len(constants)}"
            constants[name] = value
            return name

        lines = [f"def replay(tensors):\n    {''.join(f't{slot}, ' for slot in range(self._inputs))} = tensors"]
        for operation, unused in zip(self.operations, self._last_uses(), strict=True):
            arguments = [code(value) for value in operation.args]
            arguments += [f"{key}={code(value)}" for key, value in operation.kwargs.items()]
            targets = "".join("_, " if slot is None else f"t{slot}, " for slot in operation.outputs)
            targets = targets if operation.sequence else targets[:-2]
            function = (faster and operation.kernel) or operation.function
            lines.append(f"    {targets} = {code(function)}({', '.join(arguments)})")
            if unused:
                lines.append(f"    del {', '.join(f't{slot}' for slot in unused)}")
        result = tree_unflatten(self._result, self._spec) if self._plain else self._result
        lines.append(f"    return {code(result)}")
        exec(compile("\n".join(lines), "<trace>", "exec"), constants)
        return constants["replay"]

    def _last_uses(self) -> list[list[int]]:
        """For each operation the slots that neither a later operation nor the result uses."""
        used = set(_slots(self._result))
        unused: list[list[int]] = []
        for operation in reversed(self.operations):
            slots = {*_slots((operation.args, operation.kwargs)), *operation.output_slots}
            unused.append(list(slots - used))
            used |= slots
        return unused[::-1]


def _is_plain(value: Any) -> bool:
    """Whether nested containers are dicts with string keys, lists and tuples, and no subclass of them."""
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, Slot) or not isinstance(value, dict | list | tuple)


def _collect_tensors(value: Any, tensors: list[Tensor]) -> None:
    """Appends the tensors of nested containers in the order of `tree_leaves`, in a third of its time."""
    if isinstance(value, Tensor):
        tensors.append(value)
    elif isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            _collect_tensors(entry, tensors)


def _needed_operations(operations: list[Operation], result: Any) -> list[Operation]:
    """The operations that the result depends on, and those that write in place, in order."""
    needed = set(_slots(result))
    kept = []
    for operation in reversed(operations):
        if needed.intersection(operation.output_slots) or operation.function._schema.is_mutable:
            needed.update(_slots((operation.args, operation.kwargs)))
            kept.append(operation)
    return kept[::-1]


def _slots(value: Any) -> list[int]:
    leaves = tree_leaves(value, is_leaf=lambda entry: isinstance(entry, Slot))
    return [leaf.number for leaf in leaves if isinstance(leaf, Slot)]
