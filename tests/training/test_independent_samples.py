"""Losses and metrics whose values of a sample depend on the other samples are refused before training."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pytest
import targets
import torch
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.models.losses import LOSSES
from hpo.models.task_metrics import RATIOS
from hpo.training.independent_samples import _mixes_samples
from hpo.training.loop import train
from hpo.training.recipe import Member, Result
from hpo.user_code.metrics import Whole
from tests.training.test_targets import SGD, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")

Function = Callable[[Tensor, Tensor], Tensor]


def trained(case: str, members: int = 1, **changes: Any) -> list[Result]:
    recipe = recipe_of(case)._replace(epochs=1, **changes)
    return train(recipe, [Member(seed, SGD) for seed in range(members)])


def broadcast(outputs: Tensor, labels: Tensor) -> Tensor:
    """[N, 1] − [N] is [N, N], whose mean over the last axis is no error of a sample."""
    return (outputs - labels).square().mean(-1)


def per_token(outputs: Tensor, labels: Tensor) -> Tensor:
    """[N, T, C] and [N, T]: the labels of a sample get the outputs of all samples."""
    logs = outputs.log_softmax(-1).mean(0)  # [T, C]
    return -logs.gather(-1, labels.clamp(min=0).mT).sum(0)


def over_batch(outputs: Tensor, labels: Tensor) -> Tensor:
    """A sample's loss over the number of samples."""
    return (outputs[:, 0] - labels).square() / len(labels)


def since_previous(outputs: Tensor, labels: Tensor) -> Tensor:
    """The change from one sample to the next, which no sample of a shorter batch reveals."""
    errors = outputs[:, 0] - labels
    return errors.diff(prepend=errors[:1]).square()


def rank(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs[:, 0].argsort().argsort()


def class_weights(outputs: Tensor, labels: Tensor) -> Tensor:
    """Weights from the classes of the batch."""
    losses = LOSSES["multilabel"](outputs, labels)
    return losses / (1 + labels[:, 0].to(outputs.dtype).sum())


MIXED: dict[str, tuple[str, Function]] = {
    "broadcast": ("one number", broadcast),
    "over the batch": ("one number", over_batch),
    "since the previous sample": ("one number", since_previous),
    "rank": ("one number", rank),
    "all tokens": ("tokens", per_token),
    "weights of a batch": ("several labels", class_weights),
}


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", MIXED)
def test_a_metric_that_mixes_samples_is_refused(name: str, members: int) -> None:
    case, metric = MIXED[name]
    with pytest.raises(UsageError, match=r"^metric 'own' of a sample .*hpo\.whole") as caught:
        trained(case, members, metrics={"own": metric})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", [name for name in MIXED if name != "rank"])
def test_a_loss_that_mixes_samples_is_refused(name: str, members: int) -> None:
    case, loss = MIXED[name]
    with pytest.raises(UsageError, match=r"^the loss of a sample ") as caught:
        trained(case, members, sample_loss=loss)
    assert ("use outputs[:, 0]" in str(caught.value)) == (case == "one number")


def test_a_last_layer_of_zeros_hides_no_mixing() -> None:
    """All outputs are the same at first."""

    def centred(outputs: Tensor, labels: Tensor) -> Tensor:
        return LOSSES["regression"](outputs - outputs.mean(0), labels)

    def network() -> nn.Module:
        module = targets.KINDS["one number"].network().double()
        for parameter in module[-1].parameters():  # type: ignore[index]
            nn.init.zeros_(parameter)
        return module

    with pytest.raises(UsageError, match=r"^the loss of a sample changes"):
        trained("one number", model=network, sample_loss=centred)
    assert trained("one number", model=network)[0].diverged_epoch is None


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("case", targets.KINDS)
def test_losses_of_hpo_and_metrics_of_single_samples_are_accepted(case: str, members: int) -> None:
    """For every kind of targets; also where they change their arguments, go by place, or are in half precision."""
    kind = targets.KINDS[case]

    def spoiled(outputs: Tensor, labels: Tensor) -> Tensor:
        values = kind.loss(outputs, labels)
        outputs.zero_()
        return values

    def by_place(outputs: Tensor, labels: Tensor) -> Tensor:
        """Numbers that follow from the sample's place."""
        draws = torch.linspace(0, 1, 64, dtype=outputs.dtype, device=outputs.device).sin()[: len(labels)]
        return kind.loss(outputs, labels) * draws

    def half(outputs: Tensor, labels: Tensor) -> Tensor:
        return kind.loss(outputs.bfloat16(), labels)

    def whole_mean(outputs: Tensor, labels: Tensor) -> Tensor:
        return kind.loss(outputs, labels).mean()

    metrics: dict[str, Any] = {"spoiled": spoiled, "by_place": by_place, "half": half, "whole": Whole(whole_mean)}
    if case != "class weights":  # whose source has other classes
        for result in trained(case, members, metrics=metrics):
            assert result.final["validation_spoiled"] == pytest.approx(result.final["validation_whole"])
    inputs, labels = targets.batch(kind, 0, 16, members)
    outputs = torch.stack([targets.build(kind, seed)(part).detach() for seed, part in enumerate(inputs)])
    labels = labels.expand(members, *labels.shape)
    assert not _mixes_samples(kind.loss, outputs, labels)
    for name, parts in RATIOS[kind.task](outputs[0], labels[0]).items():
        for part in range(len(parts)):
            ratio = itemgetter(part)
            assert not _mixes_samples(lambda o, y, n=name, r=ratio: r(RATIOS[kind.task](o, y)[n]), outputs, labels)


def test_what_is_not_finite_is_compared_as_well() -> None:
    outputs, labels = torch.tensor([[[1.0], [2.0], [-1.0], [0.0]]]), torch.zeros(1, 4)
    assert not _mixes_samples(lambda o, _: o[:, 0].log(), outputs, labels)
    assert _mixes_samples(lambda o, _: o[:, 0].log() + o.sum(), outputs, labels)
