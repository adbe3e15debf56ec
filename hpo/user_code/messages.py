"""Errors inside user code, explained in one sentence.

A regularizer, network, loss or optimizer is written for one model and runs for many. PyTorch's errors then speak of
`vmap`, which its author need not know.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import register_pytree_node

from hpo.errors import UsageError, did_you_mean
from hpo.user_code.generators import RANDOM_ADVICE, VMAP_RANDOM_ERROR

log = logging.getLogger(__name__)

UNSEEDED = f"draws random numbers that do not follow from the seed; {RANDOM_ADVICE}"
_READS = (
    "reads a tensor's value (if, float(), .item(), .numpy(), or one_hot without num_classes); several models trained "
    "at once have several values there, so choose by torch.where, or compare with torch.arange"
)
_SHAPES = (
    "makes a shape depend on values (a boolean mask, nonzero or unique); several models trained at once cannot have "
    "different shapes, so use torch.where or a weight of 0"
)
_MISSING = "uses an operation that PyTorch cannot run for several models at once; use another"
_COPIES = "copies a tensor by torch.tensor or copy.deepcopy; clone() it instead"
_ADDS = (
    "changes a tensor in place (+=, an assignment to its entries) with a larger tensor or with one that differs "
    "between models; make a new tensor instead, as in x = x + y"
)
_IN_PLACE = "changes one of its arguments in place; make a new tensor instead, as in x = x + 1 rather than x += 1"
_BACKWARD = "calls backward(), torch.autograd.grad or requires_grad_(); use objective.grad or objective.grad_of instead"
# A part of PyTorch's error -> what the code does wrong, for one model as for several.
_ALWAYS_WRONG = {
    VMAP_RANDOM_ERROR: UNSEEDED,
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
    "index out of range in self": "looks up a number for which it has no row; give it a row for every number, from 0",
    "Expected more than 1 value per channel": (
        "normalizes over a batch of one sample; choose another batch_size, a smaller accumulate, or last_batch='drop'"
    ),
    "may have escaped from inside a function": (
        "uses a tensor after the step or the torch.func transform that made it; keep what later steps need in the state"
    ),
}
# The same for what a single model may do.
_WRONG_FOR_SEVERAL = {
    "calling .item() on a Tensor": _READS,
    "data-dependent control flow": _READS,
    "Cannot access data pointer of Tensor that doesn't have storage": _READS,
    "explicit positive num_classes": _READS,
    "operators that can support dynamic shape": _SHAPES,
    "operators that can output dynamic shape": _SHAPES,
    "vmap: we do not yet support": _MISSING,
    "Batching rule not implemented for": _MISSING,
    "Can't detach views in-place": _COPIES,
    "Cannot access storage of BatchedTensorImpl": _COPIES,
    "is not possible because there exists a Tensor": _ADDS,
    "doesn't match the broadcast shape": _ADDS,
}
_SINGLE_MODEL = ", or train with --population 1 and without per-sample gradients"
_NOT_TWICE = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")


class UserCodeError(UsageError):
    """A sentence that already names the code it is about."""


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning, the first time in this process: hundreds of populations follow one another."""
    log.warning(text)


def explain(error: Exception, code: str, always_lifted: bool = False, own_line: bool = True) -> None:
    """Raises a sentence instead of a known error of PyTorch; returns if the error is unknown.

    What fails only for several models stays a RuntimeError with its traceback through the user's code.

    Args:
        code: the code as messages name it, such as "regularizer 'mine'".
        always_lifted: whether the code runs under `vmap` for a single model as well.
        own_line: whether the traceback has a line of the user's code.
    """
    text = str(error)
    for words, sentence in _ALWAYS_WRONG.items():
        if words in text:
            raise UserCodeError(f"{code} {sentence}") from error
    if match := _NOT_TWICE.search(text):
        raise UserCodeError(
            f"{code} differentiates gradients, but PyTorch can differentiate {match[1]!r} only once; choose another "
            "regularizer, or another operation in the network or the loss"
        ) from error
    for words, sentence in _WRONG_FOR_SEVERAL.items():
        if words in text:
            sentence += "" if always_lifted else _SINGLE_MODEL
            if not own_line:
                raise UserCodeError(f"{code} {sentence}") from error
            raise RuntimeError(f"{code} {sentence}").with_traceback(error.__traceback__) from None


def call_user_code(code: str, takes: str, function: Callable[..., Any], *args: Any, always_lifted: bool = False) -> Any:
    """Calls a user's function.

    Args:
        code, always_lifted: as in `explain`. takes: how it is called, such as "grads(objective, params, state, hyper)".

    Raises:
        UsageError: it does not take these arguments, or does what is not allowed.
    """
    if isinstance(function, type) and issubclass(function, nn.Module):
        raise UserCodeError(f"{code} is the class {function.__name__}; give an instance, {function.__name__}(...)")
    try:
        return function(*args)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is None:  # raised by the call itself
            raise UserCodeError(f"{code} is called as {takes} and does not take these arguments: {error}") from error
        raise
    except RuntimeError as error:
        explain(error, code, always_lifted)
        raise


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def failing_layer(error: BaseException, module: nn.Module) -> tuple[str, nn.Module]:
    """The name and the innermost layer of a network that an error passed through."""
    layers = {id(layer): (name, layer) for name, layer in module.named_modules()}
    passed = [layers.get(id(frame.f_locals.get("self"))) for frame in _frames(error)]
    return next(filter(None, reversed(passed)), ("", module))


def describe_layer(name: str, layer: nn.Module) -> str:
    """A layer in words."""
    return f"layer {name!r} ({type(layer).__name__})" if name else "the network"


def passed_user_code(error: BaseException) -> bool:
    """Whether an error passed through code that is neither PyTorch's nor hpo's."""
    modules = (str(frame.f_globals.get("__name__")) for frame in _frames(error))
    return any(module.split(".")[0] not in ("torch", "hpo") for module in modules)


def describe_value(value: Any) -> str:
    """A value in words: a tensor's dtype and shape, a number or text itself, otherwise the type."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} and shape {tuple(value.shape)}"
    return repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"


class Hyperparameters(dict[str, Any]):
    """Hyperparameters by name: tensors, and the plain values of static ones, over which `vmap` does not run.

    The error for a missing name lists the existing ones.
    """

    def __init__(self, tensors: Mapping[str, Any], static: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__({**tensors, **static})
        self.static = dict(static)

    def __missing__(self, name: str) -> Any:
        known = ", ".join(map(repr, self))
        raise KeyError(f"there is no hyperparameter {name!r}; there are {known}{did_you_mean(str(name), self)}")


def _flatten(hyper: Hyperparameters) -> tuple[list[Any], tuple[list[str], dict[str, Any]]]:
    names = [name for name in hyper if name not in hyper.static]
    return [hyper[name] for name in names], (names, hyper.static)


# `vmap` and `grad` only unpack containers that they know; subclasses of dict have to be registered.
register_pytree_node(
    Hyperparameters,
    _flatten,
    lambda values, context: Hyperparameters(dict(zip(context[0], values, strict=True)), context[1]),
)
