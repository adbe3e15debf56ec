"""Traces a pure tensor function: a flat list of operations gives the same numbers without Python, `grad` and `vmap`.

The function runs once while all its operations on tensors are recorded, and the record is then replayed. Operations
that change nothing are left out: the zero probes of `layer_rules`, for example, cost a pass over every activation.

`torch.fx` can do the same, but takes five times as long to trace: half a second per population.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from hpo.dispatch import DispatchMode
from hpo.errors import UsageError
from hpo.training.products import faster_product
from hpo.training.trace import Operation, Slot, Trace
from hpo.user_code.calls import equal_values
from hpo.user_code.python_state import STATE_ADVICE

log = logging.getLogger(__name__)

aten = torch.ops.aten
CHECKED_CALLS = 3  # each of the first calls compares the trace with the function; later calls do so on request
# Relative to the largest number of a row, on a CPU; 100 times that on a GPU, whose sums may change their order.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default}
_EXPORTS = {Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.__dlpack__}
_ZEROS = {aten.new_zeros.default, aten.zeros_like.default, aten.zeros.default}


class TracedFunction:
    """Calls a function of stacks [K, ...] by replaying its trace; arguments must keep their shapes and dtypes.

    The first call traces the function. The first three calls, and any call before which `compare` is set, compare the
    trace with the function itself. State that the function keeps from the call before shows in the third call, as it
    is the same in the first two. A function that cannot be traced is called directly.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str = "the function",
        watch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        Args:
            name: the user's code in it as messages name it. watch: a context around the second run of the function,
                which finds what the function changes in Python.
        """
        self._function, self._name, self._watch = function, name, watch
        self._trace: Trace | None = None
        self._calls = 0
        self.compare = False  # in the next call

    def __call__(self, *args: Any) -> Any:
        """The function's result for these arguments.

        Raises:
            UsageError: the function no longer does what was traced.
        """
        self._calls += 1
        if self._calls > CHECKED_CALLS and not (self.compare and self._trace):
            return self._trace(args) if self._trace else self._function(*args)
        self.compare = False
        if self._calls == 1:
            self._function(*args)  # the trace must not contain what the function does only in its first call
            with self._watch():
                self._trace = record(self._function, args)
        expected = self._function(*args)
        if self._trace is None or not _replays(self._trace, args, expected):
            if self._calls > CHECKED_CALLS:
                self._check_same_operations(args)
            elif self._trace or self._calls == CHECKED_CALLS:
                self._check_repeatable(args, expected)
            self._trace = None
        return expected

    def _check_repeatable(self, args: tuple[Any, ...], expected: Any) -> None:
        if not equal_values(self._function(*args), expected):
            raise UsageError(f"{self._name} gives different numbers for the same arguments; {STATE_ADVICE}")

    def _check_same_operations(self, args: tuple[Any, ...]) -> None:
        """Raises UsageError if the function's operations have changed since it was traced.

        If they have not, a rounding error has grown, such as in the sign of almost 0; then only the trace is given up.
        """
        trace = record(self._function, args)
        if trace is None or self._trace is None or not trace.same_operations(self._trace):
            raise UsageError(
                f"{self._name} computes something else in call {self._calls} than the operations of its first call, "
                "which every training step repeats; make what changes during training a tensor in the state or in a "
                "buffer, and choose by torch.where"
            )


def record(function: Callable[..., Any], args: tuple[Any, ...]) -> Trace | None:
    """The trace of `function(*args)`; None if the function does more than operations on tensors."""
    inputs = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    recorder = _Recorder(inputs)
    try:
        with recorder, _RefuseExports():
            result = function(*args)
    except Exception as error:  # the user's function may raise anything
        log.info("not traced: %s", error)
        return None
    leaves, spec = tree_flatten(result)
    return Trace(recorder.operations, len(inputs), [recorder.replace(leaf) for leaf in leaves], spec)


class _RefuseExports(TorchFunctionMode):
    """Refuses to export a tensor's numbers from PyTorch, as no recorded operation would show that."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _EXPORTS:
            raise ValueError(f"{function.__name__} reads the values of a tensor")
        return function(*args, **(kwargs or {}))


