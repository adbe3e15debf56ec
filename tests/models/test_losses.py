"""Losses of single samples against PyTorch's, and a study's loss in training."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from hpo import MLP, Configuration, Mnist1d, MultiStep, Study
from hpo.errors import UsageError
from hpo.models.losses import CrossEntropy, evaluated_loss
from hpo.report.wording import describe as in_words
from hpo.study.definition import describe, digest, loss_of
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = Study(
    data=Mnist1d(samples=100),
    model=MLP((40, 8, 10)),
    batch_size=16,
    epochs=2,
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("GNVR", regularizer="gnvr")),
)


def half_squares(outputs: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance to the one-hot label, [N]."""
    # `F.one_hot` cannot run under vmap.
    wanted = (labels.unsqueeze(-1) == torch.arange(outputs.shape[-1])).to(outputs.dtype)
    return (outputs - wanted).square().sum(-1) / 2


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = 3 * torch.randn(12, 7, generator=generator, dtype=torch.float64)
    return outputs, torch.randint(7, (12,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_equals_pytorchs(smoothing: float) -> None:
    outputs, labels = batch()
    expected = F.cross_entropy(outputs, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(CrossEntropy(smoothing)(outputs, labels), expected)
    lifted = vmap(CrossEntropy(smoothing))(torch.stack([outputs, -outputs]), torch.stack([labels, labels]))
    torch.testing.assert_close(lifted[0], expected)


@pytest.mark.parametrize("classes", [10, 100])
def test_smoothing_as_in_the_code_of_sam_and_gam(classes: int) -> None:
    """Theirs puts 1 − ε on the label and ε/(C − 1) on every other class: ours at ε C/(C − 1), but for a constant."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, classes, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(6)
    divergences = []
    for row, label in zip(outputs.log_softmax(1), labels.tolist(), strict=True):
        targets = [0.9 if place == label else 0.1 / (classes - 1) for place in range(classes)]
        divergences.append(sum(target * (math.log(target) - row[place]) for place, target in enumerate(targets)))
    theirs = torch.stack(divergences)
    ours = CrossEntropy(0.1 * classes / (classes - 1))(outputs, labels)
    assert (ours - theirs).std().item() == pytest.approx(0, abs=1e-12)
    actual, expected = (torch.autograd.grad(losses.mean(), outputs, retain_graph=True)[0] for losses in (ours, theirs))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1; give"),
        ({"label_smoothing": 1}, "label_smoothing is 1; give"),
        ({"label_smoothing": "0.1"}, "label_smoothing is '0.1'; give"),
        ({"label_smoothing": True}, "label_smoothing is True; give"),
        ({"label_smoothing": float("nan")}, "label_smoothing is nan; give"),
        ({"loss": "cross entropy"}, r"loss is not callable; give a function \(outputs, labels\)"),
        ({"loss": half_squares, "label_smoothing": 0.1}, "label_smoothing and loss are both given"),
    ],
)
def test_a_wrong_loss_is_refused_when_the_study_is_written(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(PLAIN, **changes)
    if set(changes) == {"label_smoothing"}:
        with pytest.raises(UsageError, match=words):
            CrossEntropy(**changes)


def test_the_definition_names_the_loss_where_it_is_another() -> None:
    assert "loss" not in describe(PLAIN)
    assert "loss" not in describe(replace(PLAIN, loss=CrossEntropy()))
    smoothed = describe(replace(PLAIN, label_smoothing=0.1))
    assert smoothed["loss"] == {"kind": "CrossEntropy", "label_smoothing": 0.1}
    assert describe(replace(PLAIN, loss=CrossEntropy(0.1))) == smoothed
    assert describe(replace(PLAIN, loss=half_squares))["loss"] == {"kind": "half_squares"}
    changes: list[dict[str, Any]] = [{}, {"label_smoothing": 0.1}, {"label_smoothing": 0.2}, {"loss": half_squares}]
    assert len({digest(describe(replace(PLAIN, **change))) for change in changes}) == 4


def test_the_report_says_what_is_trained_and_when_its_rate_falls() -> None:
    smoothed = describe(replace(PLAIN, label_smoothing=0.1, schedule=MultiStep((30, 45))))
    assert in_words(smoothed["loss"]) == "CrossEntropy, label smoothing 0.1"
    assert in_words(smoothed["schedule"]) == "MultiStep, milestones 30 and 45, factor 0.1, warmup epochs 0"


@pytest.mark.parametrize("changes", [{}, {"label_smoothing": 0.3}, {"loss": half_squares}])
@pytest.mark.parametrize("name", ["AdamW", "GNVR"])
def test_the_loss_of_the_study_is_what_is_trained(
    changes: dict[str, Any], name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate next to 0 the mean of `train_loss` over an epoch is that of the untrained network."""
    monkeypatch.setenv("HPO_CACHE", str(tmp_path))
    study = replace(PLAIN, batch_size=64, **changes)
    trainer = Trainer(study, "cpu")
    setting = trainer.setting_to_try(name, {"learning_rate": 1e-12, "weight_decay": 0.0})
    result = trainer.try_once(name, setting, seed=3)
    recipe = trainer.recipe(trainer.configuration(name), rerun=True)
    losses = _untrained_losses(study, recipe)
    assert result.curves["train_loss"][0] == pytest.approx(losses.mean().item(), rel=1e-4)


def _untrained_losses(study: Study, recipe: Any) -> Tensor:
    """The loss of every training sample of seed 3 under the initial weights, by PyTorch where it has the loss."""
    from hpo.data import split
    from hpo.random import stream

    torch.manual_seed(stream(3, "training", "initial weights").initial_seed())
    network = study.model()
    parts = split(recipe.source, study.data, 3)
    outputs = network(recipe.source.inputs[parts.training]).detach()
    labels = parts.labels[parts.training]
    if study.loss is not None:
        return loss_of(study)(outputs, labels)
    return F.cross_entropy(outputs, labels, reduction="none", label_smoothing=study.label_smoothing)


def test_evaluation_reports_the_loss_without_smoothing() -> None:
    outputs, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    actual = evaluated_loss(CrossEntropy(0.3))(outputs, labels)
    torch.testing.assert_close(actual, torch.nn.functional.cross_entropy(outputs, labels, reduction="none"))

    def custom_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return outputs.sum(-1) + labels

    assert evaluated_loss(custom_loss) is custom_loss


class Squared(CrossEntropy):
    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().__call__(outputs, labels).square()


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 3.0)])
def test_a_loss_that_extends_cross_entropy_is_evaluated_itself(weights: tuple[float, ...]) -> None:
    outputs, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    given = torch.tensor(weights, dtype=torch.float64) if weights else None
    trained = Squared(0.3, weights)
    expected = F.cross_entropy(outputs, labels, given, reduction="none").square()
    torch.testing.assert_close(evaluated_loss(trained)(outputs, labels), expected)
    assert trained.label_smoothing == 0.3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_shares_of_classes_are_what_pytorch_calls_probabilities(smoothing: float, weighted: bool) -> None:
    """Also what mixup's code has: λ · loss of one label + (1 − λ) · loss of the other."""
    outputs, labels = batch()
    shares = torch.rand(12, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shares /= shares.sum(1, keepdim=True)
    weights = tuple(0.5 + 0.1 * number for number in range(7)) if weighted else ()
    loss = CrossEntropy(smoothing, weights)
    given = torch.tensor(weights, dtype=torch.float64) if weighted else None
    expected = F.cross_entropy(outputs, shares, given, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(loss(outputs, shares), expected)
    lifted = vmap(loss)(torch.stack([outputs, -outputs]), torch.stack([shares, shares]))
    torch.testing.assert_close(lifted[0], expected)
    one_hot = [F.one_hot(each, 7).double() for each in (labels, labels.flip(0))]
    mixed = loss(outputs, 0.3 * one_hot[0] + 0.7 * one_hot[1])
    torch.testing.assert_close(mixed, 0.3 * loss(outputs, labels) + 0.7 * loss(outputs, labels.flip(0)))
    if not weighted:
        logits, two = outputs[:, :1], shares[:, :2] / shares[:, :2].sum(1, keepdim=True)
        pairs = torch.cat([torch.zeros_like(logits), logits], 1)
        torch.testing.assert_close(loss(logits, two), loss(pairs, two))
