"""Calls of user code that must give the same values for the same arguments and keep no state in Python."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._pytree import tree_flatten

from hpo.errors import UsageError
from hpo.user_code.generators import no_global_draws
from hpo.user_code.python_state import unchanged_state

Value = TypeVar("Value")

PURITY_ADVICE = "compute it from its arguments only"
# Relative to the norm of a tensor on a GPU: a sum in another order may flip the sign of a few values near 0.
GPU_TOLERANCE = 0.03


@contextmanager
def without_side_effects(roots: Mapping[str, Any]) -> Iterator[None]:
    """Around a call that is not the first: user code draws from no global generator and changes nothing it can reach.

    Args:
        roots: the code by its name in messages.

    Raises:
        UsageError: it does.
    """
    with no_global_draws(" or ".join(roots)), unchanged_state(roots):
        yield


def call_twice(
    roots: Mapping[str, Any], call: Callable[[], Value], between: Callable[[], object] | None = None
) -> Value:
    """The value of a call of user code, which is made twice.

    Args:
        roots: the code by its name in messages. call: uses the same arguments each time.
        between: a call with other arguments, made in between: what the code keeps of it shows in the second value.

    Raises:
        UsageError: the values differ, or as `without_side_effects`.
    """
    first = call()
    if between:
        between()
    with without_side_effects(roots):
        second = call()
    if not equal_values(first, second):
        raise UsageError(f"{' or '.join(roots)} gives different values for the same arguments; {PURITY_ADVICE}")
    return second


def equal_values(first: Any, second: Any) -> bool:
    """Whether nested containers hold the same values; on a GPU, where sums may differ in their order, nearly so."""
    (leaves, structure), (other_leaves, other_structure) = tree_flatten(first), tree_flatten(second)
    return structure == other_structure and all(map(_equal_leaves, leaves, other_leaves))


def _equal_leaves(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return type(one) is type(other) and bool(one == other or (one != one and other != other))
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    same = bool(((one == other) | (one.isnan() & other.isnan())).all())
    if same or one.device.type == "cpu" or not one.is_floating_point():
        return same
    difference = (one.nan_to_num() - other.nan_to_num()).norm()
    return bool(difference <= GPU_TOLERANCE * other.nan_to_num().norm())
