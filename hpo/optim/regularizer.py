"""Regularizer: how a gradient is formed from an objective, as pure functions with explicit state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.search_space import Entry
from hpo.tree import Tree

State = dict[str, Any]


def stateless(*_: Tree) -> State:
    """The `init` of a regularizer without state."""
    return {}


class Regularizer(NamedTuple):
    """How a gradient is formed.

    Attributes:
        name: its name in messages and listings.
        grads: (objective, params, state, hyperparameters) -> (gradient, state, scalars). `gradient` has the leaves
            of `params`; `scalars` is a dict of tensors [] whose epoch means are in the curves as `aux/<name>`. The
            first loss or gradient that it asks for gives `train_loss` and BatchNorm's statistics.
        hyperparameters: name -> its default: a range or choice to tune it over, or a value to keep it at. `grads` gets
            each as a tensor [] of the parameters' type, a bool tensor for True and False.
        init: params -> state, nested dicts of tensors; called as init(params, hyper) where there are static ones.
        static: the hyperparameters that `grads` and `init` get as plain Python values, because they change shapes or
            the flow of control. Only models with equal values of these train side by side.
        views: how many augmented views of each minibatch `grads` needs, numbered from 0.
        clean_view: whether it also needs the samples without augmentation, as view "clean".
        min_samples: how many samples a minibatch or micro-batch needs to have; the last one of an epoch may have fewer.
    """

    name: str
    grads: Callable[[Objective, Tree, State, Tree], tuple[Tree, State, Mapping[str, Tensor]]]
    hyperparameters: Mapping[str, Entry] = {}
    init: Callable[..., State] = stateless
    views: int = 1
    clean_view: bool = False
    static: tuple[str, ...] = ()
    min_samples: int = 1
