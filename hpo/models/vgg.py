"""VGG: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv:1409.1556.

With a norm after each convolution, for images of 32 × 32, as in the code of VaSSO.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import require
from hpo.models.layers import (
    check_dropout,
    check_init,
    check_norm,
    check_whole,
    dropout_layers,
    initialise,
    norm_of_images,
)

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # of each stage


@dataclass(frozen=True)
class VGG:
    """A VGG network for images of 32 × 32, or larger ones whose last feature map is averaged.

    Attributes:
        depth: 11, 13, 16 or 19. classes: number of classes. in_channels: the images' channels.
        width: channels of the first stage; the later ones have 2, 4, 8 and 8 times as many.
        hidden: units of each of the two hidden Linear layers.
        norm: "batch" or "group".
        groups: the largest number of GroupNorm's groups; see `norm_of_images` for narrow layers.
        dropout: probability with which a hidden unit is zeroed in training (0.5 as published).
        init: "pytorch" (as in the code of VaSSO) or "he"; see `initialise`.
    """

    depth: int = 16
    classes: int = 10
    in_channels: int = 3
    width: int = 64
    hidden: int = 4096
    norm: str = "batch"
    groups: int = 32
    dropout: float = 0.5
    init: str = "pytorch"

    def __post_init__(self) -> None:
        require(self.depth in CONVOLUTIONS, "VGG: depth", self.depth, "11, 13, 16 or 19")
        check_whole(self, "classes", "in_channels", "width", "hidden", "groups")
        check_norm(self, "batch", "group")
        check_dropout(self)
        check_init(self)

    def __call__(self) -> nn.Module:
        """A freshly initialised network: images [N, in_channels, H, W], at least 32 × 32 -> logits [N, classes]."""
        return _VGG(self)


class _VGG(nn.Module):
    def __init__(self, settings: VGG) -> None:
        super().__init__()
        self.features, before = nn.Sequential(), settings.in_channels
        for factor, count in zip((1, 2, 4, 8, 8), CONVOLUTIONS[settings.depth], strict=True):
            for _ in range(count):
                after = factor * settings.width
                norm = norm_of_images(settings.norm, after, settings.groups)
                self.features.extend([nn.Conv2d(before, after, 3, padding=1), norm, nn.ReLU()])
                before = after
            self.features.append(nn.MaxPool2d(2))
        self.hidden1 = nn.Linear(before, settings.hidden)
        self.dropout1 = nn.Sequential(*dropout_layers(settings.dropout))
        self.hidden2 = nn.Linear(settings.hidden, settings.hidden)
        self.dropout2 = nn.Sequential(*dropout_layers(settings.dropout))
        self.linear = nn.Linear(settings.hidden, settings.classes)
        initialise(self, settings.init)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.features(inputs).mean((2, 3))
        hidden = self.dropout1(F.relu(self.hidden1(features)))
        return self.linear(self.dropout2(F.relu(self.hidden2(hidden))))
