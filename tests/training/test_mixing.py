"""mixup and CutMix: the published distributions, equal to slow versions, in training, and what is refused."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import references_mixing as references
import torch
import torch.nn.functional as F
from populations import middle
from scipy import stats
from torch import Tensor, nn

import hpo.training.loop
from hpo import Configuration, Mnist1d, Regularizer, Study
from hpo.data import Dataset, Source
from hpo.data.mixing import Mixing, draw_mix
from hpo.errors import UsageError
from hpo.models import MLP
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import mix
from hpo.stages import Stages
from hpo.study.definition import describe
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe, Result
from hpo.training.steps import Steps
from tests.training.test_steps import Recordings, same
from tests.training.test_training import SGD

pytestmark = pytest.mark.usefixtures("one_thread")

HEIGHT, WIDTH, CLASSES = 5, 8, 3


@dataclass(frozen=True)
class Pictures(Dataset):
    """Noise, brighter in another corner for each class."""

    samples: int = 60
    kind: torch.dtype = torch.float64

    def load(self) -> Source:
        total = self.samples + 15
        labels = torch.arange(total) % CLASSES
        inputs = torch.randn(total, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        inputs[:, 0, 0, 0] += 2 * labels
        kept = self.samples
        return Source(inputs[:kept].to(self.kind), labels[:kept], inputs[kept:].to(self.kind), labels[kept:], CLASSES)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = MLP((HEIGHT * WIDTH, 7, CLASSES))()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs.flatten(1))


def recipe(dataset: Dataset, **changes: Any) -> Recipe:
    chosen = {"regularizer": REGULARIZERS["none"], "optimizer": OPTIMIZERS["sgd"], "epochs": 3, "batch_size": 8}
    return Recipe(dataset, dataset.load(), lambda: Flat().double(), **(chosen | changes))


Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """The inputs [K, V, N, ...] and labels of every step."""
    batches: Batches = []
    original = Population.step

    def step(population: Population, inputs: Tensor, labels: Tensor, *further: Any) -> Any:
        batches.append((inputs.clone(), labels.clone()))
        return original(population, inputs, labels, *further)

    monkeypatch.setattr(Population, "step", step)
    return batches


MIXINGS: dict[str, dict[str, float]] = {
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "both, not always": {"mixup": 1.0, "cutmix": 0.5, "mix_probability": 0.7},
}


@pytest.mark.parametrize("name", MIXINGS)
@pytest.mark.parametrize("regularizer", ["none", "gvr"])
def test_every_minibatch_is_mixed_as_by_the_slow_version(name: str, regularizer: str, steps: Batches) -> None:
    """Both views of GVR in the same way, also an incomplete last batch and after a change of the batch size."""
    seeds, fields = [3, 8], MIXINGS[name]
    changes = {"regularizer": REGULARIZERS[regularizer], "last_batch": "keep", "batch_size": Stages({0: 8, 2: 11})}
    if regularizer == "gvr":
        changes |= {"batch_size": 32}
    members = [Member(seed, SGD | middle(REGULARIZERS[regularizer])) for seed in seeds]
    train(recipe(Pictures(label_noise=0.2), **changes), members)
    plain = [(inputs.numpy(), labels.numpy()) for inputs, labels in steps]
    steps.clear()
    train(recipe(Pictures(label_noise=0.2, **fields), **changes), members)
    counts = [2, 2, 2] if regularizer == "gvr" else [6, 6, 5]
    numbers = [(epoch, step) for epoch, count in enumerate(counts, 1) for step in range(count)]
    assert len(numbers) == len(steps) == len(plain)
    arguments = fields.get("mixup", 0), fields.get("cutmix", 0), fields.get("mix_probability", 1), HEIGHT, WIDTH
    for (epoch, step), (before, labels), (mixed, shares) in zip(numbers, plain, steps, strict=True):
        for member, seed in enumerate(seeds):
            drawn = references.draw(references.key_of_step(seed, epoch, step), *arguments)
            for view in range(before.shape[1]):
                inputs, expected = references.mix(before[member, view], labels[member], CLASSES, drawn)
                np.testing.assert_allclose(mixed[member, view].numpy(), inputs, rtol=0, atol=1e-5)
                np.testing.assert_allclose(shares[member].numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_weight_has_a_beta_distribution(alpha: float) -> None:
    keys = mix(torch.arange(4000), 1)
    drawn = draw_mix(Mixing(alpha, 0, 1), keys)
    assert stats.kstest(drawn.weights.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    assert torch.equal(drawn.shares, drawn.weights) and not drawn.boxes.any()
    cut = draw_mix(Mixing(0, alpha, 1), keys, 4001, 4001)
    assert (cut.weights == 1).all()
    rows, columns = (cut.boxes[:, 2 * axis + 1] - cut.boxes[:, 2 * axis] for axis in range(2))
    whole = (cut.boxes[:, 0] > 0) & (cut.boxes[:, 1] < 4001) & (cut.boxes[:, 2] > 0) & (cut.boxes[:, 3] < 4001)
    assert (rows - columns)[whole].abs().max() == 0
    torch.testing.assert_close(cut.shares, 1 - (rows * columns).double() / 4001**2)
    # A box of side s around a uniform pixel is whole with probability (1 − s)², s² = 1 − λ.
    simulated = np.random.default_rng(0).beta(alpha, alpha, 10**6)
    expected = np.mean((1 - np.sqrt(1 - simulated)) ** 2)
    assert abs(whole.double().mean() - expected) < 4.5 * (expected * (1 - expected) / 4000) ** 0.5 + 0.002


def test_methods_and_their_probability() -> None:
    drawn = draw_mix(Mixing(1.0, 1.0, 0.6), mix(torch.arange(4000), 2), 400, 400)
    cut, blended = drawn.boxes.any(1), drawn.weights < 1
    assert not (cut & blended).any()
    for chosen in (cut, blended):
        assert abs(chosen.double().mean() - 0.3) < 4.5 * (0.3 * 0.7 / 4000) ** 0.5 + 0.005
    assert (drawn.shares[~cut & ~blended] > 0.999).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_a_member_of_a_population_trains_as_it_does_alone(regularizer: Regularizer) -> None:
    dataset = Pictures(mixup=0.4, cutmix=1.0)
    settings = SGD | middle(regularizer)
    chosen = recipe(dataset, regularizer=regularizer, batch_size=32 if regularizer.views > 1 else 8)
    together = train(chosen, [Member(seed, settings) for seed in range(3)])
    for seed in range(3):
        same([together[seed]], train(chosen, [Member(seed, settings)]))


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_shares_of_one_class_are_labels(regularizer: Regularizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights of 1 every regularizer gives what it gives for the labels."""
    members = [Member(seed, SGD | middle(regularizer)) for seed in range(2)]
    changes = {"regularizer": regularizer, "batch_size": 32 if regularizer.views > 1 else 8}
    expected = train(recipe(Pictures(), **changes), members)
    monkeypatch.setattr(hpo.data.mixing, "uniform", lambda keys, _: torch.full(keys.shape, 1.0))  # never mixed
    same(train(recipe(Pictures(mixup=0.4), **changes), members), expected)


