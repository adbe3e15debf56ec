"""A pure tensor function as a flat list of operations: the same numbers without Python, `grad` and `vmap` in between.

The function is run once while every operation on tensors that it comes down to is recorded, and then replayed. On the
way, operations that change nothing are left out: the zero probes of `layer_rules`, for one, cost a pass over every
activation.

`torch.fx` can do the same, and takes five times as long to trace: half a second for every population.
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
from hpo.training.trace import Operation, Slot, Trace
from hpo.user_code.calls import equal_values
from hpo.user_code.python_state import STATE_ADVICE

log = logging.getLogger(__name__)

aten = torch.ops.aten
CHECKED_CALLS = 3  # at each of the first calls the replay is compared with the function; later on request
# Relative to the largest number of a row, on a CPU; 100 times that on a GPU, which may add in another order each time.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default}
_LEAVING = {Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.__dlpack__}
_ZEROS = {aten.new_zeros.default, aten.zeros_like.default, aten.zeros.default}


class TracedFunction:
    """Calls a function of stacks [K, ...] by replaying its trace; arguments must keep their shapes and kinds.

    The function is traced at the first call. At that call, the next two and wherever `compare` asks for it the replay
    is compared with the function itself. What the function remembers of the call before, outside its arguments, shows
    at the third: at the first two it is the same. A function that cannot be traced is called as it is.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        who: str = "the function",
        watch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        Args:
            who: whose code the function runs, in words. watch: a context for a call that is not the first, which finds
                what the function changes in Python.
        """
        self._function, self._who, self._watch = function, who, watch
        self._trace: Trace | None = None
        self._calls = 0
        self.compare = False  # at the next call

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
            self._function(*args)  # whatever the function does at its first call alone is not to be replayed
            with self._watch():
                self._trace = record(self._function, args)
        expected = self._function(*args)
        if self._trace is None or not _agree(self._trace(args), expected):
            if self._calls > CHECKED_CALLS:
                self._check_same_operations(args)
            elif self._trace or self._calls == CHECKED_CALLS:
                self._check_repeatable(args, expected)
            self._trace = None
        return expected

    def _check_repeatable(self, args: tuple[Any, ...], expected: Any) -> None:
        """Raises UsageError unless the function gives the same numbers again."""
        if not equal_values(self._function(*args), expected):
            raise UsageError(f"{self._who} gives other numbers for the same arguments; {STATE_ADVICE}")

    def _check_same_operations(self, args: tuple[Any, ...]) -> None:
        """Raises UsageError unless the function still comes down to the operations of its trace.

        Where it does, something has amplified a rounding error, such as the sign of almost 0; the trace is given up.
        """
        again = record(self._function, args)
        if again is None or self._trace is None or not again.same_operations(self._trace):
            raise UsageError(
                f"{self._who} computes something else in call {self._calls} than the operations recorded in the first, "
                "which every training step repeats; make what changes during training a tensor in the state or in a "
                "buffer, and choose by torch.where"
            )


def record(function: Callable[..., Any], args: tuple[Any, ...]) -> Trace | None:
    """The trace of `function(*args)`; None where it does more than operations on tensors."""
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    recorder = _Recorder(given)
    try:
        with recorder, _NoValues():
            result = function(*args)
    except Exception as error:  # whatever a user's function does that cannot be recorded
        log.info("not traced: %s", error)
        return None
    leaves, spec = tree_flatten(result)
    return Trace(recorder.operations, len(given), [recorder.replace(leaf) for leaf in leaves], spec)


class _NoValues(TorchFunctionMode):
    """Refuses what hands the numbers of a tensor to others than PyTorch, which no operation shows."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _LEAVING:
            raise ValueError(f"{function.__name__} looks at the values of a tensor")
        return function(*args, **(kwargs or {}))


class _Recorder(DispatchMode):
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
        if torch.Tag.dynamic_output_shape in function.tags and not _by_places(function, args):
            raise ValueError(f"{function} gives a shape that follows from values, and others that it leads to are kept")
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


def _by_places(function: Any, args: Any) -> bool:
    """Whether an operation looks up entries by their places alone, not by a mask."""
    masks = (torch.bool, torch.uint8)
    return function is aten.index.Tensor and all(index is None or index.dtype not in masks for index in args[1])


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
    """Whether two results are equal but for rounding in all of the K rows whose numbers are finite."""
    pairs = list(zip(tree_leaves(first), tree_leaves(second), strict=True))
    if all(one is other or torch.equal(one, other) for one, other in pairs):
        return True
    finite = close = None
    for one, other in pairs:
        one, other = (torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in (one, other))
        tolerance = ROUNDING.get(other.dtype, 0.0) * (1 if other.device.type == "cpu" else 100)
        one, other = (leaf.double().reshape(len(leaf), -1) for leaf in (one, other))
        size = other.nan_to_num().abs().amax(1, keepdim=True) if other.shape[1] else 0.0
        rows = ((one - other).abs() <= tolerance * size).all(1)
        whole = (one.isfinite() & other.isfinite()).all(1)
        close, finite = (rows, whole) if close is None or finite is None else (close & rows, finite & whole)
    return close is None or finite is None or bool((close | ~finite).all())
