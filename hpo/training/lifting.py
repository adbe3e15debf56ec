"""Functions of one model, lifted to stacks of models."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.user_code.generators import RefuseRandomOperations

# Per sample, of convolutions over images: ResNet-18 of width 64 has 1.1e9 on 32 × 32 pixels, of width 32 has 0.28e9.
MANY_OPERATIONS = 0.2e9


def lift(function: Callable[..., Any], models: int) -> Callable[..., Any]:
    """`vmap` over the models. A single model runs without it: vmap makes convolutions grouped ones."""
    return vmap(function, randomness="error") if models > 1 else lift_alone(function)


def lift_in_turn(function: Callable[..., Any], models: int) -> Callable[..., Any]:
    """A function of one model for a stack, called for one model after the other."""
    alone = lift_alone(function)

    def run_in_turn(*args: Any) -> Any:
        results = [alone(*tree_map(lambda leaf, row=row: leaf[row : row + 1], args)) for row in range(models)]
        return tree_map(lambda *rows: torch.cat(rows), *results)

    return run_in_turn if models > 1 else alone


def lifting_for(image_operations: float, example: Tensor) -> Callable[[Callable[..., Any], int], Callable[..., Any]]:
    """How to lift a network's passes: in turn on a CPU where its convolutions over images are large.

    Then launching the operations of each model costs little, and the grouped convolutions that vmap makes take 1.2 to
    1.5 times as long as separate ones.

    Args:
        image_operations: floating-point operations of these convolutions in a forward pass, per sample.
    """
    return lift_in_turn if example.device.type == "cpu" and image_operations > MANY_OPERATIONS else lift


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
