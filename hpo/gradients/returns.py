"""What a user's regularizer, optimizer or metric returns: checked leaf by leaf, and put into the order of what it got.

A step is traced once and then replayed, so that what goes round from step to step must keep its names and kinds.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves_with_path, tree_map

from hpo.errors import UsageError, plural
from hpo.gradients.substitutes import Substitutes
from hpo.tree import Tree
from hpo.user_code.messages import UserCodeError, call_user_code, describe_value

Judge = Callable[[Tensor, Tensor], Any]  # (outputs [N, ...], labels [N]) -> what should be [N]


def validate_gradient(who: str, returned: Any, params: Tree) -> tuple[Tree, Any, Tree]:
    """What `grads` returned: the gradient in the order of the parameters, the state as it is, and the scalars.

    Raises:
        UsageError: these are not three, or the gradient or the scalars are none.
    """
    shape = isinstance(returned, tuple | list) and len(returned) == 3
    if not shape or not isinstance(returned[0], dict) or not isinstance(returned[2], dict):
        raise UsageError(
            f"{who}: its grads returns {_whatever(returned)}; return (gradient, state, scalars), scalars being a dict"
        )
    gradient, state, scalars = returned
    for name, value in scalars.items():
        if not isinstance(value, Tensor) or value.dim():
            raise UsageError(f"{who}: its scalar {name!r} is no tensor of one number; return one, or leave it out")
    _check_leaves(who, "gradient", gradient, params)
    return {leaf: gradient[leaf] for leaf in params}, state, scalars


def validate_update(who: str, returned: Any, params: Tree) -> tuple[Tree, Any]:
    """What an optimizer's `update` returned: the parameters in their order, and its state as it is.

    Raises:
        UsageError: these are not two, or the parameters are not like those before.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not isinstance(returned[0], dict):
        raise UsageError(
            f"{who}: its update returns {_whatever(returned)}; return (params, state), params being a dict"
        )
    after, state = returned
    _check_leaves(who, "result", after, params)
    # The dict itself where it can stay, by which an optimizer may know that nobody else has touched it.
    return after if list(after) == list(params) else {leaf: after[leaf] for leaf in params}, state


def _whatever(returned: Any) -> str:
    """What was returned, in a word or two."""
    if isinstance(returned, tuple | list):
        kinds = ", ".join(type(value).__name__ for value in returned)
        return f"{plural(len(returned), 'value')} ({kinds})"
    return "nothing" if returned is None else f"a {type(returned).__name__}"


def _check_leaves(who: str, what: str, found: Mapping[str, Any], params: Tree) -> None:
    """Raises UsageError unless a tree has the leaves, shapes and kinds of the parameters."""
    for leaf in [*params, *found]:
        if leaf not in found:
            raise UsageError(f"{who}: its {what} lacks the leaf {leaf!r}; return one for every parameter")
        if leaf not in params:
            raise UsageError(f"{who}: its {what} has a leaf {leaf!r} that is no parameter; leave it out")
        value, parameter = found[leaf], params[leaf]
        if not isinstance(value, Tensor):
            raise UsageError(f"{who}: its {what} for {leaf!r} is {value!r}; return a tensor of the parameter's shape")
        if value.shape != parameter.shape:
            raise UsageError(
                f"{who}: its {what} for {leaf!r} has shape {tuple(value.shape)}, and the parameter has "
                f"{tuple(parameter.shape)}; return a {what} of the parameter's shape"
            )
        if value.dtype != parameter.dtype:
            raise UsageError(
                f"{who}: its {what} for {leaf!r} is {_kind(value)}, and the parameter is {_kind(parameter)}; "
                "return it as the parameter is"
            )


def check_state(who: str, state: Any, name: str = "") -> None:
    """Raises UsageError unless what `init` returned are nested dicts of tensors."""
    if isinstance(state, dict):
        for key, value in state.items():
            check_state(who, value, f"{name}.{key}" if name else str(key))
    elif not isinstance(state, Tensor) or not name:
        where = f"its state's leaf {name!r}" if name else "its state"
        number = isinstance(state, int | float)
        mend = f"torch.tensor({float(state)})" if number and name else "{} for none"
        raise UsageError(f"{who}: {where} is {describe_value(state)}; let init give tensors in a dict, such as {mend}")


