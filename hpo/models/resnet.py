"""Residual networks for small images.

ResNet-18: He et al., "Deep residual learning for image recognition", arXiv:1512.03385, with the stem that is usual for
32 × 32 images: one 3 × 3 convolution and no pooling. 11,173,962 parameters for 3 channels and 10 classes.

WideResNet: Zagoruyko & Komodakis, "Wide residual networks", arXiv:1605.07146: WRN-28-10 has 36.5 million parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.models.layers import check_dropout, check_norm, check_whole, dropout_layers, norm_of_images


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 for images of 32 × 32 and other small sizes.

    Attributes:
        classes: number of classes. in_channels: the images' channels. width: channels of the first stage; each further
            one has twice as many.
        norm: "batch" or "group".
        groups: the largest number of GroupNorm's groups; see `norm_of_images` for narrow layers.
        dropout: probability with which an activation is zeroed in training, between the two convolutions of a
            block (0 as published).
    """

    classes: int = 10
    in_channels: int = 3
    width: int = 64
    norm: str = "batch"
    groups: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self, "classes", "in_channels", "width", "groups")
        check_norm(self, "batch", "group")
        check_dropout(self)

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
    """

    depth: int = 28
    widen: int = 10
    classes: int = 10
    in_channels: int = 3
    width: int = 16
    norm: str = "batch"
    groups: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self, "depth", "widen", "classes", "in_channels", "width", "groups")
        check_norm(self, "batch", "group")
        check_dropout(self)
        if self.depth < 10 or self.depth % 6 != 4:
            raise UsageError(f"WideResNet: depth is {self.depth!r}; give 10, 16, 22, 28 or another 6n + 4")

    def __call__(self) -> nn.Module:
        """A freshly initialised network: images [N, in_channels, H, W] -> logits [N, classes]."""
        return _WideResNet(self)


def _stages(block: Callable[[int, int, int], nn.Module], before: int, widths: list[int], blocks: int) -> nn.Sequential:
    """Stages of blocks; each stage but the first begins with stride 2.

    Args:
        block: (channels before, channels after, stride) -> module. before: channels of the input.
        widths: channels of each stage. blocks: per stage.
    """
    stages = nn.Sequential()
    for stage, after in enumerate(widths):
        for index in range(blocks):
            stages.append(block(before, after, 2 if stage and not index else 1))
            before = after
    return stages


def _initialise(network: nn.Module) -> None:
    """As the authors of residual networks: He's normal distribution over fan-out; the classifier's bias 0.

    He et al., "Delving deep into rectifiers", arXiv:1502.01852, in the form of their published training code.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)


class _Block(nn.Module):
    """Two 3 × 3 convolutions with a shortcut: the identity, or a 1 × 1 convolution where the shape changes."""

    def __init__(self, settings: ResNet18, before: int, after: int, stride: int) -> None:
        super().__init__()
        norm = partial(norm_of_images, settings.norm, groups=settings.groups)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = norm(after)
        self.dropout = nn.Sequential(*dropout_layers(settings.dropout))
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = norm(after)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut.extend([nn.Conv2d(before, after, 1, stride, bias=False), norm(after)])

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.norm1(self.conv1(inputs))))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class _ResNet(nn.Module):
    def __init__(self, settings: ResNet18) -> None:
        super().__init__()
        widths = [settings.width * 2**stage for stage in range(4)]
        self.conv = nn.Conv2d(settings.in_channels, settings.width, 3, padding=1, bias=False)
        self.norm = norm_of_images(settings.norm, settings.width, settings.groups)
        self.blocks = _stages(partial(_Block, settings), settings.width, widths, 2)
        self.linear = nn.Linear(widths[-1], settings.classes)
        _initialise(self)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.blocks(F.relu(self.norm(self.conv(inputs))))
        return self.linear(hidden.mean((2, 3)))


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
        self.blocks = _stages(partial(_WideBlock, settings), settings.width, widths, (settings.depth - 4) // 6)
        self.norm = norm_of_images(settings.norm, widths[-1], settings.groups)
        self.linear = nn.Linear(widths[-1], settings.classes)
        _initialise(self)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.blocks(self.conv(inputs))))
        return self.linear(hidden.mean((2, 3)))
