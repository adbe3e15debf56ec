"""Calls of user code that must give the same values for the same arguments and remember nothing in Python."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._pytree import tree_flatten

from hpo.errors import UsageError
from hpo.user_code.generators import no_global_draws
from hpo.user_code.python_state import unchanged_state

Value = TypeVar("Value")

STATE_ADVICE = (
    "a training step is recorded once and repeated for all models, so keep what changes from step to step in tensors, "
    "in the state that init returns or in a buffer of the network"
)
RANDOM_ADVICE = (
    "use nn.Dropout layers in a network, and hpo.random elsewhere, with the keys that augment gets or a step that the "
    "state counts"
)
NEARLY = 0.03  # of the size of a tensor on a GPU: a sum in another order may flip a sign of almost 0 here and there
PURITY_ADVICE = "let it follow from its arguments alone"


@contextmanager
def without_side_effects(
    roots: Mapping[str, Any], memory: str = STATE_ADVICE, draws: str = RANDOM_ADVICE
) -> Iterator[None]:
    """Around a call that is not the first: user code draws from no global generator and changes nothing it can reach.

    Args:
        roots: the code by what messages call it. memory, draws: what to do instead.

    Raises:
        UsageError: it does.
    """
    with no_global_draws(" or ".join(roots), draws), unchanged_state(roots, memory):
        yield


def call_twice(
    roots: Mapping[str, Any],
    call: Callable[[], Value],
    memory: str = STATE_ADVICE,
    draws: str = RANDOM_ADVICE,
    between: Callable[[], object] | None = None,
) -> Value:
    """The value of a call of user code, which is made twice.

    Args:
        roots: the code by what messages call it. call: with the same arguments each time.
        between: a call with other arguments, made in between: what the code keeps of it shows in the second value.
        memory, draws: what to do instead of remembering something, and of drawing from a global generator.

    Raises:
        UsageError: the values differ, or `still`.
    """
    first = call()
    if between:
        between()
    with without_side_effects(roots, memory, draws):
        second = call()
    if not equal_values(first, second):
        raise UsageError(f"{' or '.join(roots)} gives other values for the same arguments; {PURITY_ADVICE}")
    return second


def equal_values(first: Any, second: Any) -> bool:
    """Whether nested containers hold the same values; on a GPU, whose sums may differ in their order, nearly so."""
    (ones, shape), (others, other) = tree_flatten(first), tree_flatten(second)
    return shape == other and all(map(_same, ones, others))


def _same(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return type(one) is type(other) and bool(one == other or (one != one and other != other))
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    same = bool(((one == other) | (one.isnan() & other.isnan())).all())
    if same or one.device.type == "cpu" or not one.is_floating_point():
        return same
    difference = (one.nan_to_num() - other.nan_to_num()).norm()
    return bool(difference <= NEARLY * other.nan_to_num().norm())
