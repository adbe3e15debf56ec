"""A pure tensor function as a flat list of operations: the same numbers without Python, `grad` and `vmap` in between.

The function is run once while every operation on tensors that it comes down to is recorded, and then replayed. On the
way, operations that change nothing are left out: the zero probes of `taps`, for one, cost a pass over every activation.

`torch.fx` can do the same, and takes five times as long to trace: half a second for every population.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

log = logging.getLogger(__name__)

aten = torch.ops.aten
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default}
_ZEROS = {aten.new_zeros.default, aten.zeros_like.default, aten.zeros.default}


class Replayed:
    """Calls a function of stacks [K, ...] by replaying its trace; arguments must keep their shapes and kinds.

    The function is traced at the first call. At the second, on other numbers, the replay is compared with the
    function itself; where they differ (it is not pure), or where it cannot be traced, it is called as it is.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._trace: Trace | None = None
        self._calls = 0

    def __call__(self, *args: Any) -> Any:
        self._calls += 1
        if self._calls > 2:
            return self._trace(args) if self._trace else self._function(*args)
        if self._calls == 1:
            self._function(*args)  # whatever the function does at its first call alone is not to be replayed
            self._trace = record(self._function, args)
        expected = self._function(*args)
        if self._trace:
            found = self._trace(args)
            if _agree(found, expected):
                return found
            log.warning("a regularizer or network is not a pure function of its arguments; it runs without a trace")
            self._trace = None
        return expected


class _Slot(NamedTuple):
    """A tensor of the recording, by number."""

    number: int


class _Operation(NamedTuple):
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

    def __init__(self, operations: list[_Operation], inputs: int, result: list[Any], spec: TreeSpec) -> None:
        """inputs: how many tensors the arguments hold; result: the leaves of the result, slots where tensors."""
        self.operations = _needed(operations, result)
        self._inputs, self._result, self._spec = inputs, result, spec
        self._code = self._compiled()

    def __call__(self, args: Any) -> Any:
        return tree_unflatten(self._code([leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]), self._spec)

    def _compiled(self) -> Callable[[list[Tensor]], list[Any]]:
        """The operations as one Python function, whose locals are let go after their last use."""
        names: dict[str, Any] = {}

        def text(value: Any) -> str:
            if isinstance(value, _Slot):
                return f"t{value.number}"
            if isinstance(value, list | tuple):
                inner = ", ".join(text(entry) for entry in value)
                return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
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
        lines.append(f"    return {text(list(self._result))}")
        exec(compile("\n".join(lines), "<trace>", "exec"), names)
        return names["replay"]


def record(function: Callable[..., Any], args: tuple[Any, ...]) -> Trace | None:
    """The trace of `function(*args)`; None where it does more than operations on tensors."""
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    recorder = _Recorder(given)
    try:
        with recorder:
            result = function(*args)
    except Exception as error:  # whatever a user's function does that cannot be recorded
        log.info("not traced: %s", error)
        return None
    leaves, spec = tree_flatten(result)
    return Trace(recorder.operations, len(given), [recorder.replace(leaf) for leaf in leaves], spec)


class _Recorder(TorchDispatchMode):
    """Notes every operation below `grad` and `vmap`, with the tensors numbered in the order of their making."""

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()
        self.operations: list[_Operation] = []
        self.numbers: dict[int, _Slot] = {id(tensor): _Slot(number) for number, tensor in enumerate(inputs)}
        self._made = len(inputs)
        self.zeros: set[_Slot] = set()
        # Held until the end: a tensor that is gone could leave its id to another one.
        self.held: list[Any] = [inputs]

    def replace(self, value: Any) -> Any:
        """The slot of a tensor that is recorded; any other value is a constant and stays."""
        return self.numbers.get(id(value), value) if isinstance(value, Tensor) else value

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in function.tags:
            raise ValueError(f"{function} looks at the value of a tensor")
        result = function(*args, **(kwargs or {}))
        same = _unchanged(self, function, args, result)
        if same is not None:
            self.numbers[id(result)] = self.numbers[id(same)]
            self.held.append(result)
            return result
        operands, options = tree_map(self.replace, (tuple(args), dict(kwargs or {})))
        outputs: list[int | None] = []
        for tensor in tree_leaves(result, is_leaf=lambda leaf: leaf is None):
            if not isinstance(tensor, Tensor):
                outputs.append(None)  # convolution_backward gives None for a gradient that is not asked for
                continue
            slot = self.numbers.setdefault(id(tensor), _Slot(self._made))
            self._made += slot.number == self._made
            self.held.append(tensor)
            outputs.append(slot.number)
        if function in _ZEROS:
            self.zeros.add(self.numbers[id(result)])
        several = isinstance(result, list | tuple)
        self.operations.append(_Operation(function, operands, options, outputs, several))
        return result


def _unchanged(recorder: _Recorder, function: Any, args: Any, result: Any) -> Tensor | None:
    """The recorded argument that an operation gives back as it is, if it does.

    These are sums with zeros of the same shape, products with 1, first powers, and views that change nothing.
    """
    candidate = None
    if function is aten.add.Tensor and len(args) == 2:
        for kept, other in (args, args[::-1]):
            if recorder.replace(other) in recorder.zeros:
                candidate = kept
    elif function in _VIEWS or (function in (aten.mul.Scalar, aten.pow.Tensor_Scalar) and args[1] == 1):
        candidate = args[0]
    if not isinstance(candidate, Tensor) or id(candidate) not in recorder.numbers:
        return None
    alike = (candidate.shape, candidate.dtype, candidate.stride()) == (result.shape, result.dtype, result.stride())
    return candidate if alike else None


def _needed(operations: list[_Operation], result: Any) -> list[_Operation]:
    """The operations that the result depends on, and those that write in place, in order."""
    wanted = set(_slots(result))
    kept = []
    for operation in reversed(operations):
        if wanted.intersection(operation.slots) or operation.function._schema.is_mutable:
            wanted.update(_slots(operation.args), _slots(operation.kwargs))
            kept.append(operation)
    return kept[::-1]


def _slots(value: Any) -> list[int]:
    leaves = tree_leaves(value, is_leaf=lambda entry: isinstance(entry, _Slot))
    return [leaf.number for leaf in leaves if isinstance(leaf, _Slot)]


def _agree(first: Any, second: Any) -> bool:
    """Whether two results are equal but for rounding on at least one of the K rows.

    One row is enough: a model that is diverging may differ by more than rounding, and must not decide how its
    neighbours are computed.
    """
    rows: Tensor | None = None
    for one, other in zip(tree_leaves(first), tree_leaves(second), strict=True):
        one, other = (leaf.double().reshape(len(leaf), -1) for leaf in (one, other))
        size = other.nan_to_num().abs().amax(1, keepdim=True) if other.shape[1] else 0.0
        close = torch.isclose(one, other, rtol=1e-3, equal_nan=True) | ((one - other).abs() <= 1e-5 * size)
        rows = close.all(1) if rows is None else rows & close.all(1)
    return rows is None or bool(rows.any())
