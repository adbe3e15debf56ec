"""Residual networks: ResNet-18 to 152 and wide residual networks.

ResNet: He et al., "Deep residual learning for image recognition", arXiv:1512.03385. For small images its stem is one
3 × 3 convolution without pooling, as is usual for CIFAR; for large ones it is the published one, with the stride of a
bottleneck in its 3 × 3 convolution, as in torchvision.

WideResNet: Zagoruyko & Komodakis, "Wide residual networks", arXiv:1605.07146: WRN-28-10 has 36.5 million parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import UsageError, require
from hpo.models.layers import (
    check_dropout,
    check_init,
    check_norm,
    check_whole,
    dropout_layers,
    initialise,
    norm_of_images,
)

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclass(frozen=True)
class ResNet:
    """A residual network, by default ResNet-18 for images of 32 × 32 and other small sizes.

    Attributes:
        depth: 18 or 34 (blocks of two convolutions), 50, 101 or 152 (bottlenecks of three).
        stem: "small" for images of 32 × 32 and other small sizes, "large" for those of 224 × 224.
        classes: number of classes. in_channels: the images' channels. width: channels of the first stage; each further
            one has twice as many.
        norm: "batch" or "group".
        groups: the largest number of GroupNorm's groups; see `norm_of_images` for narrow layers.
        dropout: probability with which an activation is zeroed in training, before the last convolution of a block
            (0 as published).
        init: "he" or "pytorch"; see `initialise`.
    """

    depth: int = 18
    classes: int = 10
    stem: Literal["small", "large"] = "small"
    in_channels: int = 3
    width: int = 64
    norm: str = "batch"
    groups: int = 32
    dropout: float = 0.0
    init: str = "he"

    def __post_init__(self) -> None:
        require(self.depth in BLOCKS, "ResNet: depth", self.depth, "18, 34, 50, 101 or 152")
        require(self.stem in ("small", "large"), "ResNet: stem", self.stem, "'small' or 'large'")
        check_whole(self, "classes", "in_channels", "width", "groups")
        check_norm(self, "batch", "group")
        check_dropout(self)
        check_init(self)

    def __call__(self) -> nn.Module:
        """A freshly initialised network: images [N, in_channels, H, W] -> logits [N, classes]."""
        return _ResNet(self)


@dataclass(frozen=True)
class WideResNet:
    """A wide residual network for small images, by default WRN-28-10.

    Attributes:
        depth: convolutions and the classifier, 6n + 4. widen: factor on the channels of every block.
        classes: number of classes. in_channels: the images' channels. width: channels of the
            stem, before widening.
        norm: "batch" or "group".
        groups: the largest number of GroupNorm's groups; see `norm_of_images` for narrow layers.
        dropout: probability with which an activation is zeroed in training, between the two convolutions of a
            block.
        init: "he" or "pytorch"; see `initialise`.
    """

    depth: int = 28
    widen: int = 10
    classes: int = 10
    in_channels: int = 3
    width: int = 16
    norm: str = "batch"
    groups: int = 32
    dropout: float = 0.0
    init: str = "he"

    def __post_init__(self) -> None:
        check_whole(self, "depth", "widen", "classes", "in_channels", "width", "groups")
        check_norm(self, "batch", "group")
        check_dropout(self)
        check_init(self)
        if self.depth < 10 or self.depth % 6 != 4:
            raise UsageError(f"WideResNet: depth is {self.depth!r}; give 10, 16, 22, 28 or another 6n + 4")

    def __call__(self) -> nn.Module:
        """A freshly initialised network: images [N, in_channels, H, W] -> logits [N, classes]."""
        return _WideResNet(self)


def _stages(
    block: Callable[[int, int, int], nn.Module], before: int, widths: Sequence[int], blocks: Sequence[int]
) -> nn.Sequential:
    """Stages of blocks; each stage but the first begins with stride 2.

    Args:
        block: (channels before, channels after, stride) -> module. before: channels of the input.
        widths: channels after the blocks of each stage. blocks: their numbers.
    """
    stages = nn.Sequential()
    for stage, (after, count) in enumerate(zip(widths, blocks, strict=True)):
        for index in range(count):
            stages.append(block(before, after, 2 if stage and not index else 1))
            before = after
    return stages


class _Block(nn.Module):
    """Two 3 × 3 convolutions with a shortcut: the identity, or a 1 × 1 convolution where the shape changes."""

    def __init__(self, settings: ResNet, before: int, after: int, stride: int) -> None:
        super().__init__()
        norm = partial(norm_of_images, settings.norm, groups=settings.groups)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = norm(after)
        self.dropout = nn.Sequential(*dropout_layers(settings.dropout))
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = norm(after)
        self.shortcut = _shortcut(norm, before, after, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.norm1(self.conv1(inputs))))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class _Bottleneck(nn.Module):
    """Convolutions of 1 × 1, 3 × 3 and 1 × 1, the first two with a quarter of the channels, and a shortcut."""

    def __init__(self, settings: ResNet, before: int, after: int, stride: int) -> None:
        super().__init__()
        norm, inner = partial(norm_of_images, settings.norm, groups=settings.groups), after // 4
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.norm1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.norm2 = norm(inner)
        self.dropout = nn.Sequential(*dropout_layers(settings.dropout))
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.norm3 = norm(after)
        self.shortcut = _shortcut(norm, before, after, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        hidden = self.dropout(F.relu(self.norm2(self.conv2(hidden))))
        return F.relu(self.norm3(self.conv3(hidden)) + self.shortcut(inputs))


def _shortcut(norm: Callable[[int], nn.Module], before: int, after: int, stride: int) -> nn.Sequential:
    if stride == 1 and before == after:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))


class _ResNet(nn.Module):
    def __init__(self, settings: ResNet) -> None:
        super().__init__()
        block, expansion = (_Block, 1) if settings.depth < 50 else (_Bottleneck, 4)
        widths = [settings.width * expansion * 2**stage for stage in range(4)]
        self.large = settings.stem == "large"
        kernel, stride = (7, 2) if self.large else (3, 1)
        self.conv = nn.Conv2d(settings.in_channels, settings.width, kernel, stride, kernel // 2, bias=False)
        self.norm = norm_of_images(settings.norm, settings.width, settings.groups)
        self.blocks = _stages(partial(block, settings), settings.width, widths, BLOCKS[settings.depth])
        self.linear = nn.Linear(widths[-1], settings.classes)
        initialise(self, settings.init)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.conv(inputs)))
        hidden = F.max_pool2d(hidden, 3, 2, padding=1) if self.large else hidden
        return self.linear(self.blocks(hidden).mean((2, 3)))


class _WideBlock(nn.Module):
    """Normalise, ReLU, convolve, twice; a 1 × 1 shortcut, where the shape changes, starts after the first ReLU."""

    def __init__(self, settings: WideResNet, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = norm_of_images(settings.norm, before, settings.groups)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm2 = norm_of_images(settings.norm, after, settings.groups)
        self.dropout = nn.Sequential(*dropout_layers(settings.dropout))
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        changes = stride > 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changes else None

    def forward(self, inputs: Tensor) -> Tensor:
        active = F.relu(self.norm1(inputs))
        shortcut = inputs if self.shortcut is None else self.shortcut(active)
        return shortcut + self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))


class _WideResNet(nn.Module):
    def __init__(self, settings: WideResNet) -> None:
        super().__init__()
        widths = [settings.width * settings.widen * 2**stage for stage in range(3)]
        self.conv = nn.Conv2d(settings.in_channels, settings.width, 3, padding=1, bias=False)
        blocks = [(settings.depth - 4) // 6] * 3
        self.blocks = _stages(partial(_WideBlock, settings), settings.width, widths, blocks)
        self.norm = norm_of_images(settings.norm, widths[-1], settings.groups)
        self.linear = nn.Linear(widths[-1], settings.classes)
        initialise(self, settings.init)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.blocks(self.conv(inputs))))
        return self.linear(hidden.mean((2, 3)))
