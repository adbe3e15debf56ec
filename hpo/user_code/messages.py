"""What goes wrong inside the code of a user, in one sentence.

A regularizer, network, loss or optimizer is written for one model and run for many; what PyTorch says then is about
`vmap`, of which its writer need know nothing.
"""

import functools
import logging
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import register_pytree_node

from hpo.dispatch import DispatchMode
from hpo.errors import UsageError, did_you_mean

log = logging.getLogger(__name__)

_RANDOM = "called random operation while in randomness error mode"
# What to use in the place of PyTorch's random numbers.
DROPOUT_ADVICE = "use nn.Dropout layers instead of torch.nn.functional.dropout and of the dropout=... of other layers"
COUNTER_ADVICE = "take them from hpo.random, by a step that the state counts"

# For a function that is lifted for a single model as well, there is no such way out.
_ALONE = ", or train with --population 1 and without per-sample gradients"
_LOOKS = (
    "looks at the value of a tensor (if, float(), .item(), .numpy(), or one_hot without num_classes), which is many "
    "values where several models are trained at once; choose by torch.where, or compare with torch.arange"
)
_SHAPES = (
    "makes a shape depend on values (a boolean mask, nonzero or unique), which several models trained at once do not "
    "share; use torch.where or a weight of 0"
)
_MISSING = "uses an operation that PyTorch cannot do for several models at once; use another"
_COPIES = "copies a tensor by torch.tensor or copy.deepcopy; clone() it instead"
_ADDS = (
    "changes a tensor in place (+=, an assignment to its entries) by what is larger than it or differs from model to "
    "model; make a new tensor instead, as in x = x + y"
)
# Words of PyTorch's errors -> what the code does that several models at once do not allow. A single model may do it.
_OF_SEVERAL = {
    "calling .item() on a Tensor": _LOOKS,
    "data-dependent control flow": _LOOKS,
    "Cannot access data pointer of Tensor that doesn't have storage": _LOOKS,
    "operators that can support dynamic shape": _SHAPES,
    "operators that can output dynamic shape": _SHAPES,
    "vmap: we do not yet support": _MISSING,
    "Batching rule not implemented for": _MISSING,
    "explicit positive num_classes": _LOOKS,
    "Can't detach views in-place": _COPIES,
    "Cannot access storage of BatchedTensorImpl": _COPIES,
    "is not possible because there exists a Tensor": _ADDS,
    "doesn't match the broadcast shape": _ADDS,
}
_IN_PLACE = "changes a tensor in place that it was given; make a new one instead, as in x = x + 1 rather than x += 1"
_BACKWARD = "calls backward(), torch.autograd.grad or requires_grad_(); ask objective.grad or objective.grad_of instead"
# The same for what is not allowed for one model either.
_NEVER = {
    "override the setup_context staticmethod": (
        "uses a torch.autograd.Function whose forward takes ctx; write forward without ctx and "
        "setup_context(ctx, inputs, output), and set generate_vmap_rule = True"
    ),
    "generate_vmap_rule": "uses a torch.autograd.Function without a rule for vmap; set generate_vmap_rule = True in it",
    "stateless API can't be used": "is scripted or wrapped in nn.DataParallel; leave that out",
    "support saved tensor hooks": "uses torch.utils.checkpoint or hooks of saved tensors; call the layers without them",
    "mutating directly with `.data`": "assigns to the .data of a tensor; assign a new tensor to a buffer instead",
    "accessing `data` under vmap": "reads the .data of a tensor; use detach() instead",
    "that would mutate a captured Tensor": _IN_PLACE,
    "more than one element of the written-to tensor refers to a single memory location": _IN_PLACE,
    "element 0 of tensors does not require grad": _BACKWARD,
    "backward() called inside a functorch transform": _BACKWARD,
    "You are attempting to call Tensor.requires_grad_()": _BACKWARD,
    "index out of range in self": "is given a number that it has no row for; give it one for every number, from 0",
    "may have escaped from inside a function": (
        "uses a tensor after the step or the torch.func transform that made it; keep what is to last in the state"
    ),
}

_ONCE = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")


class UserCodeError(UsageError):
    """A sentence that says already whose code it is about."""


@functools.cache
def warn_once(text: str) -> None:
    """A warning in the log, the first time in this process: populations follow one another by the hundred."""
    log.warning(text)


