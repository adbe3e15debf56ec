"""Models that cannot be trained side by side, and defects that the first step of a population shows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_leaves_with_path

from hpo.errors import HpoError, UsageError
from hpo.gradients.layer_check import check_layers
from hpo.tree import Tree
from hpo.user_code.messages import (
    RefuseRandomOperations,
    describe_layer,
    describe_value,
    explain,
    failing_layer,
    passed_user_code,
    warn_once,
)

EXAMPLES = 4  # samples of the first look
COLUMNS = 64  # up to which each may be a category with a table of its own


def check_modules(modules: Sequence[Any]) -> None:
    """Raises UsageError unless these are networks of one architecture whose parameters can all be trained."""
    for module in modules:
        if not isinstance(module, nn.Module):
            raise UsageError(f"the model is {module!r}; give a function that returns a torch.nn.Module")
    first = modules[0]
    for name, parameter in first.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UsageError(f"parameter {name!r} has no size yet; give its layer one instead of a lazy layer")
        if not parameter.requires_grad:
            raise UsageError(
                f"parameter {name!r} does not require a gradient, and all parameters are trained; make it a buffer "
                "(register_buffer) to keep it as it is"
            )
    if not list(first.parameters()):
        raise UsageError("the network has no parameters, so that there is nothing to train")
    _check_calls(first)
    check_layers(first)
    for name, layer in first.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats and layer.momentum is None:
            raise UsageError(
                f"layer {name!r} ({type(layer).__name__}) has momentum=None, an average that is not kept for several "
                "models at once; give it a momentum, such as 0.1"
            )
    shapes = _shapes(first)
    for module in modules[1:]:
        other = _shapes(module)
        for name in [*shapes, *other]:
            if shapes.get(name) != other.get(name):
                raise UsageError(
                    f"the model builds networks that differ in {name!r} ({shapes.get(name)} and {other.get(name)}); "
                    "let it build the same one each time, but for the values of its parameters"
                )


def _check_calls(module: nn.Module) -> None:
    """Raises UsageError for hooks of a backward pass, as `torch.func` calls none of them, and for compiled layers."""
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise UsageError(
                f"parameter {name!r} has a hook on its gradient, which would not be called; change the gradient in a "
                "regularizer instead"
            )
    for name, layer in module.named_modules():
        if type(layer).__name__ == "OptimizedModule":  # its own module takes a second to import
            raise UsageError(f"{describe_layer(name, layer)} is compiled by torch.compile; leave that out")
        if layer._backward_hooks or layer._backward_pre_hooks:
            raise UsageError(
                f"{describe_layer(name, layer)} has a backward hook, which would not be called; change gradients in a "
                "regularizer instead, or in the backward of a torch.autograd.Function"
            )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in (*module.named_parameters(), *module.named_buffers())}


@torch.no_grad()
def run_on_examples(module: nn.Module, example: Tensor) -> torch.Size:
    """Runs a network on a few inputs [N, ...] as in evaluation; returns the shape [...] of a sample's output.

    Raises:
        UsageError: a layer does not take what it is given, or the outputs are not [N, ...].
    """
    example = example[:EXAMPLES]
    try:
        with RefuseRandomOperations():
            outputs = module.eval()(example)
    except (HpoError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        name, layer = failing_layer(error, module)
        explain(error, describe_layer(name, layer))
        if not type(layer).__module__.startswith(("torch.", "hpo.")) and passed_user_code(error):
            raise  # the user's own forward, whose line is worth more
        if "dtype" in str(error) or "scalar type" in str(error):
            _refuse_kind(module, layer, example)
        raise UsageError(
            f"{describe_layer(name, layer)} cannot take what reaches it from a sample that is "
            f"{describe_value(example[0])} ({str(error).splitlines()[0]}); build the network for such samples"
        ) from error
    if not isinstance(outputs, Tensor):
        raise UsageError(f"the network returns {describe_value(outputs)}; return one tensor of outputs")
    if not outputs.is_floating_point():
        raise UsageError(f"the network returns {describe_value(outputs)}; return real numbers that have a gradient")
    if outputs.shape[:1] != example.shape[:1]:
        raise UsageError(
            f"the network's outputs have shape {tuple(outputs.shape)} for inputs of shape {tuple(example.shape)}; "
            "return one row of outputs for every sample"
        )
    return outputs.shape[1:]


def check_numbers(module: nn.Module, parts: Sequence[Tensor]) -> None:
    """Runs a network that looks rows up by whole numbers on the samples that hold the largest and the smallest ones.

    Args:
        parts: inputs [M, ...], of the test set as well, which only reruns read.

    Raises:
        UsageError: it has no row for one of them.
    """
    if not any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules()):
        return
    for inputs in parts:
        if inputs.is_complex() or inputs.dtype == torch.bool:
            continue
        columns = inputs.reshape(len(inputs), -1)
        if columns.shape[1] > COLUMNS:  # a text, whose places have one table
            columns = torch.stack([columns.amax(1), columns.amin(1)], 1)
        places = torch.cat([columns.argmax(0), columns.argmin(0)]).unique()
        for few in inputs[places].cpu().split(EXAMPLES):
            run_on_examples(module, few)


def _refuse_kind(module: nn.Module, layer: nn.Module, example: Tensor) -> None:
    """Raises UsageError if the samples' kind is another than the parameters'."""
    own, given = (str(leaf.dtype).removeprefix("torch.") for leaf in (next(module.parameters()), example))
    if own != given:
        raise UsageError(
            f"the inputs are {given}, and the network's parameters are {own}; convert the inputs in the data set's "
            f"load() or in the network's forward, as in {_conversion(layer, own)}"
        )


def _conversion(layer: nn.Module, own: str) -> str:
    """How a layer's inputs are converted, in words."""
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return "inputs.long()"
    return "inputs.double(), or torch.from_numpy of an array" if own == "float64" else "inputs.float()"


@contextmanager
def watched(who: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Around code that is not to change in place what it is given.

    Args:
        given: trees of tensors by what the code knows them as, such as "params".

    Raises:
        UsageError: it has changed one of them.
    """
    leaves = tree_leaves_with_path(dict(given))
    versions = [leaf._version for _, leaf in leaves]
    try:
        yield
    finally:  # an error that it has led to says less
        for (path, leaf), version in zip(leaves, versions, strict=True):
            if leaf._version != version:
                place = f"{path[0].key}{keystr(path[1:])}"  # type: ignore[attr-defined]
                raise UsageError(f"{who} changes {place} in place; make a new tensor instead, as in x = x + 1")


def warn_of_defects(who: str, gradients: Tree, loss: Tensor) -> None:
    """Names what is no divergence: a gradient that is not finite where the loss is, or zero in all leaves and models.

    Args:
        gradients: leaves [K, ...] of the first step. loss: [K].
    """
    moves = False
    for leaf, gradient in gradients.items():
        rows = gradient.reshape(len(gradient), -1)  # of a parameter without axes as well
        if (~rows.isfinite().all(1) & loss.isfinite()).any():
            warn_once(f"{who} gives a gradient for {leaf!r} that is not finite in the first step; the run will diverge")
            return
        moves |= bool(rows.any())
    if not moves:
        warn_once(f"{who} gives a gradient that is zero for all parameters in the first step; is all detached?")
