"""Networks of torchvision, where it is installed."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from hpo.errors import UsageError, did_you_mean, require_whole


@dataclass(frozen=True)
class Torchvision:
    """A network of torchvision by its name, with new initial weights; `hpo.torchvision` makes one.

    Attributes:
        name: as in `torchvision.models.list_models()`. classes: outputs of the network.
        options: further arguments of the network's function, such as {"dropout": 0.1}.
    """

    name: str
    classes: int
    options: dict[str, Any]

    def __call__(self) -> nn.Module:
        """A freshly initialised network: images [N, 3, H, W] -> logits [N, classes].

        Raises:
            UsageError: torchvision is not installed, has no such network, or refuses an option.
        """
        models = _models()
        if self.name not in models.list_models():
            known = models.list_models()
            raise UsageError(
                f"torchvision has no network {self.name!r}; torchvision.models.list_models() lists all"
                f"{did_you_mean(self.name, known)}"
            )
        try:
            return models.get_model(self.name, weights=None, num_classes=self.classes, **self.options)
        except TypeError as error:
            raise UsageError(f"torchvision's {self.name} does not accept these options: {error}") from error


def torchvision(name: str, classes: int = 10, **options: Any) -> Torchvision:
    """A network of torchvision: `model=hpo.torchvision("resnet50", classes=1000)`.

    Its BatchNorm layers and initial weights are torchvision's. hpo's own `ResNet(50, stem="large")` is the same network
    and has GroupNorm as a choice.

    Args:
        name: as in `torchvision.models.list_models()`. options: further arguments of the network's function.
    """
    require_whole("torchvision: classes", classes)
    return Torchvision(name, classes, options)


def _models() -> Any:
    try:
        import torchvision.models
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another release of PyTorch
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"torchvision cannot be imported ({reason}); install the release that goes with your PyTorch"
        ) from error
    return torchvision.models
