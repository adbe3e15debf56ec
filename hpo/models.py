"""Networks: frozen descriptions that build a `torch.nn.Module` when called."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from hpo.errors import UsageError


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron with ReLU between its layers.

    Attributes:
        widths: features of the input, of every hidden layer, and the number of classes.
    """

    widths: tuple[int, ...] = (40, 256, 256, 10)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.widths) < 2 or any(not isinstance(width, int) or width < 1 for width in self.widths):
            raise UsageError(f"MLP: widths is {self.widths!r}; give at least two whole numbers of at least 1")

    def __call__(self) -> nn.Module:
        """A freshly initialised network: inputs [N, widths[0]] -> logits [N, widths[-1]]."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for number, (before, after) in enumerate(zip(self.widths, self.widths[1:], strict=False), start=1):
            layers[f"linear{number}"] = nn.Linear(before, after)
            if number < len(self.widths) - 1:
                layers[f"relu{number}"] = nn.ReLU()
        return nn.Sequential(layers)


MODELS = {"MLP": MLP}
