"""Checks of what a user's regularizer or optimizer returns.

A step is traced once and then replayed, so that its results must keep their names, order, shapes and dtypes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves_with_path, tree_map

from hpo.errors import UsageError, plural
from hpo.tree import Tree
from hpo.user_code.messages import describe_value


def validate_gradient(code: str, returned: Any, params: Tree) -> tuple[Tree, Any, Tree]:
    """The gradient in the order of the parameters, the state, and the scalars that `grads` returned.

    Raises:
        UsageError: these are not three values, or the gradient or the scalars are invalid.
    """
    is_triple = isinstance(returned, tuple | list) and len(returned) == 3
    if not is_triple or not isinstance(returned[0], dict) or not isinstance(returned[2], dict):
        raise UsageError(
            f"{code}: its grads returns {_describe(returned)}; return (gradient, state, scalars), with scalars a dict"
        )
    gradient, state, scalars = returned
    for name, value in scalars.items():
        if not isinstance(value, Tensor) or value.dim():
            raise UsageError(f"{code}: its scalar {name!r} is no tensor of one number; return one, or leave it out")
    return _validate_leaves(code, "gradient", gradient, params), state, scalars


def validate_update(code: str, returned: Any, params: Tree) -> tuple[Tree, Any]:
    """The parameters in their order and the state that an optimizer's `update` returned.

    Raises:
        UsageError: these are not two values, or the parameters are not like those before.
    """
    return validate_wrapped(code, "update", returned, params)


def validate_wrapped(code: str, function: str, returned: Any, tree: Tree) -> tuple[Tree, Any]:
    """The leaves in the order of `tree` and the state that a function of an optimizer returned; checks as above."""
    leaves = "grads" if function == "before" else "params"
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not isinstance(returned[0], dict):
        raise UsageError(
            f"{code}: its {function} returns {_describe(returned)}; return ({leaves}, state), with {leaves} a dict"
        )
    return _validate_leaves(code, "result", returned[0], tree), returned[1]


def validate_evaluated(code: str, returned: Any, params: Tree) -> Tree:
    """The parameters in their order that an optimizer's `evaluated` returned; raises UsageError if they are others."""
    if not isinstance(returned, dict):
        raise UsageError(f"{code}: its evaluated returns {_describe(returned)}; return params, a dict")
    return _validate_leaves(code, "evaluated leaf", returned, params)


def _describe(returned: Any) -> str:
    if isinstance(returned, tuple | list):
        kinds = ", ".join(type(value).__name__ for value in returned)
        return f"{plural(len(returned), 'value')} ({kinds})"
    return "nothing" if returned is None else describe_value(returned)


def _validate_leaves(code: str, kind: str, tree: Tree, params: Tree) -> Tree:
    """The tree in the order of the parameters; raises UsageError unless it has their names, shapes and dtypes."""
    _check_names(f"{code}: its {kind}", tree, params, "return one leaf for every parameter")
    for name, parameter in params.items():
        value = tree[name]
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (parameter.shape, parameter.dtype):
            raise UsageError(
                f"{code}: its {kind} for {name!r} is {describe_value(value)}, and the parameter is "
                f"{describe_value(parameter)}; return a tensor of the same shape and dtype"
            )
    # The dict itself where possible: an optimizer may rely on it to see that nobody else has changed it.
    return tree if list(tree) == list(params) else {name: tree[name] for name in params}


def _check_names(
    owner: str, names: Mapping[str, Any], expected: Mapping[str, Any], advice: str, path: str = ""
) -> None:
    for name in [*expected, *names]:
        if (name in names) != (name in expected):
            difference = "lacks the leaf" if name in expected else "has an additional leaf"
            raise UsageError(f"{owner} {difference} {_join(path, name)!r}; {advice}")


def check_state(code: str, state: Any, path: str = "") -> None:
    """Raises UsageError unless the state that `init` returned is a dict of tensors, dicts, lists and tuples of such."""
    if isinstance(state, dict) or (type(state) in (list, tuple) and path):
        for key, value in _entries(state):
            check_state(code, value, _join(path, key))
    elif not isinstance(state, Tensor) or not path:
        example = f"torch.tensor({float(state)})" if isinstance(state, int | float) and path else "{} for none"
        raise UsageError(
            f"{code}: {_leaf(path)} is {describe_value(state)}; return tensors in a dict from init, such as {example}"
        )


def _entries(container: Any) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def check_stacked_state(code: str, state: Any, models: int) -> None:
    """Raises UsageError unless an optimizer's state, but for its caches, is a dict of tensors [models, ...]."""
    state = without_caches(state)
    check_state(code, state)
    for path, leaf in tree_leaves_with_path(state):
        if leaf.shape[:1] != (models,):
            name = ".".join(str(getattr(entry, "key", getattr(entry, "idx", ""))) for entry in path)
            raise UsageError(
                f"{code}: {_leaf(name)} is {describe_value(leaf)}, but its first axis must be that of the models "
                f"({models} here); or write the optimizer for one model, with hpo.per_model"
            )


class Cache:
    """Something in an optimizer's state that it can recompute: neither checked nor saved nor shared with copies."""

    def __init__(self, content: Any) -> None:
        self.content = content


def without_caches(state: Any) -> Any:
    """An optimizer's state without its caches; its containers are copied."""
    if type(state) is dict:
        return {name: without_caches(entry) for name, entry in state.items() if not isinstance(entry, Cache)}
    if type(state) in (list, tuple):
        return type(state)(without_caches(entry) for entry in state)
    return state


def validate_state(code: str, state: Any, before: Any, path: str = "") -> Any:
    """The state that a step returned, in the order of the state before it.

    Raises:
        UsageError: its leaves have other names, shapes or dtypes.
    """
    if isinstance(state, dict) and isinstance(before, dict):
        _check_names(f"{code}: its state", state, before, "return the same leaves from init and from every step", path)
        return {key: validate_state(code, state[key], value, _join(path, key)) for key, value in before.items()}
    if type(state) in (list, tuple) and type(state) is type(before) and len(state) == len(before):
        pairs = enumerate(zip(state, before, strict=True))
        return type(state)(validate_state(code, one, old, _join(path, key)) for key, (one, old) in pairs)
    is_tensor = isinstance(state, Tensor) and isinstance(before, Tensor)
    if not is_tensor or (state.shape, state.dtype) != (before.shape, before.dtype):
        raise UsageError(
            f"{code}: {_leaf(path)} becomes {describe_value(state)} after {describe_value(before)}; "
            "return the same kind, shape and dtype from init and from every step"
        )
    return state


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _leaf(path: str) -> str:
    return f"its state's leaf {path!r}" if path else "its state"


def unalias(state: Any, *trees: Tree) -> Any:
    """A state with copies of the leaves that share memory with trees that may be changed in place."""
    shared = {leaf.untyped_storage().data_ptr() for tree in trees for leaf in tree.values()}
    return tree_map(lambda leaf: leaf.clone() if leaf.untyped_storage().data_ptr() in shared else leaf, state)


def own_copy(state: Any, device: torch.device) -> Any:
    """A state of `init` with its own memory on the device, so that each leaf can be written without changing another.

    Leaves may be parameters, the same zeros twice, or one number that `vmap` expands to all models.
    """
    return tree_map(lambda leaf: leaf.to(device, copy=True), state)