def explain(error: Exception, who: str, instead: str, always_lifted: bool = False, own_line: bool = True) -> None:
    """Raises the error anew with a sentence in the place of PyTorch's words, if these are known; else returns.

    What fails for several models alone stays a RuntimeError, with its way through the user's code, if it has an
    `own_line` there.

    Args:
        who: whose code it is, such as "regularizer 'mine'". instead: of drawing random numbers.
        always_lifted: also for a single model.
    """
    text = str(error)
    if _RANDOM in text:
        raise UserCodeError(f"{who} draws random numbers that do not follow from the seed; {instead}") from error
    for words, sentence in _NEVER.items():
        if words in text:
            raise UserCodeError(f"{who} {sentence}") from error
    if found := _ONCE.search(text):
        raise UserCodeError(
            f"{who} differentiates gradients, and PyTorch can differentiate {found[1]!r} only once; choose another "
            "regularizer, or another operation in the network or the loss"
        ) from error
    for words, sentence in _OF_SEVERAL.items():
        if words in text:
            sentence += "" if always_lifted else _ALONE
            if not own_line:
                raise UserCodeError(f"{who} {sentence}") from error
            raise RuntimeError(f"{who} {sentence}").with_traceback(error.__traceback__) from None


def call_user_code(who: str, takes: str, function: Callable[..., Any], *args: Any, always_lifted: bool = False) -> Any:
    """`function(*args)`, a user's.

    Args:
        who, always_lifted: as in `explain`. takes: how it is called, such as "grads(objective, params, state, hyper)".

    Raises:
        UsageError: it does not take these arguments, or does what is not allowed.
    """
    if isinstance(function, type) and issubclass(function, nn.Module):
        raise UserCodeError(f"{who} is the class {function.__name__}; give one made from it, {function.__name__}(...)")
    try:
        return function(*args)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is None:  # not from inside the function
            raise UserCodeError(f"{who} is called as {takes} and does not take that: {error}") from error
        raise
    except RuntimeError as error:
        explain(error, who, COUNTER_ADVICE, always_lifted)
        raise


def failing_layer(error: BaseException, module: nn.Module) -> tuple[str, nn.Module]:
    """The innermost layer of a network that an error passed through, with its name."""
    layers = {id(layer): (name, layer) for name, layer in module.named_modules()}
    found, trace = ("", module), error.__traceback__
    while trace is not None:
        found = layers.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found


def describe_layer(name: str, layer: nn.Module) -> str:
    """A layer in words."""
    return f"layer {name!r} ({type(layer).__name__})" if name else "the network"


def passed_user_code(error: BaseException) -> bool:
    """Whether an error came by code that is neither PyTorch's nor this package's."""
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).split(".")[0] not in ("torch", "hpo"):
            return True
        trace = trace.tb_next
    return False


def describe_value(value: Any) -> str:
    """What a function returned: a tensor's kind and shape, or the value itself."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} and shape {tuple(value.shape)}"
    return repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"


class Hyperparameters(dict[str, Any]):
    """Hyperparameters by name; one that is not there is told with those that are."""

    def __missing__(self, name: str) -> Any:
        known = ", ".join(map(repr, self))
        raise KeyError(f"there is no hyperparameter {name!r}; there are {known}{did_you_mean(str(name), self)}")


# `vmap` and `grad` take apart the containers they know, and a dict's subclass is none of them.
register_pytree_node(
    Hyperparameters,
    lambda hyper: (list(hyper.values()), list(hyper)),
    lambda values, names: Hyperparameters(zip(names, values, strict=True)),
)


class RefuseRandomOperations(DispatchMode):
    """Holds a model that runs without `vmap` to what `vmap` allows: random numbers are refused in the same words."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in function.tags and _drops(function, args, kwargs or {}):
            raise RuntimeError(_RANDOM)
        return function(*args, **(kwargs or {}))


def _drops(function: Any, args: Any, kwargs: Any) -> bool:
    """False for what could draw and is told not to, such as attention without dropout."""
    known = {argument.name: argument.default_value for argument in function._schema.arguments}
    given = known | dict(zip(known, args, strict=False)) | kwargs
    return given.get("dropout_p", given.get("dropout")) != 0 and given.get("training") is not False
