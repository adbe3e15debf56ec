"""Networks: frozen descriptions that build a freshly initialised `torch.nn.Module` when called."""

from hpo.models.convnet import ConvNet1d
from hpo.models.mlp import MLP
from hpo.models.resnet import ResNet18, WideResNet

MODELS = {"MLP": MLP, "ConvNet1d": ConvNet1d, "ResNet18": ResNet18, "WideResNet": WideResNet}

__all__ = ["MLP", "MODELS", "ConvNet1d", "ResNet18", "WideResNet"]
