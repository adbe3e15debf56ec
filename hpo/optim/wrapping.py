"""An optimizer around another one: what happens before its update, and after it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.errors import UsageError, did_you_mean
from hpo.gradients.returns import check_state, unalias, validate_state, validate_wrapped
from hpo.optim.optimizers import INIT, OPTIMIZERS, Optimizer, State
from hpo.search_space import Entry
from hpo.tree import Tree
from hpo.user_code.messages import call_user_code

BEFORE, AFTER = "before(grads, state, params, hyper)", "after(params, state, previous, hyper)"


def wrap(
    optimizer: str | Optimizer,
    before: Callable[[Tree, State, Tree, Tree], tuple[Tree, State]] | None = None,
    after: Callable[[Tree, State, Tree, Tree], tuple[Tree, State]] | None = None,
    init: Callable[[Tree], State] | None = None,
    hyperparameters: Mapping[str, Entry] | None = None,
    name: str = "",
) -> Optimizer:
    """An optimizer that changes the gradients before another one's update, or the parameters after it.

    The functions are written for one model, as those of `per_model`: leaves [...] and hyperparameters [].

    Args:
        optimizer: a built-in name, or an `Optimizer`.
        before: (gradients, state, params, hyper) -> (gradients, state).
        after: (params, state, previous, hyper) -> (params, state); `previous` are the parameters before the update.
        init: params -> the state that both functions share; by default {}.
        hyperparameters: their own, in addition to those of the optimizer.
        name: by default "wrapped" and the optimizer's name.

    Raises:
        UsageError: the optimizer is unknown, or its hyperparameters have the same names.
    """
    inner = _optimizer(optimizer)
    own = dict(hyperparameters or {})
    if shared := own.keys() & inner.hyperparameters.keys():
        raise UsageError(f"wrap: optimizer {inner.name!r} already has {min(shared)!r}; rename the hyperparameter")
    name = name or f"wrapped {inner.name}"
    code = f"optimizer {name!r}"
    lifted_init = vmap(functools.partial(_checked_init, code, init or _no_state))
    lifted = {
        usage: vmap(functools.partial(_checked, code, usage, function))
        for usage, function in ((BEFORE, before), (AFTER, after))
        if function
    }

    def wrapped_init(params: Tree, *static: Any) -> State:
        return {"optimizer": inner.init(params, *static), "own": lifted_init(params)}

    def wrapped_update(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        inner_state, own_state = state["optimizer"], state["own"]
        if before:
            grads, own_state = lifted[BEFORE](grads, own_state, params, hyper)
            own_state = unalias(own_state, params)  # which the update may change in place
        previous = {key: leaf.clone() for key, leaf in params.items()} if after else {}
        params, inner_state = inner.update(grads, inner_state, params, hyper)
        if after:
            params, own_state = lifted[AFTER](params, own_state, previous, hyper)
            own_state = unalias(own_state, params)
        return params, {"optimizer": inner_state, "own": own_state}

    def evaluated(params: Tree, state: State) -> Tree:
        assert inner.evaluated is not None
        return inner.evaluated(params, state["optimizer"])

    entries = {**inner.hyperparameters, **own}
    return Optimizer(name, wrapped_init, wrapped_update, entries, inner.evaluated and evaluated, inner.static)


def _optimizer(given: Any) -> Optimizer:
    if isinstance(given, Optimizer):
        return given
    if isinstance(given, str) and given in OPTIMIZERS:
        return OPTIMIZERS[given]
    hint = did_you_mean(given, OPTIMIZERS) if isinstance(given, str) else ""
    shown = repr(given) if isinstance(given, str) else f"a {type(given).__name__}"
    raise UsageError(
        f"wrap got {shown}; give one of {', '.join(OPTIMIZERS)}, or an hpo.Optimizer (an optimizer written for PyTorch "
        f"can be a subclass of its class, in hpo.from_torch){hint}"
    )


def _no_state(_: Tree) -> State:
    return {}


def _checked_init(code: str, init: Callable[[Tree], State], params: Tree) -> State:
    state = call_user_code(code, INIT, init, params, always_lifted=True)
    check_state(code, state)
    return state


def _checked(
    code: str, usage: str, function: Callable[..., Any], tree: Tree, state: State, params: Tree, hyper: Tree
) -> tuple[Tree, State]:
    """What `before` or `after` makes of the gradients or parameters `tree`."""
    previous = tree_map(lambda leaf: leaf, state)  # a copy: user code may change the dicts
    returned = call_user_code(code, usage, function, dict(tree), state, dict(params), hyper, always_lifted=True)
    changed, state = validate_wrapped(code, usage.partition("(")[0], returned, tree)
    return changed, validate_state(code, state, previous)
