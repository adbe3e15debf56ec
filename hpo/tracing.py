"""A pure tensor function as a flat list of operations: the same numbers without Python, `grad` and `vmap` in between.

The function is run once while every operation on tensors that it comes down to is recorded, and then replayed. On the
way, operations that change nothing are left out: the zero probes of `taps`, for one, cost a pass over every activation.

`torch.fx` can do the same, and takes five times as long to trace: half a second for every population.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from hpo.compiler import Watching
from hpo.own_code import warn_once
from hpo.trace import Operation, Slot, Trace

log = logging.getLogger(__name__)

aten = torch.ops.aten
# After these a replay is no longer compared with the function.
CHECKED_CALLS = 3
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default}
_ZEROS = {aten.new_zeros.default, aten.zeros_like.default, aten.zeros.default}


class Replayed:
    """Calls a function of stacks [K, ...] by replaying its trace; arguments must keep their shapes and kinds.

    The function is traced at the first call. At the second and third, on other numbers, the replay is compared with
    the function itself; where they differ (it is not pure), or where it cannot be traced, it is called as it is. What
    it remembers of the call before, outside its arguments, shows at the third: at the first two it is the same.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._trace: Trace | None = None
        self._calls = 0

    def __call__(self, *args: Any) -> Any:
        self._calls += 1
        if self._calls > CHECKED_CALLS:
            return self._trace(args) if self._trace else self._function(*args)
        if self._calls == 1:
            self._function(*args)  # whatever the function does at its first call alone is not to be replayed
            self._trace = record(self._function, args)
        expected = self._function(*args)
        if self._trace:
            found = self._trace(args)
            if _agree(found, expected):
                return found
            warn_once(
                "a regularizer or network gives other numbers for the same arguments, because it remembers something "
                "outside its state; it runs without a trace, and its runs may not repeat"
            )
            self._trace = None
        return expected


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


class _Recorder(Watching):
    """Notes every operation below `grad` and `vmap`, with the tensors numbered in the order of their making."""

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.numbers: dict[int, Slot] = {id(tensor): Slot(number) for number, tensor in enumerate(inputs)}
        self._made = len(inputs)
        self.zeros: set[Slot] = set()
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
            slot = self.numbers.setdefault(id(tensor), Slot(self._made))
            self._made += slot.number == self._made
            self.held.append(tensor)
            outputs.append(slot.number)
        if function in _ZEROS:
            self.zeros.add(self.numbers[id(result)])
        several = isinstance(result, list | tuple)
        self.operations.append(Operation(function, operands, options, outputs, several))
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


def _agree(first: Any, second: Any) -> bool:
    """Whether two results are equal but for rounding on at least one of the K rows.

    One row is enough: a model that is diverging may differ by more than rounding, and must not decide how its
    neighbours are computed.
    """
    rows: Tensor | None = None
    for one, other in zip(tree_leaves(first), tree_leaves(second), strict=True):
        one, other = (torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in (one, other))
        one, other = (leaf.double().reshape(len(leaf), -1) for leaf in (one, other))
        size = other.nan_to_num().abs().amax(1, keepdim=True) if other.shape[1] else 0.0
        close = torch.isclose(one, other, rtol=1e-3, equal_nan=True) | ((one - other).abs() <= 1e-5 * size)
        rows = close.all(1) if rows is None else rows & close.all(1)
    return rows is None or bool(rows.any())
