"""Checks of the networks that a model function builds: what cannot be trained side by side is refused by name."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpo.data.source import Inputs
from hpo.errors import HpoError, UsageError
from hpo.gradients.layer_check import check_layers
from hpo.user_code.generators import RefuseRandomOperations
from hpo.user_code.messages import (
    describe_layer,
    describe_value,
    explain,
    failing_layer,
    passed_user_code,
)

EXAMPLES = 4  # samples per trial run
MAX_COLUMNS = 64  # up to so many columns, each may be a category with its own embedding table


def check_modules(modules: Sequence[Any]) -> None:
    """Raises UsageError unless these are networks of one architecture whose parameters can all be trained."""
    for module in modules:
        if not isinstance(module, nn.Module):
            raise UsageError(f"the model is {module!r}; give a function that returns a torch.nn.Module")
    first = modules[0]
    _check_parameters(first)
    _check_hooks(first)
    check_layers(first)
    for name, layer in first.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats and layer.momentum is None:
            raise UsageError(
                f"{describe_layer(name, layer)} has momentum=None, an average that cannot be kept for several models "
                "at once; give it a momentum, such as 0.1"
            )
    shapes = _shapes(first)
    for module in modules[1:]:
        other = _shapes(module)
        for name in [*shapes, *other]:
            if shapes.get(name) != other.get(name):
                raise UsageError(
                    f"the model builds networks that differ in {name!r} ({shapes.get(name)} and {other.get(name)}); "
                    "always build the same network, with other values of its parameters only"
                )


def _check_parameters(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UsageError(f"parameter {name!r} has no size yet; give its layer one instead of a lazy layer")
        if not parameter.requires_grad:
            raise UsageError(
                f"parameter {name!r} does not require a gradient, and all parameters are trained; make it a buffer "
                "(register_buffer) to keep it constant"
            )
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise UsageError(
                f"parameter {name!r} has a hook on its gradient, which torch.func would not call; change the gradient "
                "in a regularizer instead"
            )
    if not list(module.parameters()):
        raise UsageError("the network has no parameters, so there is nothing to train; add a layer with weights")


def _check_hooks(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        if type(layer).__name__ == "OptimizedModule":  # importing the class itself takes a second
            raise UsageError(f"{describe_layer(name, layer)} is compiled by torch.compile; leave that out")
        if layer._backward_hooks or layer._backward_pre_hooks:
            raise UsageError(
                f"{describe_layer(name, layer)} has a backward hook, which torch.func would not call; change gradients "
                "in a regularizer instead, or in the backward of a torch.autograd.Function"
            )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in (*module.named_parameters(), *module.named_buffers())}


@torch.no_grad()
def run_on_examples(module: nn.Module, example: Tensor) -> Tensor:
    """Runs a network in evaluation mode on a few inputs [N, ...]; returns its outputs [N, ...].

    Raises:
        UsageError: a layer does not accept its input, or the outputs are not real numbers [N, ...].
    """
    example = example[:EXAMPLES]
    try:
        with RefuseRandomOperations():
            outputs = module.eval()(example)
    except (HpoError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        _explain_failure(error, module, example)
        raise
    if not isinstance(outputs, Tensor):
        raise UsageError(f"the network returns {describe_value(outputs)}; return one tensor of outputs")
    if not outputs.is_floating_point():
        raise UsageError(f"the network returns {describe_value(outputs)}; return real numbers that have a gradient")
    if outputs.shape[:1] != example.shape[:1]:
        raise UsageError(
            f"the network's outputs have shape {tuple(outputs.shape)} for inputs of shape {tuple(example.shape)}; "
            "return one row of outputs for every sample"
        )
    return outputs


def _explain_failure(error: Exception, module: nn.Module, example: Tensor) -> None:
    """Raises UsageError for a failure in a layer of PyTorch or hpo; in the user's own forward, its line says more."""
    name, layer = failing_layer(error, module)
    explain(error, describe_layer(name, layer))
    if not type(layer).__module__.startswith(("torch.", "hpo.")) and passed_user_code(error):
        return
    if "dtype" in str(error) or "scalar type" in str(error):
        _check_dtype(module, layer, example)
    raise UsageError(
        f"{describe_layer(name, layer)} does not accept its input for a sample that is "
        f"{describe_value(example[0])} ({str(error).splitlines()[0]}); build the network for such samples"
    ) from error


def _check_dtype(module: nn.Module, layer: nn.Module, example: Tensor) -> None:
    """Raises UsageError if the samples have another dtype than the parameters, or are no integers for an embedding."""
    expected, given = (str(leaf.dtype).removeprefix("torch.") for leaf in (next(module.parameters()), example))
    needs = f"the network's parameters are {expected}"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        needs, conversion = "an embedding looks up whole numbers", "inputs.long()"
    elif expected == given:
        return
    elif example.is_complex():
        conversion = "torch.view_as_real(inputs), which has real and imaginary parts in a last axis of two"
    elif expected == "float64":
        conversion = "inputs.double(), or torch.from_numpy of an array"
    else:
        conversion = "inputs.float()"
    raise UsageError(
        f"the inputs are {given}, and {needs}; convert the inputs in the data set or in the network's forward, as in "
        f"{conversion}"
    )


def check_embedding_indices(module: nn.Module, parts: Sequence[Inputs]) -> None:
    """Runs a network with embeddings on the samples that hold the largest and the smallest numbers.

    Args:
        parts: inputs [M, ...], also those of the test set, which only reruns read.

    Raises:
        UsageError: an embedding has no row for one of them.
    """
    if not any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules()):
        return
    for inputs in parts:
        if not isinstance(inputs, Tensor) or inputs.is_complex() or inputs.dtype == torch.bool:
            continue
        columns = inputs.reshape(len(inputs), -1)
        if columns.shape[1] > MAX_COLUMNS:  # a text: all positions share one table
            columns = torch.stack([columns.amax(1), columns.amin(1)], 1)
        extremes = torch.cat([columns.argmax(0), columns.argmin(0)]).unique()
        for examples in inputs[extremes].cpu().split(EXAMPLES):
            run_on_examples(module, examples)
