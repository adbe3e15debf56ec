"""Mixed precision and layout: other arithmetic, the same training."""

import dataclasses

import pytest
import torch
from torch import nn

from hpo.data import Dataset, Source
from hpo.errors import UsageError
from hpo.models import ResNet
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.definition import describe
from hpo.study.study import Configuration, Study
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = {"learning_rate": 0.05, "weight_decay": 0.0, "momentum": 0.0}
EXTRA = {"none": {}, "sam": {"rho": 0.05}, "clip_sample": {"clip": 1.0}}


def small_network() -> nn.Module:
    """Smooth enough for rounding to stay small: a deep network with norm layers multiplies it at every step."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 64, 4))


def run(regularizer: str, members: int, precision: str, channels_last: bool = False) -> list[Result]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 8, 8, generator=generator)
    labels = torch.arange(40) % 4
    recipe = Recipe(
        dataset=Dataset(validation=0.2),
        source=Source(images, labels, images[:8], labels[:8], classes=4),
        model=small_network,
        regularizer=REGULARIZERS[regularizer],
        optimizer=OPTIMIZERS["sgd"],
        epochs=2,
        batch_size=8,
        precision=precision,
        channels_last=channels_last,
    )
    return train(recipe, [Member(seed, PLAIN | EXTRA[regularizer]) for seed in range(members)], test=True)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("regularizer", list(EXTRA))
def test_bfloat16_trains_alike_but_not_the_same(regularizer: str, members: int) -> None:
    full, half = run(regularizer, members, "float32"), run(regularizer, members, "bfloat16")
    for one, other in zip(full, half, strict=True):
        losses = torch.tensor([one.curves["train_loss"], other.curves["train_loss"]])
        torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0.02)
        assert not torch.equal(losses[0], losses[1]), "nothing was rounded to bfloat16"


@pytest.mark.parametrize("members", [1, 2])
def test_layout_changes_no_number_beyond_rounding(members: int) -> None:
    for one, other in zip(run("none", members, "float32"), run("none", members, "float32", True), strict=True):
        losses = torch.tensor([one.curves["train_loss"], other.curves["train_loss"]])
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)


def test_definition_names_them_only_where_they_are_chosen() -> None:
    plain = Study(
        data=Dataset(),
        model=ResNet(),
        baseline="A",
        configurations=(Configuration("A"), Configuration("B", regularizer="sam")),
    )
    assert "precision" not in describe(plain)
    described = describe(dataclasses.replace(plain, precision="bfloat16"))
    assert (described["precision"], described["channels_last"]) == ("bfloat16", False)
    with pytest.raises(UsageError, match="precision is 'float16'; give"):
        dataclasses.replace(plain, precision="float16")
