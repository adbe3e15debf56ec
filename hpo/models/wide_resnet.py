"""Wide residual networks.

Zagoruyko & Komodakis, "Wide residual networks", arXiv:1605.07146: WRN-28-10 has 36.5 million parameters.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.models.layers import check_dropout, check_norm, check_whole, dropout_layers, initialise, norm_of_images

STAGES = 3


@dataclass(frozen=True)
class WideResNet:
    """A wide residual network for small images; WRN-28-10 unless told otherwise.

    Attributes:
        depth: convolutions and the classifier, 6n + 4. widen: factor on the channels of every block.
        classes: number of classes. in_channels: of the images. width: channels of the stem, before widening.
        norm: "batch" or "group".
        groups: of GroupNorm, at most; see `norm_of_images` for narrow layers.
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
        network = _WideResNet(self)
        initialise(network)
        return network


class _Block(nn.Module):
    """Normalise, ReLU, convolve, twice; where the shape changes, the 1 × 1 shortcut starts behind the first ReLU."""

    def __init__(self, before: int, after: int, stride: int, like: WideResNet) -> None:
        super().__init__()
        self.norm1 = norm_of_images(like.norm, before, like.groups)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm2 = norm_of_images(like.norm, after, like.groups)
        self.dropout = nn.Sequential(*dropout_layers(like.dropout))
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        changes = stride > 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changes else None

    def forward(self, inputs: Tensor) -> Tensor:
        active = F.relu(self.norm1(inputs))
        beside = inputs if self.shortcut is None else self.shortcut(active)
        return beside + self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))


class _WideResNet(nn.Module):
    def __init__(self, like: WideResNet) -> None:
        super().__init__()
        self.conv = nn.Conv2d(like.in_channels, like.width, 3, padding=1, bias=False)
        self.blocks = nn.Sequential()
        before = like.width
        for stage in range(STAGES):
            after = like.width * like.widen * 2**stage
            for block in range((like.depth - 4) // 6):
                self.blocks.append(_Block(before, after, 2 if stage and not block else 1, like))
                before = after
        self.norm = norm_of_images(like.norm, before, like.groups)
        self.linear = nn.Linear(before, like.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.blocks(self.conv(inputs))))
        return self.linear(hidden.mean((2, 3)))
