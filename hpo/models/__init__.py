"""Networks: frozen descriptions that build a freshly initialised `torch.nn.Module` when called."""

from hpo.models.char_lm import CharLM
from hpo.models.convnet import ConvNet1d
from hpo.models.mlp import MLP
from hpo.models.pyramidnet import PyramidNet
from hpo.models.resnet import ResNet, WideResNet
from hpo.models.vgg import VGG

MODELS = {
    "MLP": MLP,
    "ConvNet1d": ConvNet1d,
    "ResNet": ResNet,
    "WideResNet": WideResNet,
    "PyramidNet": PyramidNet,
    "VGG": VGG,
    "CharLM": CharLM,
}

__all__ = ["MLP", "MODELS", "VGG", "CharLM", "ConvNet1d", "PyramidNet", "ResNet", "WideResNet"]