class _Recorder(DispatchMode):
    """Records every operation below `grad` and `vmap`; tensors are numbered in the order of their creation."""

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.slots: dict[int, Slot] = {id(tensor): Slot(number) for number, tensor in enumerate(inputs)}
        self.zeros: set[Slot] = set()
        self._next = len(inputs)
        self._held: list[Any] = [inputs]  # a deleted tensor would leave its id to another one

    def replace(self, value: Any) -> Any:
        """The slot of a recorded tensor; any other value is a constant and stays."""
        return self.slots.get(id(value), value) if isinstance(value, Tensor) else value

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in function.tags:
            raise ValueError(f"{function} reads the value of a tensor")
        if torch.Tag.dynamic_output_shape in function.tags and not _indexes_by_number(function, args):
            raise ValueError(f"{function} returns a shape that depends on values")
        result = function(*args, **(kwargs or {}))
        unchanged = self._unchanged(function, args, result)
        if unchanged is not None:
            self.slots[id(result)] = self.slots[id(unchanged)]
            self._held.append(result)
            return result
        operands, options = tree_map(self.replace, (tuple(args), dict(kwargs or {})))
        # convolution_backward returns None for a gradient that is not needed.
        outputs = [self._slot(leaf) for leaf in tree_leaves(result, is_leaf=lambda leaf: leaf is None)]
        if function in _ZEROS:
            self.zeros.add(self.slots[id(result)])
        kernel = None if options else faster_product(function, args)
        sequence = isinstance(result, list | tuple)
        self.operations.append(Operation(function, operands, options, outputs, sequence, kernel))
        return result

    def _slot(self, leaf: Any) -> int | None:
        """The number of an operation's output, a new one if the tensor is new; None for what is no tensor."""
        if not isinstance(leaf, Tensor):
            return None
        slot = self.slots.setdefault(id(leaf), Slot(self._next))
        self._next += slot.number == self._next
        self._held.append(leaf)
        return slot.number

    def _unchanged(self, function: Any, args: Any, result: Any) -> Tensor | None:
        """The recorded argument to which the result is equal, if the operation changes nothing.

        These are sums with zeros of the same shape, products with 1, first powers, and views of the same shape.
        """
        candidate = None
        if function is aten.add.Tensor and len(args) == 2:
            for kept, other in (args, args[::-1]):
                if self.replace(other) in self.zeros:
                    candidate = kept
        elif function in _VIEWS or (function in (aten.mul.Scalar, aten.pow.Tensor_Scalar) and args[1] == 1):
            candidate = args[0]
        if not isinstance(candidate, Tensor) or id(candidate) not in self.slots:
            return None
        layouts = [(leaf.shape, leaf.dtype, leaf.stride()) for leaf in (candidate, result)]
        return candidate if layouts[0] == layouts[1] else None


def _indexes_by_number(function: Any, args: Any) -> bool:
    """Whether an operation looks up entries by their indices only, not by a mask."""
    masks = (torch.bool, torch.uint8)
    return function is aten.index.Tensor and all(index is None or index.dtype not in masks for index in args[1])


def _replays(trace: Trace, args: tuple[Any, ...], expected: Any) -> bool:
    """Whether the trace gives what is expected, up to rounding.

    A kernel's rounding error may decide whether a ReLU passes a value of almost 0, which changes a gradient by far more
    than the error; with the function's own products the trace then still gives the function's numbers.
    """
    return _close(trace(args), expected) or _close(trace.without_kernels(args), expected)


def _close(first: Any, second: Any) -> bool:
    """Whether two results are equal up to rounding in all of the K rows whose numbers are finite."""
    pairs = list(zip(tree_leaves(first), tree_leaves(second), strict=True))
    if all(one is other or torch.equal(one, other) for one, other in pairs):
        return True
    close_rows = []
    finite_rows = []
    for one, other in pairs:
        one, other = (torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in (one, other))
        tolerance = TOLERANCES.get(other.dtype, 0.0) * (1 if other.device.type == "cpu" else 100)
        one, other = (leaf.double().reshape(len(leaf), -1) for leaf in (one, other))
        size = other.nan_to_num().abs().amax(1, keepdim=True) if other.shape[1] else 0.0
        close_rows.append(((one - other).abs() <= tolerance * size).all(1))
        finite_rows.append((one.isfinite() & other.isfinite()).all(1))
    return bool((torch.stack(close_rows).all(0) | ~torch.stack(finite_rows).all(0)).all())
