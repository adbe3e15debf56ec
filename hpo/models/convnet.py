"""The 1-D convolutional network of the MNIST-1D paper.

Greydanus & Kobak, "Scaling down deep learning with MNIST-1D", arXiv:2011.14439: 5210 parameters.
"""

from dataclasses import dataclass

from torch import nn

from hpo.errors import UsageError
from hpo.models.layers import check_dropout, check_norm, check_whole, dropout_layers

# Kernel sizes; every convolution has stride 2 and padding 1.
KERNELS = (5, 3, 3)


@dataclass(frozen=True)
class ConvNet1d:
    """Three 1-D convolutions of stride 2 and a linear classifier, as in the MNIST-1D paper.

    Attributes:
        features: length of the input. classes: number of classes. channels: per convolution.
        norm: None (as published), "batch" or "group", before every ReLU; with one the convolutions have no bias.
        groups: the number of GroupNorm's groups; divides `channels`.
        dropout: probability with which an activation is zeroed in training, after every ReLU.
    """

    features: int = 40
    classes: int = 10
    channels: int = 25
    norm: str | None = None
    groups: int = 5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self, "features", "classes", "channels", "groups")
        check_norm(self, None, "batch", "group")
        check_dropout(self)
        if self._positions() < 1:
            raise UsageError(
                f"ConvNet1d: features is {self.features!r}, too short for the convolutions; give 3 or more"
            )
        if self.norm == "group" and self.channels % self.groups:
            raise UsageError(f"ConvNet1d: groups is {self.groups!r}, which does not divide channels {self.channels!r}")

    def __call__(self) -> nn.Module:
        """A freshly initialised network: inputs [N, ...] of `features` values -> logits [N, classes]."""
        network = nn.Sequential()
        network.add_module("flatten", nn.Flatten())
        network.add_module("one_channel", nn.Unflatten(1, (1, self.features)))
        before = 1
        for number, kernel in enumerate(KERNELS, start=1):
            convolution = nn.Conv1d(before, self.channels, kernel, stride=2, padding=1, bias=self.norm is None)
            network.add_module(f"conv{number}", convolution)
            if self.norm == "batch":
                network.add_module(f"norm{number}", nn.BatchNorm1d(self.channels))
            elif self.norm == "group":
                network.add_module(f"norm{number}", nn.GroupNorm(self.groups, self.channels))
            network.add_module(f"relu{number}", nn.ReLU())
            for layer in dropout_layers(self.dropout):
                network.add_module(f"dropout{number}", layer)
            before = self.channels
        network.add_module("features", nn.Flatten())
        network.add_module("linear", nn.Linear(self.channels * self._positions(), self.classes))
        return network

    def _positions(self) -> int:
        """Length of the last convolution's output."""
        length = self.features
        for kernel in KERNELS:
            length = (length + 2 - kernel) // 2 + 1
        return length
