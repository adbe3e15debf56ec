"""Optimizers of K stacked models: how K gradients become K updates, in place, with hyperparameters for each model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.gradients.returns import check_state, validate_state, validate_update
from hpo.optim import adam
from hpo.search_space import Entry, log_range
from hpo.tree import Tree, broadcast_to, zeros_like
from hpo.user_code.messages import call_user_code

State = dict[str, Any]

# How user code is called, for messages.
INIT, UPDATE, EVALUATED = "init(params)", "update(grads, state, params, hyper)", "evaluated(params, state)"


class Optimizer(NamedTuple):
    """How a gradient becomes an update, for a stack of K models.

    Attributes:
        name: its name in messages and listings.
        init: params (leaves [K, ...]) -> state, a dict of tensors [K, ...], dicts, lists and tuples of such.
        update: (grads, state, params, hyperparameters [K] each) -> (params, state); may change all
            arguments except grads in place.
        hyperparameters: name -> its default: a range or choice to tune it over, or a value to keep it at. Every
            optimizer has `learning_rate`, which `update` gets already multiplied by the schedule.
        evaluated: (params, state) -> the parameters that validation and test use, such as an average that `update`
            keeps in the state; by default those that are trained.
        static: the hyperparameters that `update` and `init` get as plain Python values, because they change shapes or
            the flow of control; `init` is then called as init(params, hyper) with these. Only models with equal values
            of them train side by side.
    """

    name: str
    init: Callable[..., State]
    update: Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]
    hyperparameters: Mapping[str, Entry]
    evaluated: Callable[[Tree, State], Tree] | None = None
    static: tuple[str, ...] = ()

    def code(self) -> dict[str, Any]:
        """What the fingerprint of a study follows, by the rest of its name."""
        own = {"": self.update, ".init": self.init, ".evaluated": self.evaluated, ".static": self.static}
        return {path: part for path, part in own.items() if part}


def per_model(
    name: str,
    init: Callable[..., State],
    update: Callable[[Tree, State, Tree, Tree], tuple[Tree, State]],
    hyperparameters: Mapping[str, Entry],
    evaluated: Callable[[Tree, State], Tree] | None = None,
    static: tuple[str, ...] = (),
) -> Optimizer:
    """An optimizer from pure functions for one model: leaves [...] and hyperparameters []; see `Optimizer`."""
    code = f"optimizer {name!r}"

    @functools.wraps(init)
    def checked_init(params: Tree, *static_values: Tree) -> State:
        state = call_user_code(code, INIT, init, params, *static_values, always_lifted=True)
        check_state(code, state)
        return state

    @functools.wraps(update)
    def checked_update(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        before = tree_map(lambda leaf: leaf, state)  # a copy: `update` may change the dicts
        returned = call_user_code(code, UPDATE, update, grads, state, dict(params), hyper, always_lifted=True)
        after, state = validate_update(code, returned, params)
        return after, validate_state(code, state, before)

    def lifted_init(params: Tree, *static_values: Tree) -> State:
        return vmap(lambda params: checked_init(params, *static_values))(params)

    lifted = (functools.wraps(init)(lifted_init), vmap(checked_update))
    return Optimizer(name, *lifted, hyperparameters, evaluated and vmap(evaluated), static)


def _sgd_init(params: Tree) -> State:
    return {"momentum": zeros_like(params)}


def _sgd_update(nesterov: bool) -> Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]:
    """d ← momentum·d + g + weight_decay·w; w ← w − learning_rate·d (as torch.optim.SGD, without dampening)."""

    def update(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        for name, weights in params.items():
            rate, decay, momentum = (
                broadcast_to(hyper[key], weights) for key in ("learning_rate", "weight_decay", "momentum")
            )
            gradient = torch.addcmul(grads[name], decay, weights)
            direction = state["momentum"][name].mul_(momentum).add_(gradient)
            if nesterov:
                direction = gradient.addcmul_(momentum, direction)
            weights.addcmul_(rate, direction, value=-1)
        return params, state

    return update


_ADAM: dict[str, Entry] = {
    "learning_rate": log_range(1e-4, 1e-2),
    "weight_decay": log_range(1e-6, 1e-1),
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
}
_SGD: dict[str, Entry] = {
    "learning_rate": log_range(1e-3, 1),
    "weight_decay": log_range(1e-6, 1e-1),
    "momentum": 0.9,
}

OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", _sgd_init, _sgd_update(nesterov=False), _SGD),
        Optimizer("nesterov", _sgd_init, _sgd_update(nesterov=True), _SGD),
        Optimizer("adam", adam.init, adam.update(decoupled=False), _ADAM),
        Optimizer("adamw", adam.init, adam.update(decoupled=True), _ADAM),
    )
}
