"""Networks whose outputs have no accuracy are refused before anything is trained, whatever the loss."""

import copy
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo import cli
from hpo.errors import UsageError
from hpo.models.losses import CrossEntropy, cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.storage.database import connect
from hpo.storage.ledger import load_study
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe
from hpo.user_code.messages import warn_once
from tests.data.test_data_loading import CLASSES, SGD, Clouds, plain

pytestmark = pytest.mark.usefixtures("one_thread")


def binary(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        outputs.reshape(len(labels)), (labels > 0).to(outputs.dtype), reduction="none"
    )


def squares(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.reshape(len(labels), -1).mean(1) - labels) ** 2


def recipe(model: Callable[[], nn.Module], loss: Any, **source: Any) -> Recipe:
    return Recipe(
        Clouds(), plain()._replace(**source), model, REGULARIZERS["none"], OPTIMIZERS["sgd"], epochs=1, batch_size=8,
        sample_loss=loss,
    )  # fmt: skip


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "one logit": (lambda: nn.Linear(4, 1), binary, "one number per sample"),
    "one number": (lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), squares, "one number per sample"),
    "one number in a square": (lambda: nn.Sequential(nn.Linear(4, 1), nn.Unflatten(1, (1, 1))), squares, "one number"),
    "by position": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3))), squares, r"shape \(2, 3\)"),
    "an image": (lambda: nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2))), squares, r"shape \(3, 2, 2\)"),
    "too few": (lambda: nn.Linear(4, CLASSES - 1), squares, "2 outputs, .* 3 classes"),
    "too few, cross-entropy": (lambda: nn.Linear(4, CLASSES - 1), cross_entropy, "2 outputs, .* 3 classes"),
}


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("case", REFUSED)
def test_outputs_without_an_accuracy(case: str, members: int) -> None:
    model, loss, named = REFUSED[case]
    asked = []

    def counted(outputs: Tensor, labels: Tensor) -> Tensor:
        asked.append(1)
        return loss(outputs, labels)

    with pytest.raises(UsageError, match=named) as caught:
        train(recipe(model, counted), [Member(seed, SGD) for seed in range(members)])
    assert "\n" not in str(caught.value) and not asked


@pytest.mark.parametrize("outputs", [CLASSES, CLASSES + 2])
def test_an_output_for_every_class_may_have_any_loss(outputs: int) -> None:
    """More outputs than classes are allowed, as some networks have them."""
    (result,) = train(recipe(lambda: nn.Linear(4, outputs), squares), [Member(0, SGD)], test=True)
    assert 0 <= result.final["test_accuracy"] <= 1 and torch.tensor(result.final["test_loss"]).isfinite()


@pytest.mark.parametrize(
    ("network", "loss", "warned"),
    [
        (nn.Sequential(nn.Linear(4, CLASSES), nn.Softmax(1)), CrossEntropy(0.1), True),
        (nn.Sequential(nn.Linear(4, CLASSES), nn.Softmax(1)), lambda o, y: -o.log().gather(1, y[:, None])[:, 0], False),
        (nn.Sequential(nn.Linear(4, CLASSES), nn.ReLU()), cross_entropy, False),
        (nn.Linear(4, CLASSES), cross_entropy, False),
    ],
)
def test_probabilities_under_cross_entropy_give_a_warning(
    network: nn.Module, loss: Any, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_once.cache_clear()
    parts = REGULARIZERS["none"], OPTIMIZERS["sgd"]
    recipe = Recipe(
        Clouds(), plain(), functools.partial(fresh, network), *parts, epochs=1, batch_size=8, sample_loss=loss
    )
    train(recipe, [Member(0, SGD)])
    assert ["softmax" in record.getMessage() for record in caplog.records] == [True] * warned


def fresh(network: nn.Module) -> nn.Module:
    """A copy with other weights."""
    other = copy.deepcopy(network)
    for layer in other.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    return other


STUDY = """
import torch
from torch import nn
from hpo import Configuration, Dataset, Source, Study
from dataclasses import dataclass
import torch.nn.functional as F

@dataclass(frozen=True)
class Coins(Dataset):
    raw: bool = False
    def load(self):
        x = torch.randn(80, 4)
        y = (x.sum(1) > 0).long()
        return Source(x[:60], x[:60].sum(1) if self.raw else y[:60], x[60:], y[60:], 3)

def binary(outputs, labels):
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype), reduction="none")

def right(outputs, labels):
    return ((outputs[:, 0] > 0) == labels).to(outputs.dtype)

def study(data):
    return Study(data=data, model=lambda: nn.Linear(4, 1), loss=binary, epochs=2, trials=2, seeds=3, batch_size=8,
        metrics={"right": right}, score="validation_right", direction="maximize", baseline="A",
        configurations=(Configuration("A"), Configuration("B", optimizer="sgd")))

STUDIES = {"logit": study(Coins()), "raw": study(Coins(raw=True))}
"""


@pytest.mark.parametrize(("variant", "named"), [("logit", "one number per sample"), ("raw", "labels are float32")])
def test_the_commands_refuse_it_before_training(
    variant: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / f"own_{variant}.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("HPO_STORAGE", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    for arguments in (
        ("try", f"own_{variant}:{variant}", "-c", "A"),
        ("run", f"own_{variant}:{variant}", "--workers", "1"),
    ):
        monkeypatch.setattr(sys, "argv", ["hpo", *arguments, "--device", "cpu"])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        text = "".join(capfd.readouterr())
        assert exit.value.code and named in text and "Traceback" not in text, text
    ledger = load_study(connect(f"sqlite:///{tmp_path}/hpo.db"), f"own_{variant}-{variant}")
    assert {row["state"] for row in ledger.export()["slots"]} == {"open"}
    assert not ledger.export()["failures"]
