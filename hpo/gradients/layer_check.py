"""Refuses, by name and before anything runs, layers and parameters that a population cannot train."""

import torch
from torch import nn

from hpo.errors import UsageError
from hpo.user_code.messages import UNSEEDED, describe_layer

_WITHOUT_DRAWS: dict[type[nn.Module], str] = {
    nn.RReLU: "LeakyReLU",
    nn.FractionalMaxPool2d: "AdaptiveMaxPool2d",
    nn.FractionalMaxPool3d: "AdaptiveMaxPool3d",
}


def check_layers(module: nn.Module) -> None:
    """Raises UsageError for a layer that draws its own random numbers, or changes its weights in a forward pass."""
    for name, layer in module.named_modules():
        if problem := _find_problem(layer):
            raise UsageError(f"{describe_layer(name, layer)} {problem}")


def _find_problem(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if layer.max_norm is not None:
            return (
                "has max_norm, by which it changes its weight in every forward pass; "
                "leave it out, or limit the norms of the looked-up rows in forward"
            )
        if layer.sparse:
            return "has sparse=True, but gradients must be dense; leave it out, the numbers stay the same"
    uses_dropout = not isinstance(layer, nn.RNNBase) or layer.num_layers > 1
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout and uses_dropout:
        return UNSEEDED
    other = next((other for kind, other in _WITHOUT_DRAWS.items() if isinstance(layer, kind)), None)
    return f"draws random numbers that do not follow from the seed; use {other} instead" if other else None


def check_dtypes(module: nn.Module) -> None:
    """Raises UsageError unless all parameters are float32, or all float64: hyperparameters take their dtype."""
    names: dict[torch.dtype, str] = {}
    for name, parameter in module.named_parameters():
        dtype = str(parameter.dtype).removeprefix("torch.")
        if parameter.is_complex():
            raise UsageError(
                f"parameter {name!r} is {dtype}, but norms and signs need real numbers; store two real "
                "numbers (torch.view_as_real) and make it complex in forward (torch.view_as_complex)"
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"parameter {name!r} is {dtype}; keep parameters in float32, and give the study precision='bfloat16' "
                "for passes in reduced precision"
            )
        names.setdefault(parameter.dtype, name)
    if len(names) > 1:
        raise UsageError(
            f"parameter {names[torch.float32]!r} is float32 and {names[torch.float64]!r} is float64; use one dtype for "
            "all, by the network's .float() or .double()"
        )
