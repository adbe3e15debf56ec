"""Dropout whose masks follow from (seed, step, layer, sample): the same for a single model and in a population."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import UsageError, require
from hpo.random import mix, uniform

# Sizes of two batches: the axis of the samples is the one whose length follows them.
BATCH_SIZES = (4, 3)
_BY_CHANNEL = {nn.Dropout1d: (3,), nn.Dropout2d: (3, 4), nn.Dropout3d: (5,)}


class SampleAxis(NamedTuple):
    """Where the samples are in a tensor.

    Attributes:
        axis: which axis they are on. parts: how many indices of that axis belong to one sample.
        strided: whether these lie as far apart as there are samples, instead of next to each other.
    """

    axis: int
    parts: int = 1
    strided: bool = False


class Dropout(nn.Module):
    """Zeroes each activation with probability p while training and scales the rest by 1/(1 − p).

    A tensor without samples, such as a weight, has one mask for all samples.

    Attributes:
        draws: (key [], positions [N]) of the current pass, set by `Network`; every pass of a step has the same masks.
            Without them, as in a plain forward pass, PyTorch draws.
        number: the layer's, so that layers differ. calls: those of the current pass so far, so that calls differ.
        sample_axes: for each call in a pass, where the samples are in its input; None where it has none.
        recorded: the inputs of a pass that only records them; None otherwise.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        require(0 <= p < 1, "Dropout: p", p, "a probability from 0 to below 1")
        self.p = p
        self.number = self.calls = 0
        self.draws: tuple[Tensor, Tensor] | None = None
        self.sample_axes: list[SampleAxis | None] | None = None
        self.recorded: list[Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs of any shape -> the same shape."""
        if not self.training or not self.p:
            return inputs
        if self.recorded is not None:
            self.recorded.append(inputs)
            return inputs
        if self.draws is None:
            return self._drawn_by_pytorch(inputs)
        numbers = _numbers(self._mask_shape(inputs), self._sample_axis(), self.draws, self.number, self.calls)
        self.calls += 1
        return torch.where(numbers >= self.p, inputs / (1 - self.p), 0.0)

    def _sample_axis(self) -> SampleAxis | None:
        if self.sample_axes is None:
            return SampleAxis(0)
        if self.calls >= len(self.sample_axes):
            raise UsageError(
                f"a Dropout layer is called {self.calls + 1} times in a forward pass and was called "
                f"{len(self.sample_axes)} times before; call it equally often in every pass"
            )
        return self.sample_axes[self.calls]

    def _mask_shape(self, inputs: Tensor) -> torch.Size:
        return inputs.shape

    def _drawn_by_pytorch(self, inputs: Tensor) -> Tensor:
        return F.dropout(inputs, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ChannelDropout(Dropout):
    """Zeroes whole channels of inputs [N, C, ...], as nn.Dropout1d, nn.Dropout2d and nn.Dropout3d do."""

    def __init__(self, p: float, dims: Sequence[int]) -> None:
        """
        Args:
            dims: how many axes the inputs may have.
        """
        super().__init__(p)
        self.dims = dims

    def _sample_axis(self) -> SampleAxis | None:
        axis = super()._sample_axis()
        return axis if axis is None or axis.axis < 2 else None  # a dropped channel is dropped for all samples

    def _mask_shape(self, inputs: Tensor) -> torch.Size:
        if inputs.dim() not in self.dims:
            raise UsageError(
                f"a Dropout layer for whole channels gets inputs of shape {tuple(inputs.shape)}; give it "
                f"{' or '.join(map(str, self.dims))} axes, samples and channels first, or use nn.Dropout"
            )
        return torch.Size([*inputs.shape[:2], *[1] * (inputs.dim() - 2)])

    def _drawn_by_pytorch(self, inputs: Tensor) -> Tensor:
        return inputs * F.dropout(inputs.new_ones(self._mask_shape(inputs)), self.p)


def _numbers(shape: torch.Size, axis: SampleAxis | None, draws: tuple[Tensor, Tensor], *names: int) -> Tensor:
    """Uniform numbers of a shape; those of a sample do not depend on the other samples of the batch."""
    key, positions = draws
    if axis is None:
        features = torch.arange(shape.numel(), device=key.device)
        return uniform(mix(key, *names), features).reshape(shape)
    samples, others = len(positions), [size for index, size in enumerate(shape) if index != axis.axis]
    keys = mix(key, *names, positions)
    features = torch.arange(shape.numel() // samples, device=key.device)
    numbers = uniform(keys[:, None], features).reshape(samples, axis.parts, *others)
    numbers = numbers.transpose(0, 1) if axis.strided else numbers
    return numbers.reshape(samples * axis.parts, *others).movedim(0, axis.axis)


def seed_dropout(module: nn.Module) -> list[Dropout]:
    """Replaces PyTorch's Dropout layers in a module by ours, numbers them and returns them.

    Raises:
        UsageError: another layer draws masks, which would not follow from the seed.
    """
    for name, layer in module.named_modules():
        is_known = type(layer) in (nn.Dropout, *_BY_CHANNEL)
        if isinstance(layer, nn.modules.dropout._DropoutNd) and not is_known and layer.p:
            raise UsageError(
                f"layer {name!r} ({type(layer).__name__}) draws masks that do not follow from the seed; "
                "use hpo.models.dropout.Dropout or nn.Dropout"
            )
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # `children` would give a layer used twice once
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
            elif isinstance(child, nn.modules.dropout._DropoutNd) and type(child) in _BY_CHANNEL:
                setattr(parent, name, ChannelDropout(child.p, _BY_CHANNEL[type(child)]))
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    for number, layer in enumerate(layers):
        layer.number = number
    return layers


@torch.no_grad()
def find_sample_axes(layers: Sequence[Dropout], forward: Callable[[Tensor], object], example: Tensor) -> None:
    """Finds the axis of the samples, whose length follows the batch size, in the inputs of every Dropout layer.

    Args:
        forward: a training pass over inputs [N, ...]. example: a few inputs [N, ...].

    Raises:
        UsageError: an axis changes with the batch size in another way.
    """
    large, small = BATCH_SIZES
    batch = example[torch.arange(large, device=example.device) % len(example)]
    passes = []
    for inputs in (batch, batch[:small], batch.roll(1, 0)):
        for layer in layers:
            layer.recorded = []
        try:
            forward(inputs)
            passes.append([layer.recorded or [] for layer in layers])
        finally:
            for layer in layers:
                layer.recorded = None
    for layer, first, second, rolled in zip(layers, *passes, strict=True):
        layer.sample_axes = [_axis_of(*inputs) for inputs in zip(first, second, rolled, strict=True)]


def _axis_of(first: Tensor, second: Tensor, rolled: Tensor) -> SampleAxis | None:
    """The axis of the samples, from a layer's inputs for a batch, for a smaller one, and for the first one rolled."""
    large, small = BATCH_SIZES
    differ = [axis for axis in range(first.dim()) if first.shape[axis] != second.shape[axis]]
    if not differ:
        return None
    [axis] = differ if len(differ) == 1 else [0]
    parts = first.shape[axis] // large
    if len(differ) > 1 or (first.shape[axis], second.shape[axis]) != (parts * large, parts * small):
        raise UsageError(
            f"a Dropout layer gets inputs of shape {tuple(first.shape)} for {large} samples and "
            f"{tuple(second.shape)} for {small}; give them one axis for the samples"
        )
    if parts == 1:
        return SampleAxis(axis)
    values, rolled_values = (tensor.movedim(axis, 0) for tensor in (first, rolled))
    adjacent = values.unflatten(0, (large, parts)).roll(1, 0).flatten(0, 1)
    return SampleAxis(axis, parts, strided=not torch.allclose(rolled_values, adjacent, rtol=1e-3, atol=1e-5))
