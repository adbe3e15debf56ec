"""ResNet-18 for small images.

He et al., "Deep residual learning for image recognition", arXiv:1512.03385, with the stem that is usual for 32 × 32
images: one 3 × 3 convolution and no pooling. 11,173,962 parameters for 3 channels and 10 classes.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.models.layers import check_dropout, check_norm, check_whole, dropout_layers, initialise, norm_of_images

STAGES = 4
BLOCKS_A_STAGE = 2


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 for images of 32 × 32 and other small sizes.

    Attributes:
        classes: number of classes. in_channels: of the images. width: channels of the first stage; each further
            one has twice as many.
        norm: "batch" or "group".
        groups: of GroupNorm, at most; see `norm_of_images` for narrow layers.
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
        network = _ResNet(self)
        initialise(network)
        return network


class _Block(nn.Module):
    """Two 3 × 3 convolutions beside an identity, or beside a 1 × 1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, like: ResNet18) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = norm_of_images(like.norm, after, like.groups)
        self.dropout = nn.Sequential(*dropout_layers(like.dropout))
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = norm_of_images(like.norm, after, like.groups)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut.extend([projection, norm_of_images(like.norm, after, like.groups)])

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.norm1(self.conv1(inputs))))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class _ResNet(nn.Module):
    def __init__(self, like: ResNet18) -> None:
        super().__init__()
        self.conv = nn.Conv2d(like.in_channels, like.width, 3, padding=1, bias=False)
        self.norm = norm_of_images(like.norm, like.width, like.groups)
        self.blocks = nn.Sequential()
        before = like.width
        for stage in range(STAGES):
            after = like.width * 2**stage
            for block in range(BLOCKS_A_STAGE):
                self.blocks.append(_Block(before, after, 2 if stage and not block else 1, like))
                before = after
        self.linear = nn.Linear(before, like.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.blocks(F.relu(self.norm(self.conv(inputs))))
        return self.linear(hidden.mean((2, 3)))
