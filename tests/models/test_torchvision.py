"""Networks of torchvision: by name, described in the definition, refused in one sentence where they are not there."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import hpo
from hpo.errors import UsageError
from hpo.models import ResNet
from hpo.study.definition import _describe_part


def small_resnet(num_classes: int, width: int = 4) -> nn.Module:
    return ResNet(18, num_classes, width=width)()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with torchvision's two functions and one network."""
    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    known = {"resnet18": small_resnet}

    def get_model(name: str, weights: Any, **options: Any) -> nn.Module:
        assert weights is None
        return known[name](**options)

    models.get_model, models.list_models = get_model, lambda: list(known)
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.mark.usefixtures("stand_in")
def test_a_network_by_name() -> None:
    network = hpo.torchvision("resnet18", classes=7, width=8)
    assert network()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    described = _describe_part(network)
    assert described == {"kind": "Torchvision", "name": "resnet18", "classes": 7, "options": {"width": 8}}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("name", "options", "words"), [("resnet81", {}, "resnet18"), ("resnet18", {"widht": 8}, "widht")]
)
def test_unknown_networks_and_options_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        hpo.torchvision(name, **options)()


def test_a_missing_torchvision_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match="torchvision cannot be imported"):
        hpo.torchvision("resnet18")()


def test_real_networks_equal_ours() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported here: {error}")
    for depth in (18, 50):
        theirs, ours = hpo.torchvision(f"resnet{depth}", classes=5)().eval(), ResNet(depth, 5, stem="large")().eval()
        with torch.no_grad():
            for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                own.copy_(other)
            images = torch.randn(2, 3, 64, 64)
            torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)