@pytest.mark.parametrize("members", [1, 3])
def test_a_recorded_step_mixes_other_samples_each_time(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(Pictures(mixup=0.4, cutmix=1.0))
    runs = [Member(seed, SGD) for seed in range(members)]
    expected = train(chosen, runs)
    recordings = Recordings()
    monkeypatch.setattr(hpo.training.loop, "Steps", functools.partial(Steps, record=recordings))
    same(train(chosen, runs), expected)
    assert recordings.replays > 5


def test_a_loss_that_takes_shares_of_classes_can_be_used() -> None:
    def custom(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels, reduction="none")  # PyTorch's takes them

    dataset = Pictures(mixup=0.4)
    own, usual = (train(recipe(dataset, **changes), [Member(0, SGD)]) for changes in ({"sample_loss": custom}, {}))
    same(own, usual)


class Scores(nn.Module):
    """One output, the logit of class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = MLP((HEIGHT * WIDTH, 7, 1))()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs.flatten(1))


def test_a_network_with_one_output_is_mixed_as_one_with_two() -> None:
    @dataclass(frozen=True)
    class Two(Pictures):
        def load(self) -> Source:
            loaded = super().load()
            return loaded._replace(labels=loaded.labels % 2, test_labels=loaded.test_labels % 2, classes=2)

    class Pairs(Scores):
        def forward(self, inputs: Tensor) -> Tensor:
            logit = super().forward(inputs)
            return torch.cat([torch.zeros_like(logit), logit], 1)

    results: list[Result] = []
    for network in (Scores, Pairs):
        chosen = recipe(Two(mixup=0.4))._replace(model=lambda network=network: network().double())
        results += train(chosen, [Member(0, SGD)])
    same(results[:1], results[1:])


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Pictures(mixup=-1), "Pictures: mixup is -1; give a number above 0, or 0 for none"),
    (lambda: Pictures(cutmix=float("inf")), "Pictures: cutmix is inf"),
    (lambda: Pictures(mix_probability=0), "Pictures: mix_probability is 0; give a probability above 0"),
    (lambda: train(recipe(Mnist1d(samples=100, cutmix=1.0))._replace(model=MLP((40, 8, 10))), [Member(0, SGD)]),
     r"data: cutmix needs images, and a sample has shape \(40,\); use mixup"),
    (lambda: train(recipe(Pictures(mixup=1.0, kind=torch.int64))._replace(model=Converted), [Member(0, SGD)]),
     "data: mixup and CutMix got int64 inputs"),
]  # fmt: skip


class Converted(Flat):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.float())


@pytest.mark.parametrize(("action", "words"), REFUSED)
def test_what_cannot_be_mixed_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_numbers_cannot_be_mixed_and_a_clean_view_has_other_labels() -> None:
    @dataclass(frozen=True)
    class Numbers(Pictures):
        task = "regression"

    with pytest.raises(UsageError, match="mixup and cutmix mix classes, and the task is regression"):
        Numbers(mixup=1.0)

    def grads(objective: Any, params: Any, state: Any, _: Any) -> Any:
        return objective.grad(params, "clean"), state, {}

    clean = Configuration("Clean", regularizer=Regularizer("clean", grads, {}, clean_view=True))
    data = Mnist1d(augmented=True, mixup=1.0)
    study = Study(data=data, model=MLP(), configurations=(Configuration("AdamW"), clean), baseline="AdamW")
    with pytest.raises(UsageError, match="needs the samples without augmentation, and mixup and cutmix mix"):
        describe(study)


def test_only_mixed_data_have_it_in_their_definition() -> None:
    configurations = (Configuration("SGD", optimizer="sgd"), Configuration("AdamW"))

    def described(data: Dataset) -> Any:
        return describe(Study(data=data, model=MLP(), configurations=configurations, baseline="SGD"))["data"]

    mixed = {"mixup": 0.2, "cutmix": 0.0, "mix_probability": 1.0}
    assert described(Mnist1d(mixup=0.2)) == described(Mnist1d(mix_probability=0.5)) | mixed
