"""PyramidNet, whose channels grow a little by block: Han et al., "Deep pyramidal residual networks", arXiv:1610.02915.

By default PyramidNet-110 with α = 270 and bottlenecks for CIFAR, as in the authors' code and in that of GAM.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import require
from hpo.models.layers import check_init, check_norm, check_whole, initialise, norm_of_images

EXPANSION = 4  # the last convolution of a bottleneck has as many times the channels of the others


@dataclass(frozen=True)
class PyramidNet:
    """A pyramidal residual network of bottlenecks for images of 32 × 32 and other small sizes.

    Attributes:
        depth: convolutions and the classifier, 9n + 2. alpha: channels that all blocks together add.
        classes: number of classes. in_channels: the images' channels. width: channels of the stem.
        norm: "batch" or "group".
        groups: the largest number of GroupNorm's groups; see `norm_of_images` for narrow layers.
        init: "he" or "pytorch"; see `initialise`.
    """

    depth: int = 110
    alpha: int = 270
    classes: int = 10
    in_channels: int = 3
    width: int = 16
    norm: str = "batch"
    groups: int = 32
    init: str = "he"

    def __post_init__(self) -> None:
        check_whole(self, "depth", "alpha", "classes", "in_channels", "width", "groups")
        valid = self.depth >= 11 and self.depth % 9 == 2
        require(valid, "PyramidNet: depth", self.depth, "11, 20, 29, 110 or another 9n + 2")
        check_norm(self, "batch", "group")
        check_init(self)

    def __call__(self) -> nn.Module:
        """A freshly initialised network: images [N, in_channels, H, W] -> logits [N, classes]."""
        return _PyramidNet(self)


class _PyramidNet(nn.Module):
    def __init__(self, settings: PyramidNet) -> None:
        super().__init__()
        self.conv = nn.Conv2d(settings.in_channels, settings.width, 3, padding=1, bias=False)
        self.norm = norm_of_images(settings.norm, settings.width, settings.groups)
        self.blocks = nn.Sequential()
        per_stage = (settings.depth - 2) // 9
        before, growing, step = settings.width, float(settings.width), settings.alpha / (3 * per_stage)
        for index in range(3 * per_stage):
            growing += step
            stride = 2 if index and index % per_stage == 0 else 1
            self.blocks.append(_Bottleneck(settings, before, round(growing), stride))
            before = EXPANSION * round(growing)
        self.last_norm = norm_of_images(settings.norm, before, settings.groups)
        self.linear = nn.Linear(before, settings.classes)
        initialise(self, settings.init)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.blocks(self.norm(self.conv(inputs)))
        return self.linear(F.relu(self.last_norm(hidden)).mean((2, 3)))


class _Bottleneck(nn.Module):
    """Convolutions of 1 × 1, 3 × 3 and 1 × 1 with a norm before and after each, and no ReLU before the first.

    The shortcut has no parameters: mean pooling where the stride is 2, and zeros for the added channels.
    """

    def __init__(self, settings: PyramidNet, before: int, inner: int, stride: int) -> None:
        super().__init__()
        after = EXPANSION * inner
        self.norm1 = norm_of_images(settings.norm, before, settings.groups)
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.norm2 = norm_of_images(settings.norm, inner, settings.groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.norm3 = norm_of_images(settings.norm, inner, settings.groups)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.norm4 = norm_of_images(settings.norm, after, settings.groups)
        self.stride, self.added = stride, after - before

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.conv1(self.norm1(inputs))
        hidden = self.conv2(F.relu(self.norm2(hidden)))
        hidden = self.norm4(self.conv3(F.relu(self.norm3(hidden))))
        shortcut = F.avg_pool2d(inputs, 2, ceil_mode=True) if self.stride == 2 else inputs
        return hidden + F.pad(shortcut, (0, 0, 0, 0, 0, self.added))
