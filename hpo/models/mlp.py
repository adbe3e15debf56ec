"""A multilayer perceptron."""

from dataclasses import dataclass, field

from torch import nn

from hpo.errors import is_whole, require
from hpo.models.layers import check_dropout, dropout_layers


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron with ReLU between its layers.

    Attributes:
        widths: features of the input, of every hidden layer, and the number of classes.
        dropout: probability with which a hidden feature is zeroed in training, after every ReLU.
    """

    widths: tuple[int, ...] = (40, 256, 256, 10)
    # A definition names it only where it is not 0, so that the digests of older studies stay the same.
    dropout: float = field(default=0.0, metadata={"described": "dropout"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        valid = len(self.widths) >= 2 and all(is_whole(width, 1) for width in self.widths)
        require(valid, "MLP: widths", self.widths, "at least two whole numbers of at least 1")
        check_dropout(self)

    def __call__(self) -> nn.Module:
        """A freshly initialised network: inputs [N, ...] of widths[0] features -> logits [N, widths[-1]]."""
        network = nn.Sequential()
        network.add_module("flatten", nn.Flatten())
        for number, (before, after) in enumerate(zip(self.widths, self.widths[1:], strict=False), start=1):
            network.add_module(f"linear{number}", nn.Linear(before, after))
            if number < len(self.widths) - 1:
                network.add_module(f"relu{number}", nn.ReLU())
                for layer in dropout_layers(self.dropout):
                    network.add_module(f"dropout{number}", layer)
        return network
