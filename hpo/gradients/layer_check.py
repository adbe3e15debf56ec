"""Layers and parameters that cannot be trained side by side, told by name before anything is run."""

import torch
from torch import nn

from hpo.errors import UsageError
from hpo.user_code.messages import DROPOUT_ADVICE

_DRAWS: dict[type[nn.Module], str] = {
    nn.RReLU: "LeakyReLU",
    nn.FractionalMaxPool2d: "AdaptiveMaxPool2d",
    nn.FractionalMaxPool3d: "AdaptiveMaxPool3d",
}


def check_layers(module: nn.Module) -> None:
    """Raises UsageError for a layer that draws random numbers of its own, or changes its weights as it runs."""
    for name, layer in module.named_modules():
        who = f"layer {name!r} ({type(layer).__name__})"
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
            raise UsageError(
                f"{who} has max_norm, by which it changes its weight in every forward pass, beside the optimizer; "
                "leave it out, or limit the norms of what it looks up in forward"
            )
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse:
            raise UsageError(f"{who} has sparse=True, and gradients are dense here; leave it out, for the same numbers")
        several = not isinstance(layer, nn.RNNBase) or layer.num_layers > 1
        if isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout and several:
            raise UsageError(f"{who} draws random numbers that do not follow from the seed; {DROPOUT_ADVICE}")
        for kind, other in _DRAWS.items():
            if isinstance(layer, kind):
                raise UsageError(f"{who} draws random numbers that do not follow from the seed; use {other} instead")


def check_dtypes(module: nn.Module) -> None:
    """Raises UsageError unless all parameters are float32, or all float64: hyperparameters are of their kind."""
    kinds: dict[torch.dtype, str] = {}
    for name, parameter in module.named_parameters():
        kind = str(parameter.dtype).removeprefix("torch.")
        if parameter.is_complex():
            raise UsageError(
                f"parameter {name!r} is {kind}, and norms and signs are those of real numbers; hold it as two real "
                "numbers (torch.view_as_real) and make it complex in forward (torch.view_as_complex)"
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"parameter {name!r} is {kind}; keep parameters in float32, and give the study precision='bfloat16' "
                "for passes in reduced precision"
            )
        kinds.setdefault(parameter.dtype, name)
    if len(kinds) > 1:
        single, double = kinds[torch.float32], kinds[torch.float64]
        raise UsageError(
            f"parameter {single!r} is float32 and {double!r} is float64; make all of one kind, by the network's "
            ".float() or .double()"
        )
