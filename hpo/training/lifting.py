"""Functions of one model, lifted to stacks of models."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.user_code.generators import RefuseRandomOperations


def lift(function: Callable[..., Any], models: int) -> Callable[..., Any]:
    """`vmap` over the models. A single model runs without it: vmap makes convolutions grouped ones."""
    return vmap(function, randomness="error") if models > 1 else lift_alone(function)


def lift_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one model for a stack of one; its first call refuses what vmap would refuse."""
    checked = False

    def run_alone(*args: Any) -> Any:
        nonlocal checked
        single = tree_map(lambda leaf: leaf[0], args)
        with nullcontext() if checked else RefuseRandomOperations():
            result = function(*single)
        checked = True
        return tree_map(lambda leaf: leaf[None], result)

    return run_alone