def check_stacked_state(who: str, state: Any, models: int) -> None:
    """Raises UsageError unless the state of an optimizer on the stack are nested dicts of tensors [models, ...].

    What it keeps under a name with "_" in front is its own affair.
    """
    if isinstance(state, dict):
        state = without_caches(state)
    check_state(who, state)
    for path, leaf in tree_leaves_with_path(state):
        if leaf.shape[:1] != (models,):
            name = ".".join(str(entry.key) for entry in path)  # type: ignore[attr-defined]
            raise UsageError(
                f"{who}: its state's leaf {name!r} is {describe_value(leaf)}, and its first axis is to be that of the "
                f"models ({models} here); or write the optimizer for one model, with hpo.per_model"
            )


def without_caches(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state without what it keeps under names with "_" in front, which it makes again by itself."""
    return {name: leaf for name, leaf in state.items() if not str(name).startswith("_")}


def validate_state(who: str, state: Any, before: Any, name: str = "") -> Any:
    """The state that a step returned, in the order of the one it was given.

    Raises:
        UsageError: it has other leaves, or leaves of other kinds.
    """
    where = f"its state's leaf {name!r}" if name else "its state"
    if isinstance(before, dict):
        if not isinstance(state, dict):
            raise UsageError(
                f"{who}: {where} becomes {describe_value(state)}; return a dict like the one that init gives"
            )
        for key in [*before, *state]:
            inner = f"{name}.{key}" if name else str(key)
            if key not in state:
                raise UsageError(f"{who}: its state loses the leaf {inner!r}; return all that init gives, each time")
            if key not in before:
                raise UsageError(f"{who}: its state gains a leaf {inner!r}; let init give it from the start")
        return {
            key: validate_state(who, state[key], before[key], f"{name}.{key}" if name else str(key)) for key in before
        }
    if not isinstance(state, Tensor):
        raise UsageError(
            f"{who}: {where} becomes {describe_value(state)}; return a tensor like the one that init gives"
        )
    if (state.shape, state.dtype) != (before.shape, before.dtype):
        raise UsageError(
            f"{who}: {where} becomes {describe_value(state)} after {describe_value(before)}; "
            "return tensors of one shape and kind"
        )
    return state


def unalias(state: Any, params: Tree) -> Any:
    """A regularizer's state in memory of its own: the weights that it keeps must not move with the weights."""
    moving = {leaf.untyped_storage().data_ptr() for leaf in params.values()}
    return tree_map(lambda leaf: leaf.clone() if leaf.untyped_storage().data_ptr() in moving else leaf, state)


def compute_losses(loss: Judge, outputs: Tensor, labels: Tensor) -> Tensor:
    """Losses [N]; raises UsageError unless the loss gives one float a sample."""
    with Substitutes():
        losses = call_user_code("the loss", "loss(outputs, labels)", loss, outputs, labels)
    if not isinstance(losses, Tensor) or losses.shape != labels.shape or not losses.is_floating_point():
        raise UserCodeError(
            f"the loss gives {describe_value(losses)} for {len(labels)} samples; return a tensor of one float a "
            "sample, [N], without taking their mean"
        )
    return losses


def compute_metric(name: str, metric: Judge, outputs: Tensor, labels: Tensor) -> Tensor:
    """Values [N]; raises UsageError unless a metric of the user's own gives one number a sample."""
    with Substitutes():
        values = call_user_code(f"metric {name!r}", "metric(outputs, labels)", metric, outputs, labels)
    if isinstance(values, Tensor) and values.is_complex():
        raise UsageError(f"metric {name!r} gives complex numbers; return real ones, such as their abs()")
    if not isinstance(values, Tensor) or values.shape != labels.shape:
        found = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
        raise UsageError(
            f"metric {name!r} gives {found} for {len(labels)} samples; return a tensor of one number a sample, [N]"
        )
    return values


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
