"""What user code changes in Python from call to call, outside the tensors that it gets and returns.

A training step is recorded once and then replayed, and one module stands for all models of a population: a counter, a
flag or a generator that Python changes in a step would be lost or shared. Such code is found here and refused.
"""

import contextvars
import operator
import random
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.user_code.object_parts import PLAIN
from hpo.user_code.reachable import reachable

STATE_ADVICE = (
    "a training step is recorded once and repeated for all models, so keep what changes from step to step in tensors, "
    "in the state that init returns or in a buffer of the network"
)
HASHED_BYTES = 1 << 20  # of an array: a change to a larger one shows in a sample of it
MAX_COMPARED_ENTRIES = 10_000  # of a container
MAX_COMPARED_CHARACTERS = 200  # of a value's text


class _Tensor(NamedTuple):
    """A tensor and its version; the tensor is held so that no other one gets its identity."""

    tensor: Tensor
    version: int


@contextmanager
def unchanged_state(roots: Mapping[str, Any]) -> Iterator[None]:
    """Around a call of user code that must not change its own Python state.

    A tensor may be replaced by another, as where a layer keeps its last activations for inspection: the comparison
    of a replayed step with the code shows whether that changes any numbers.

    Args:
        roots: the code by its name in messages.

    Raises:
        UsageError: something that the code can reach has changed.
    """
    before = snapshot(roots)
    yield
    after = snapshot(roots)
    for path in before | after:
        if _differs(before.get(path), after.get(path)):
            change = _describe_change(before, after, path)
            raise UsageError(f"{_describe_path(path, roots)} changes in a call{change}; {STATE_ADVICE}")
    for path, old in before.items():
        new = after.get(path)
        is_kept = isinstance(old, _Tensor) and isinstance(new, _Tensor) and old.tensor is new.tensor
        if is_kept and _differs_between_models(old.tensor):
            raise UsageError(f"{_describe_path(path, roots)} is kept from an earlier call; {STATE_ADVICE}")


def _differs_between_models(tensor: Tensor) -> bool:
    """Whether a tensor was made under a `vmap` that is over, with different values for different models."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        is_batched, dim = functorch.is_batchedtensor(tensor), functorch.maybe_get_bdim(tensor)
        tensor = functorch.get_unwrapped(tensor)
        if is_batched:
            rows = tensor.movedim(dim, 0)
            if bool((rows != rows[:1]).any()):
                return True
            tensor = rows[0]
    return False


def snapshot(roots: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> `state_digest`, for all that the roots reach."""
    return {path: state_digest(value) for path, value in reachable(roots) if not path.endswith(".training")}


def state_digest(value: Any) -> Any:
    """Something comparable by == that changes when the value does; for containers and unknown objects their type."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"  # PyTorch makes a class for a parametrized module
    if isinstance(value, Tensor):
        return _Tensor(value, value._version)
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1)
        sample = flat if value.nbytes <= HASHED_BYTES else flat[:: value.nbytes // HASHED_BYTES + 1]
        return kind, value.dtype.str, value.shape, hash(sample.tobytes())
    if type(value) in PLAIN:
        return kind, repr(value)
    if isinstance(value, set | frozenset):
        return kind, len(value), sorted(_text(entry) for entry in value)
    if isinstance(value, list | tuple | deque):
        return kind, len(value), _plain_digest(value)
    if isinstance(value, dict):
        return kind, len(value), _plain_digest(value), _plain_digest(value.values())
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return kind, value.__module__, value.__qualname__
    for types_, state in _STATES.items():
        if isinstance(value, types_):
            return kind, state(value)
    return kind, _iterator_state(value)


def _text(value: Any) -> str:
    return repr(value)[:MAX_COMPARED_CHARACTERS]


def _plain_digest(values: Iterable[Any]) -> int:
    """A digest of the plain values among the entries of a container."""
    return hash(tuple(repr(value) for value in islice(values, MAX_COMPARED_ENTRIES) if type(value) in PLAIN))


def _frame_state(generator: Any) -> Any:
    frame = generator.gi_frame
    return frame and (frame.f_lasti, {name: _text(local) for name, local in frame.f_locals.items()})


# The state of random generators, iterators and holders of other values.
_STATES: dict[Any, Callable[[Any], Any]] = {
    random.SystemRandom: lambda _: None,
    random.Random: lambda value: value.getstate(),
    np.random.Generator: lambda value: repr(value.bit_generator.state),
    np.random.BitGenerator: lambda value: repr(value.state),
    np.random.RandomState: lambda value: repr(value.get_state(legacy=False)),
    torch.Generator: lambda value: value.get_state().numpy().tobytes(),
    types.GeneratorType: _frame_state,
    contextvars.ContextVar: lambda value: state_digest(value.get(None)),
    threading.local: lambda value: state_digest(vars(value)),
    MutableMapping: lambda value: (len(value), _plain_digest(value.values())),  # such as a WeakKeyDictionary
    (enumerate, filter, map, zip): lambda value: [state_digest(part) for part in value.__reduce__()[1]],
}


def _iterator_state(value: Any) -> Any:
    """The position of an iterator; the text of another object of the standard library; otherwise None."""
    if hasattr(type(value), "__length_hint__"):  # iterators over lists, ranges and tuples
        return operator.length_hint(value, -1)  # an endless one has none
    if type(value).__module__ == "itertools":
        with warnings.catch_warnings(action="ignore"):  # copying them is deprecated, and gone in Python 3.14
            return repr(value) if "object at" not in repr(value) else repr(getattr(value, "__reduce__", str)())
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names and not callable(value):
        return "" if " at 0x" in repr(value) else _text(value)
    return None


def _differs(old: Any, new: Any) -> bool:
    if isinstance(new, _Tensor):
        if isinstance(old, _Tensor):
            return old.tensor is new.tensor and old.version != new.version
        return old is not None and old != state_digest(None)
    return bool(new != state_digest(None)) if isinstance(old, _Tensor) else bool(old != new)


def _describe_path(path: str, roots: Mapping[str, Any]) -> str:
    """A path as "root: rest", such as "the network: blocks.0.seen"."""
    root = max((name for name in roots if path.startswith(name)), key=len, default="")
    rest = path[len(root) :].lstrip(".: ")
    return f"{root}: {rest}" if root and rest else path


def _describe_change(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> str:
    """The old and the new value, where they are short."""
    values = [digests[path][1] for digests in (before, after) if isinstance(digests.get(path), tuple)]
    is_short = len(values) == 2 and all(isinstance(value, str) and len(value) < 40 for value in values)
    return f" (from {values[0]} to {values[1]})" if is_short else ""
