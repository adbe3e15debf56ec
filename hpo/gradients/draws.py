"""Moment and Draws: when a step takes place, and the random numbers that a regularizer may draw in it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from hpo.errors import UsageError
from hpo.random import bits, integer, mix, normal
from hpo.user_code.messages import describe_value

REGULARIZER = 0x5EED  # separates a regularizer's draws from the Dropout masks of the same step


class Moment(NamedTuple):
    """A step of a training run; int64 [] for one model, [K] for a stack.

    Attributes:
        key: of all random draws of the step, from the model's seed and the step.
        step: its number in the run, from 0. epoch: its number, from 1.
    """

    key: Tensor
    step: Tensor
    epoch: Tensor


class Draws:
    """Random numbers that follow from the model's seed and the step, so that every worker draws the same.

    Each method takes `like`: a tensor, or a dict of tensors such as the parameters, and returns numbers of the same
    shapes and dtypes. Each call in a step draws new numbers; the order of the calls determines which.
    """

    def __init__(self, key: Tensor) -> None:
        self._key, self._calls = key, 0

    def normal(self, like: Any) -> Any:
        """Independent standard normal numbers."""
        return self._draw(like, lambda key, numbers: normal(key, numbers))

    def signs(self, like: Any) -> Any:
        """Independent numbers −1 and 1, each with probability 1/2 (Rademacher)."""
        return self._draw(like, lambda key, numbers: (bits(key, numbers) & 1) * 2 - 1)

    def integers(self, like: Any, count: int) -> Any:
        """Independent whole numbers from 0 to count − 1, all equally likely."""
        if not isinstance(count, int) or count < 1:
            raise UsageError(f"objective.random.integers got count={count!r}; give a whole number of at least 1")
        return self._draw(like, lambda key, numbers: integer(key, numbers, count))

    def _draw(self, like: Any, numbers_of: Callable[[Tensor, Tensor], Tensor]) -> Any:
        leaves, spec = tree_flatten(like)
        call = self._calls
        self._calls += 1
        drawn = []
        for index, leaf in enumerate(leaves):
            if not isinstance(leaf, Tensor):
                raise UsageError(
                    f"objective.random got {describe_value(leaf)}; give a tensor, or a dict of tensors, whose shape "
                    "the random numbers are to have"
                )
            elements = torch.arange(leaf.numel(), device=leaf.device)
            key = mix(self._key, REGULARIZER, call, index)
            drawn.append(numbers_of(key, elements).to(leaf.dtype).reshape(leaf.shape))
        return tree_unflatten(drawn, spec)
