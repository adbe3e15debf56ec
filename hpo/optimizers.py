"""Optimizers on the stack: how K gradients become K updates, in place, each model with its own hyperparameters."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.own_code import call
from hpo.returned import check_state, kept_state, params_of
from hpo.space import Range, log_range
from hpo.tree import Tree, zeros_like

State = dict[str, Any]

UPDATE = "update(grads, state, params, hyper)"


class Optimizer(NamedTuple):
    """How a gradient becomes an update, for a stack of K models.

    Attributes:
        name: what error messages and listings call it.
        init: params (leaves [K, ...]) -> state, nested dicts of tensors [K, ...].
        update: (grads, state, params, hyperparameters [K] each) -> (params, state); may change all but grads in place.
        hyperparameters: name -> its default: a `Range` to tune it over, or a number to keep it at. All have
            `learning_rate`, which reaches `update` already multiplied by the schedule.
    """

    name: str
    init: Callable[[Tree], State]
    update: Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]
    hyperparameters: Mapping[str, Range | float]


def per_model(
    name: str,
    init: Callable[[Tree], State],
    update: Callable[[Tree, State, Tree, Tree], tuple[Tree, State]],
    hyperparameters: Mapping[str, Range | float],
) -> Optimizer:
    """An optimizer from pure functions written for one model: leaves [...] and hyperparameters []."""
    who = f"optimizer {name!r}"

    @functools.wraps(init)
    def checked_init(params: Tree) -> State:
        state = call(who, "init(params)", init, params, always_lifted=True)
        check_state(who, state)
        return state

    @functools.wraps(update)
    def checked_update(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        before = tree_map(lambda leaf: leaf, state)  # the dicts themselves may be changed
        returned = call(who, UPDATE, update, grads, state, dict(params), hyper, always_lifted=True)
        after, state = params_of(who, returned, params)
        return after, kept_state(who, state, before)

    return Optimizer(name, vmap(checked_init), vmap(checked_update), hyperparameters)


def _along(values: Tensor, leaf: Tensor) -> Tensor:
    """values [K] in a shape that broadcasts over leaf [K, ...]."""
    return values.reshape(-1, *[1] * (leaf.dim() - 1))


def _sgd_init(params: Tree) -> State:
    return {"momentum": zeros_like(params)}


def _sgd_update(nesterov: bool) -> Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]:
    """d ← momentum·d + g + weight_decay·w; w ← w − learning_rate·d (as torch.optim.SGD, without dampening)."""

    def update(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        for name, weights in params.items():
            rate, decay, momentum = (
                _along(hyper[key], weights) for key in ("learning_rate", "weight_decay", "momentum")
            )
            gradient = torch.addcmul(grads[name], decay, weights)
            direction = state["momentum"][name].mul_(momentum).add_(gradient)
            if nesterov:
                direction = gradient.addcmul_(momentum, direction)
            weights.addcmul_(rate, direction, value=-1)
        return params, state

    return update


def _adam_init(params: Tree) -> State:
    models = len(next(iter(params.values())))
    steps = torch.zeros(models, device=next(iter(params.values())).device)
    return {"step": steps, "mean": zeros_like(params), "square": zeros_like(params)}


def _adam_update(decoupled: bool) -> Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]:
    """Adam (arXiv:1412.6980, weight decay added to g) or AdamW (arXiv:1711.05101, weights decayed on their own)."""
    fused = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def update(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        state["step"] += 1
        if next(iter(params.values())).device.type == "cpu":
            _member_by_member(fused, grads, state, params, hyper)
        else:
            _adam_elementwise(decoupled, grads, state, params, hyper)
        return params, state

    return update


def _member_by_member(fused: Callable[..., None], grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """PyTorch's fused CPU kernel, which takes one learning rate a call: one pass over memory instead of ten.

    The kernel reads memory in order whatever a tensor's strides say, so gradients are made contiguous first.
    """
    if state.get("_rows_of") is not params:  # views of what is updated in place: made once
        state["_rows_of"], state["_rows"] = params, _rows(params, state["mean"], state["square"])
    (gradients,) = zip(*_rows({name: grads[name].contiguous() for name in params}), strict=True)
    steps = state["step"].unbind(0)
    columns = (hyper[key].tolist() for key in ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon"))
    values = zip(*columns, strict=True)
    for own, gradient, step, value in zip(state["_rows"], gradients, steps, values, strict=True):
        rate, decay, beta1, beta2, epsilon = value
        fused(
            own[0], gradient, own[1], own[2], [], [step] * len(gradient),
            lr=rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=epsilon, amsgrad=False, maximize=False,
        )  # fmt: skip


def _rows(*trees: Tree) -> list[list[list[Tensor]]]:
    """For every member, its row of each tree's leaves as a list."""
    leaves = [[leaf.unbind(0) for leaf in tree.values()] for tree in trees]
    members = len(leaves[0][0])
    return [[[leaf[member] for leaf in tree] for tree in leaves] for member in range(members)]


def _adam_elementwise(decoupled: bool, grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """The same update over all K models at once, in elementary operations that run on any device."""
    for name, weights in params.items():
        rate, decay, beta1, beta2, epsilon, step = (
            _along(value, weights)
            for value in (
                *(hyper[k] for k in ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon")),
                state["step"],
            )
        )
        gradient = grads[name]
        if decoupled:
            weights.mul_(1 - rate * decay)
        else:
            gradient = torch.addcmul(gradient, decay, weights)
        mean = state["mean"][name].lerp_(gradient, 1 - beta1)
        square = state["square"][name].mul_(beta2).addcmul_(gradient * (1 - beta2), gradient)
        divisor = (square / (1 - beta2**step)).sqrt_().add_(epsilon)
        weights.addcdiv_(mean * (-rate / (1 - beta1**step)), divisor)


_ADAM: dict[str, Range | float] = {
    "learning_rate": log_range(1e-4, 1e-2),
    "weight_decay": log_range(1e-6, 1e-1),
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
}
_SGD: dict[str, Range | float] = {
    "learning_rate": log_range(1e-3, 1),
    "weight_decay": log_range(1e-6, 1e-1),
    "momentum": 0.9,
}

OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", _sgd_init, _sgd_update(nesterov=False), _SGD),
        Optimizer("nesterov", _sgd_init, _sgd_update(nesterov=True), _SGD),
        Optimizer("adam", _adam_init, _adam_update(decoupled=False), _ADAM),
        Optimizer("adamw", _adam_init, _adam_update(decoupled=True), _ADAM),
    )
}
