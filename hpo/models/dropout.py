"""Dropout with masks of our own: drawn from (seed, step, layer, sample), the same alone and in a population."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.random import mix, uniform

# Samples of two batches: an axis that is as long as each of them is the samples'.
LOOKED_AT = (4, 3)
_BY_CHANNEL = {nn.Dropout1d: (3,), nn.Dropout2d: (3, 4), nn.Dropout3d: (5,)}


class SampleAxis(NamedTuple):
    """Where the samples are in a tensor.

    Attributes:
        axis: which axis they are on. parts: how many places in a row of that axis belong to one sample.
        apart: whether a sample's places lie as far apart as there are samples, instead of side by side.
    """

    axis: int
    parts: int = 1
    apart: bool = False


class Dropout(nn.Module):
    """Zeroes each activation with probability p while training and scales the rest by 1/(1 − p).

    A tensor without samples, such as a weight, has one mask for all of them.

    Attributes:
        draws: (key [], positions [N]) of the pass under way, set by `Network`; every pass of a step has the same
            masks. Without them, as in a plain forward pass, PyTorch draws.
        number: this layer's, so that layers differ. calls: in the pass under way, so that a layer used twice does.
        samples: by call in a pass, where the samples are in its input; None where it has none.
        seen: the inputs of a pass that is only looked at; None otherwise.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"Dropout: p is {p!r}; give a probability from 0 up to but not 1")
        self.p = p
        self.number = self.calls = 0
        self.draws: tuple[Tensor, Tensor] | None = None
        self.samples: list[SampleAxis | None] | None = None
        self.seen: list[Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs of any shape -> the same shape."""
        if not self.training or not self.p:
            return inputs
        if self.seen is not None:
            self.seen.append(inputs)
            return inputs
        if self.draws is None:
            return self._drawn_by_pytorch(inputs)
        where = self._where()
        numbers = _numbers(self._mask_shape(inputs), where, self.draws, self.number, self.calls)
        self.calls += 1
        return torch.where(numbers >= self.p, inputs / (1 - self.p), 0.0)

    def _where(self) -> SampleAxis | None:
        if self.samples is None:
            return SampleAxis(0)
        if self.calls >= len(self.samples):
            raise UsageError(
                f"a Dropout layer is used {self.calls + 1} times in a forward pass and was used {len(self.samples)} "
                "times before; use it equally often in every pass"
            )
        return self.samples[self.calls]

    def _mask_shape(self, inputs: Tensor) -> torch.Size:
        return inputs.shape

    def _drawn_by_pytorch(self, inputs: Tensor) -> Tensor:
        return F.dropout(inputs, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ChannelDropout(Dropout):
    """Zeroes whole channels of inputs [N, C, ...], as nn.Dropout1d, nn.Dropout2d and nn.Dropout3d do."""

    def __init__(self, p: float, dims: Sequence[int]) -> None:
        """dims: how many axes the inputs may have."""
        super().__init__(p)
        self.dims = dims

    def _where(self) -> SampleAxis | None:
        where = super()._where()
        return where if where is None or where.axis < 2 else None  # all samples share a channel's fate

    def _mask_shape(self, inputs: Tensor) -> torch.Size:
        if inputs.dim() not in self.dims:
            raise UsageError(
                f"a Dropout layer of whole channels is given inputs of shape {tuple(inputs.shape)}; give it "
                f"{' or '.join(map(str, self.dims))} axes, samples and channels first, or use nn.Dropout"
            )
        return torch.Size([*inputs.shape[:2], *[1] * (inputs.dim() - 2)])

    def _drawn_by_pytorch(self, inputs: Tensor) -> Tensor:
        return inputs * F.dropout(inputs.new_ones(self._mask_shape(inputs)), self.p)


def _numbers(shape: torch.Size, where: SampleAxis | None, draws: tuple[Tensor, Tensor], *names: int) -> Tensor:
    """Uniform numbers of a shape, each sample's own: a sample has the same ones whatever is beside it."""
    key, positions = draws
    if where is None:
        features = torch.arange(shape.numel(), device=key.device)
        return uniform(mix(key, *names), features).reshape(shape)
    samples, others = len(positions), [size for axis, size in enumerate(shape) if axis != where.axis]
    keys = mix(key, *names, positions)
    features = torch.arange(shape.numel() // samples, device=key.device)
    numbers = uniform(keys[:, None], features).reshape(samples, where.parts, *others)
    numbers = numbers.transpose(0, 1) if where.apart else numbers
    return numbers.reshape(samples * where.parts, *others).movedim(0, where.axis)


def seed_dropout(module: nn.Module) -> list[Dropout]:
    """Numbers a module's Dropout layers and puts ours in the place of PyTorch's; returns them.

    Raises:
        UsageError: a layer drops otherwise, with masks that no seed would fix.
    """
    for name, layer in module.named_modules():
        other = isinstance(layer, nn.modules.dropout._DropoutNd) and type(layer) not in (nn.Dropout, *_BY_CHANNEL)
        if other and layer.p:
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
def find_samples(layers: Sequence[Dropout], forward: Callable[[Tensor], object], example: Tensor) -> None:
    """Finds where the samples are in the inputs of every Dropout layer: on the axis that is as long as the batch is.

    Args:
        forward: a pass in training over inputs [N, ...]. example: a few inputs [N, ...].

    Raises UsageError where an axis changes with the batch in another way.
    """
    large, small = LOOKED_AT
    batch = example[torch.arange(large, device=example.device) % len(example)]
    passes = []
    for inputs in (batch, batch[:small], batch.roll(1, 0)):
        with _looked_at(layers):
            forward(inputs)
            passes.append([layer.seen or [] for layer in layers])
    for layer, first, second, rolled in zip(layers, *passes, strict=True):
        layer.samples = [_axis_of(*inputs) for inputs in zip(first, second, rolled, strict=True)]


@contextmanager
def _looked_at(layers: Sequence[Dropout]) -> Iterator[None]:
    for layer in layers:
        layer.seen = []
    try:
        yield
    finally:
        for layer in layers:
            layer.seen = None


def _axis_of(first: Tensor, second: Tensor, rolled: Tensor) -> SampleAxis | None:
    """Where the samples are, from a layer's input for a batch, for a smaller one, and for the first one rolled on."""
    large, small = LOOKED_AT
    differ = [axis for axis in range(first.dim()) if first.shape[axis] != second.shape[axis]]
    if not differ:
        return None
    [axis] = differ if len(differ) == 1 else [0]
    parts = first.shape[axis] // large
    if len(differ) > 1 or (first.shape[axis], second.shape[axis]) != (parts * large, parts * small):
        raise UsageError(
            f"a Dropout layer is given inputs of shape {tuple(first.shape)} for {large} samples and "
            f"{tuple(second.shape)} for {small}; let one axis be that of the samples"
        )
    if parts == 1:
        return SampleAxis(axis)
    values, moved = (tensor.movedim(axis, 0) for tensor in (first, rolled))
    side_by_side = values.unflatten(0, (large, parts)).roll(1, 0).flatten(0, 1)
    return SampleAxis(axis, parts, apart=not torch.allclose(moved, side_by_side, rtol=1e-3, atol=1e-5))
