"""Regularizer: how a gradient is formed from an objective, as pure functions with explicit state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.search_space import Range
from hpo.tree import Tree

State = dict[str, Any]


def stateless(_: Tree) -> State:
    """The `init` of a regularizer without state."""
    return {}


class Regularizer(NamedTuple):
    """How a gradient is formed.

    Attributes:
        name: its name in messages and listings.
        grads: (objective, params, state, hyperparameters) -> (gradient, state, scalars). `gradient` has the leaves
            of `params`; `scalars` is a dict of tensors [] whose epoch means are in the curves as `aux/<name>`.
        hyperparameters: name -> its default: a `Range` to tune it over, or a number to keep it at. `grads` gets
            each as a tensor [].
        init: params -> state, nested dicts of tensors.
        views: how many augmented views of each minibatch `grads` needs, numbered from 0.
        clean_view: whether it also needs the samples without augmentation, as view "clean".
    """

    name: str
    grads: Callable[[Objective, Tree, State, Tree], tuple[Tree, State, Mapping[str, Tensor]]]
    hyperparameters: Mapping[str, Range | float] = {}
    init: Callable[[Tree], State] = stateless
    views: int = 1
    clean_view: bool = False
