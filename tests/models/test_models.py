"""The networks: published sizes, shapes, initial weights, refusals, and the layer rules."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hpo import models
from hpo.errors import UsageError
from hpo.gradients.network import Network
from hpo.gradients.rule_check import rules_hold
from hpo.models import MLP, MODELS, VGG, ConvNet1d, PyramidNet, ResNet, WideResNet
from hpo.models.layers import norm_of_images
from hpo.study.definition import _describe_part

pytestmark = pytest.mark.usefixtures("one_thread")


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(description: Any, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return description()


def test_the_sizes_are_the_published_ones() -> None:
    assert size(ConvNet1d()()) == 5210  # the MNIST-1D paper
    assert size(MLP((4, 7, 3))()) == 4 * 7 + 7 + 7 * 3 + 3
    with torch.device("meta"):  # only shapes
        assert size(ResNet()()) == size(ResNet(norm="group")()) == 11_173_962
        assert size(WideResNet()()) == 36_479_194  # "36.5M"
        assert size(WideResNet(classes=100)()) == 36_479_194 + 90 * (640 + 1)
        assert size(ResNet(classes=7, in_channels=1)()) == 11_173_962 - 3 * (512 + 1) - 2 * 9 * 64


# Of the authors' networks for 32 × 32 images and 100 classes: GAM's ResNets and PyramidNet, VaSSO's VGG and WideResNet.
AUTHORS = [
    (ResNet(18, 100), 11_220_132), (ResNet(34, 100), 21_328_292), (ResNet(50, 100), 23_705_252),
    (ResNet(101, 100), 42_697_380), (ResNet(152, 100), 58_341_028), (PyramidNet(classes=100), 18_426_837),
    (VGG(11, 100), 28_518_244), (VGG(13, 100), 28_703_140), (VGG(16, 100), 34_015_396), (VGG(19, 100), 39_327_652),
    (WideResNet(28, 10, 100), 36_536_884), (WideResNet(34, 10, 100), 46_218_164),
]  # fmt: skip
# Of torchvision's networks for ImageNet, by their documentation.
IMAGENET = [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)]


@pytest.mark.parametrize(("description", "parameters"), AUTHORS, ids=str)
def test_the_sizes_are_those_of_the_authors_networks(description: Any, parameters: int) -> None:
    with torch.device("meta"):
        module = description()
        assert size(module) == parameters
        assert module(torch.empty(2, 3, 32, 32)).shape == (2, 100)


@pytest.mark.parametrize(("depth", "parameters"), IMAGENET)
def test_the_sizes_of_networks_for_imagenet(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        module = ResNet(depth, 1000, stem="large")()
        assert size(module) == parameters
        assert module(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


SMALL: dict[str, tuple[Any, tuple[int, ...]]] = {
    "MLP": (MLP((12, 6, 5)), (3, 4)),
    "ConvNet1d": (ConvNet1d(classes=5), (40,)),
    "ConvNet1d batch": (ConvNet1d(classes=5, norm="batch"), (40,)),
    "ConvNet1d group": (ConvNet1d(features=17, classes=5, channels=6, groups=3, norm="group"), (17,)),
    "ConvNet1d of the shortest input": (ConvNet1d(features=3, classes=5), (3,)),
    "ResNet": (ResNet(classes=5, width=4), (3, 32, 32)),
    "ResNet group": (ResNet(classes=5, width=4, norm="group"), (3, 32, 32)),
    "ResNet of digits": (ResNet(classes=5, in_channels=1, width=4, norm="group"), (1, 8, 8)),
    "ResNet of bottlenecks": (ResNet(50, classes=5, width=2, norm="group", groups=2), (3, 32, 32)),
    "ResNet of large images": (ResNet(18, classes=5, stem="large", width=4, norm="group"), (3, 64, 64)),
    "PyramidNet": (PyramidNet(depth=29, alpha=10, classes=5, width=4), (3, 32, 32)),
    "PyramidNet group": (PyramidNet(depth=11, alpha=10, classes=5, width=4, norm="group"), (3, 16, 16)),
    "VGG": (VGG(11, classes=5, width=2, hidden=8), (3, 32, 32)),
    "VGG group": (VGG(11, classes=5, width=4, hidden=8, norm="group", dropout=0.0), (3, 32, 32)),
    "WideResNet": (WideResNet(depth=10, widen=2, classes=5, width=4), (3, 32, 32)),
    "WideResNet group": (WideResNet(depth=16, widen=1, classes=5, width=4, norm="group"), (3, 32, 32)),
    "WideResNet of digits": (WideResNet(depth=10, widen=1, classes=5, in_channels=1, width=4, norm="group"), (1, 8, 8)),
}


@pytest.mark.parametrize("name", SMALL)
def test_shapes_and_the_last_layer(name: str) -> None:
    """The classifier is the last Linear layer in the order of modules, where `last_layer_grad` finds it."""
    description, shape = SMALL[name]
    module = build(description)
    outputs = module(torch.randn(4, *shape))
    assert outputs.shape == (4, 5)
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    last.bias.data += 100
    assert (module(torch.randn(4, *shape)) > 50).all()


@pytest.mark.parametrize("name", [name for name, (_, shape) in SMALL.items() if shape and "Net" in name])
def test_norm_layers(name: str) -> None:
    description, _ = SMALL[name]
    kinds = {type(layer) for layer in build(description).modules()}
    batch, group = {nn.BatchNorm1d, nn.BatchNorm2d}, {nn.GroupNorm}
    assert bool(kinds & batch) == (description.norm == "batch")
    assert bool(kinds & group) == (description.norm == "group")


@pytest.mark.parametrize("name", MODELS)
def test_every_field_is_in_the_definition(name: str) -> None:
    dropout = {"dropout": 0.1} if "dropout" in MODELS[name].__dataclass_fields__ else {}  # described where it is not 0
    description = MODELS[name](**dropout)
    described = _describe_part(description)
    assert described["kind"] == name
    assert set(described) == {"kind", *description.__dataclass_fields__}
    assert json.loads(json.dumps(described)) == described
    fields = {field: value for field, value in described.items() if field != "kind"}
    assert MODELS[name](**fields) == description
    assert getattr(models, name) is MODELS[name]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLP((4, 2), dropout=1.0), "MLP: dropout is 1.0"),
        (lambda: ConvNet1d(dropout="half"), "ConvNet1d: dropout is 'half'"),
        (lambda: ConvNet1d(features=2), "ConvNet1d: features is 2, too short"),
        (lambda: ConvNet1d(norm="layer"), "ConvNet1d: norm is 'layer'; choose from None, 'batch', 'group'"),
        (lambda: ConvNet1d(norm="group", channels=26), "groups is 5, which does not divide channels 26"),
        (lambda: ResNet(norm=None), "ResNet: norm is None; choose from 'batch', 'group'"),
        (lambda: ResNet(width=0), "ResNet: width is 0; give a whole number of at least 1"),
        (lambda: ResNet(classes=10.0), "ResNet: classes is 10.0"),
        (lambda: ResNet(20), "ResNet: depth is 20"),
        (lambda: ResNet(stem="wide"), "ResNet: stem is 'wide'"),
        (lambda: ResNet(init="zeros"), "ResNet: init is 'zeros'"),
        (lambda: PyramidNet(depth=109), "PyramidNet: depth is 109"),
        (lambda: VGG(12), "VGG: depth is 12"),
        (lambda: WideResNet(depth=18), "WideResNet: depth is 18; give 10, 16, 22, 28"),
        (lambda: WideResNet(widen=True), "WideResNet: widen is True"),
    ],
)
def test_invalid_settings_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError) as error:
        make()
    assert words in str(error.value)


def test_initial_weights_of_residual_networks() -> None:
    """Convolutions normal with variance 2 / (k² · outputs), no layer's gain at 0, the classifier's bias 0."""
    for description in (ResNet(width=32), WideResNet(depth=10, widen=4)):
        module = build(description)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
                expected = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
                assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
                assert abs(layer.weight.mean().item()) < 0.05 * expected
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.weight.eq(1).all()
            elif isinstance(layer, nn.Linear):
                assert layer.bias.eq(0).all()


def test_initial_weights_by_pytorch() -> None:
    """Uniform between ±1/√(fan-in), as in the authors' code: a standard deviation of .024 where He's is .059."""
    for init, expected in (("pytorch", 1 / math.sqrt(3 * 9 * 64)), ("he", math.sqrt(2 / (9 * 64)))):
        module = build(ResNet(init=init))
        assert module.blocks[0].conv2.weight.std().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("groups", "channels", "expected"), [(32, 64, 32), (32, 512, 32), (32, 160, 16), (32, 4, 2), (8, 64, 8), (32, 1, 1)]
)
def test_groups_of_at_least_two_channels(groups: int, channels: int, expected: int) -> None:
    layer = norm_of_images("group", channels, groups)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == expected


@pytest.mark.parametrize(
    "name", [name for name, (network, _) in SMALL.items() if getattr(network, "norm", 0) != "batch"]
)
def test_the_rules_hold_where_samples_do_not_mix(name: str) -> None:
    description, shape = SMALL[name]
    network = Network(build(description), torch.randn(4, *shape))
    assert rules_hold(network), network.obstacle
