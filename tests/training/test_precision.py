"""Mixed precision and layout: other arithmetic, the same training."""

import copy
import dataclasses

import pytest
import references
import torch
from populations import middle
from torch import Tensor, nn

from hpo.data import Dataset, Source
from hpo.errors import UsageError
from hpo.models import ResNet
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.definition import describe
from hpo.study.study import Configuration, Study
from hpo.training.loop import train
from hpo.training.population import Population
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


class Attention(nn.Module):
    """Products between layers that have a rule: their bfloat16 results are the inputs of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.mixed = (nn.Linear(8, 8) for _ in range(3))
        self.key, self.last = nn.Linear(8, 8, bias=False), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs[:, 0]
        weights = (self.query(hidden) @ self.key(hidden).mT).softmax(-1)
        return self.last(self.mixed(weights @ self.value(hidden)).tanh().mean(1))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", ["gnvr", "sgsc", "clip_sample", "rogc"])
def test_gradients_of_single_samples_in_bfloat16(name: str, members: int) -> None:
    """To bfloat16's rounding those of a loop over the samples in float32."""
    modules = []
    for seed in range(members):
        torch.manual_seed(seed)
        modules.append(Attention())
    inputs, labels = torch.randn(members, 1, 6, 3, 8, 8), torch.arange(6).expand(members, 6) % 4
    values = PLAIN | middle(REGULARIZERS[name])
    hyper = {key: torch.full((members,), value) for key, value in values.items()}
    parts = copy.deepcopy(modules), REGULARIZERS[name], OPTIMIZERS["sgd"], hyper, cross_entropy, inputs[0, 0]
    population = Population(*parts, bfloat16=True)
    population.step(inputs, labels)
    assert population.network.obstacle is None
    for member, module in enumerate(modules):
        batch = references.Batch(module, inputs[member], labels[member])
        gradient, _ = references.REGULARIZERS[name](batch, middle(REGULARIZERS[name]), {})
        for key, parameter in module.named_parameters():
            step = parameter.detach() - population.params[key][member]
            expected = PLAIN["learning_rate"] * gradient[key]
            assert (step - expected).norm() <= 0.1 * expected.norm() + 1e-4, key


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
