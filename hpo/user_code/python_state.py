"""What user code remembers in Python from call to call, outside the tensors it is given and returns.

A training step is recorded once and then replayed, and one module stands for all models of a population: a counter, a
flag or a generator that Python changes on the way would be lost or shared. Such code is found here and refused.
"""

import contextvars
import operator
import random
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.user_code.object_parts import PLAIN
from hpo.user_code.reachable import reachable

HASHED_BYTES = 1 << 20  # of an array: what a step changes in a larger one shows in a sample of it
MOST_ENTRIES = 10_000  # of a container that are compared
LONGEST = 200  # characters of a value's text that are compared
_JOINED = {enumerate, filter, map, zip}  # iterators over iterators


class _Tensor(NamedTuple):
    """A tensor as it was; the tensor itself is held, so that no other one takes its identity."""

    tensor: Tensor
    version: int


@contextmanager
def unchanged_state(roots: Mapping[str, Any], advice: str) -> Iterator[None]:
    """Around a call of user code that must leave its own Python state as it is.

    A tensor that is replaced by another is allowed, as where a layer keeps its last activations to be looked at:
    whether that changes any numbers shows where a replayed step is compared with the code.

    Args:
        roots: the code by what messages call it. advice: what to do instead.

    Raises:
        UsageError: something that the code can reach has changed.
    """
    before = snapshot(roots)
    yield
    after = snapshot(roots)
    for path in (*before, *(path for path in after if path not in before)):
        if _differs(before.get(path), after.get(path)):
            raise UsageError(f"{_in_words(path, roots)} changes in a call{_from_to(before, after, path)}; {advice}")
    for path, old in before.items():
        kept = after.get(path)
        same = isinstance(old, _Tensor) and isinstance(kept, _Tensor) and old.tensor is kept.tensor
        if same and _is_of_several_models(old.tensor):
            raise UsageError(f"{_in_words(path, roots)} is kept from an earlier call; {advice}")


def _is_of_several_models(tensor: Tensor) -> bool:
    """Whether a tensor was made under `vmap`, which is over, from what differs from model to model."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        batched = functorch.is_batchedtensor(tensor)
        dim = functorch.maybe_get_bdim(tensor)
        tensor = functorch.get_unwrapped(tensor)
        if batched:
            rows = tensor.movedim(dim, 0)
            if bool((rows != rows[:1]).any()):
                return True
            tensor = rows[0]
    return False


def snapshot(roots: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> what tells one value from another, for all that the roots reach."""
    return {path: state_digest(value) for path, value in reachable(roots) if not path.endswith(".training")}


def state_digest(value: Any) -> Any:
    """Something comparable by == that changes when the value does; for containers and unknown objects its type."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"  # PyTorch makes a class for a parametrized module
    if isinstance(value, Tensor):
        return _Tensor(value, value._version)
    if isinstance(value, np.ndarray):
        return kind, value.dtype.str, value.shape, hash(_sampled(value).tobytes())
    if type(value) in PLAIN:
        return kind, repr(value)
    if isinstance(value, set | frozenset):
        return kind, len(value), sorted(repr(entry)[:LONGEST] for entry in value)
    if isinstance(value, list | tuple | deque):
        return kind, len(value), _plain(value)
    if isinstance(value, dict):
        return kind, len(value), _plain(value), _plain(value.values())
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return kind, value.__module__, value.__qualname__
    return kind, _generator_state(value)


def _plain(values: Iterable[Any]) -> int:
    """A digest of the plain values among the entries of a container."""
    return hash(tuple(repr(value) for value in islice(values, MOST_ENTRIES) if type(value) in PLAIN))


def _generator_state(value: Any) -> Any:
    """The state of a random generator or an iterator; the text of another object of Python's own; else nothing."""
    if isinstance(value, random.Random):
        return None if isinstance(value, random.SystemRandom) else value.getstate()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.BitGenerator):
        return repr(value.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, types.GeneratorType):
        frame = value.gi_frame
        return frame and (frame.f_lasti, {name: repr(own)[:LONGEST] for name, own in frame.f_locals.items()})
    if isinstance(value, contextvars.ContextVar):
        return state_digest(value.get(None))
    if isinstance(value, threading.local):
        return state_digest(vars(value))
    if isinstance(value, MutableMapping):  # such as a WeakKeyDictionary
        return len(value), _plain(value.values())
    if type(value) in _JOINED:
        return [state_digest(part) for part in value.__reduce__()[1]]
    if hasattr(type(value), "__length_hint__"):  # iterators over lists, ranges and tuples
        return operator.length_hint(value, -1)  # an endless one has none
    if type(value).__module__ == "itertools":
        with warnings.catch_warnings(action="ignore"):  # copying them is deprecated, and gone in Python 3.14
            return repr(value) if "object at" not in repr(value) else repr(getattr(value, "__reduce__", str)())
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names and not callable(value):
        text = repr(value)
        return "" if " at 0x" in text else text[:LONGEST]
    return None


def _sampled(value: np.ndarray) -> np.ndarray:
    flat = value.reshape(-1)
    return flat if value.nbytes <= HASHED_BYTES else flat[:: value.nbytes // HASHED_BYTES + 1]


def _differs(old: Any, new: Any) -> bool:
    if isinstance(new, _Tensor):
        kept = old is None or old == state_digest(None) or isinstance(old, _Tensor)
        same = isinstance(old, _Tensor) and old.tensor is new.tensor
        return not kept or (same and old.version != new.version)
    if isinstance(old, _Tensor):
        return new != state_digest(None)
    return bool(old != new)


def _in_words(path: str, roots: Mapping[str, Any]) -> str:
    """A path as "root: rest", such as "the network: blocks.0.seen"."""
    root = max((name for name in roots if path.startswith(name)), key=len, default="")
    rest = path[len(root) :].lstrip(".: ")
    return f"{root}: {rest}" if root and rest else path


def _from_to(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> str:
    """Its values in words, where they are short."""
    values = [marks[path][1] for marks in (before, after) if isinstance(marks.get(path), tuple)]
    plain = len(values) == 2 and all(isinstance(value, str) and len(value) < 40 for value in values)
    return f" (from {values[0]} to {values[1]})" if plain else ""
