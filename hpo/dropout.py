"""Dropout with masks of our own: drawn from (seed, step, layer, sample), the same alone and in a population."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.counter import mix, uniform
from hpo.errors import UsageError


class Dropout(nn.Module):
    """Zeroes each activation with probability p while training and scales the rest by 1/(1 − p).

    Attributes:
        draws: (key [], positions [N]) of the pass under way, set by `Network`; every pass of a step has the same
            masks. Without them, as in a plain forward pass, PyTorch draws.
        number: this layer's, so that layers differ. calls: in the pass under way, so that a layer used twice does.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"Dropout: p is {p!r}; give a probability from 0 up to but not 1")
        self.p = p
        self.number = self.calls = 0
        self.draws: tuple[Tensor, Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [N, ...] -> [N, ...]."""
        if not self.training or not self.p:
            return inputs
        if self.draws is None:
            return F.dropout(inputs, self.p)
        key, positions = self.draws
        features = inputs[0].numel()
        keys = mix(key, self.number, self.calls, positions)
        self.calls += 1
        numbers = uniform(keys[:, None], torch.arange(features, device=inputs.device))
        return torch.where(numbers.reshape(inputs.shape) >= self.p, inputs / (1 - self.p), 0.0)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def seed_dropout(module: nn.Module) -> list[Dropout]:
    """Numbers a module's Dropout layers and puts ours in the place of PyTorch's; returns them.

    Raises:
        UsageError: a layer drops otherwise, such as whole channels, with masks that no seed would fix.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and type(layer) is not nn.Dropout and layer.p:
            raise UsageError(
                f"layer {name!r} ({type(layer).__name__}) draws masks that do not follow from the seed; "
                "use hpo.dropout.Dropout or nn.Dropout"
            )
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # `children` would give a layer used twice once
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    for number, layer in enumerate(layers):
        layer.number = number
    return layers
