"""Augmented views in training follow from (seed, epoch, index, view), whatever else is in the population."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import references
import torch
from populations import middle
from torch import Tensor, nn

from hpo import Configuration, Mnist1d, Study
from hpo.data import Dataset, Source, split
from hpo.errors import UsageError
from hpo.models import MLP
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import mix, normal, stream_key
from hpo.study.definition import describe
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, EPOCHS = 3, 3
SGD = {"learning_rate": 0.1, "weight_decay": 1e-3, "momentum": 0.9}
THREE_VIEWS = Regularizer("three", REGULARIZERS["none"].grads, views=3)


@dataclass(frozen=True)
class Numbered(Dataset):
    """Samples [3, 2] whose first number is their index, scaled down so that it teaches nothing."""

    def load(self) -> Source:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(75) % CLASSES
        inputs = torch.randn(75, 3, 2, generator=generator, dtype=torch.float64)
        inputs[:, 1, 0] += 2 * labels
        inputs[:, 0, 0] = torch.arange(75) / 1000
        return Source(inputs[:60], labels[:60], inputs[60:], labels[60:], CLASSES)


@dataclass(frozen=True)
class Shaken(Numbered):
    """Noise on all but the first number, from each sample's key."""

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        noise = normal(keys[:, None], torch.arange(6)).to(inputs.dtype).view(inputs.shape)
        noise[:, 0, 0] = 0
        return inputs + 0.3 * noise


def recipe(regularizer: Regularizer, dataset: Dataset | None = None, batch_size: int = 8) -> Recipe:
    dataset = dataset or Shaken(validation=0.25)

    def network() -> nn.Module:
        return MLP((6, 7, CLASSES))().double()

    return Recipe(dataset, dataset.load(), network, regularizer, OPTIMIZERS["sgd"], EPOCHS, batch_size)


class Seen:
    """Records every training sample of the latest run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[Tensor] = []
        original = Population.step

        def step(population: Population, inputs: Tensor, *args: Any, **options: Any) -> Tree:
            self.steps.append(inputs.clone())
            return original(population, inputs, *args, **options)

        monkeypatch.setattr(Population, "step", step)

    def run(self, chosen: Recipe, seeds: list[int], hyper: Mapping[str, float] = SGD) -> list[dict[tuple, Tensor]]:
        """For every member (epoch, index, view) -> the sample in training."""
        self.steps.clear()
        train(chosen, [Member(seed, {**hyper, **middle(chosen.regularizer)}) for seed in seeds])
        recorded: list[dict[tuple, Tensor]] = [{} for _ in seeds]
        per_epoch = len(self.steps) // EPOCHS
        for number, inputs in enumerate(self.steps):
            assert inputs.shape == (len(seeds), chosen.regularizer.views, chosen.batch_size, 3, 2)
            for member, views in enumerate(inputs):
                for view, samples in enumerate(views):
                    for sample in samples:
                        sample_index = round(sample[0, 0].item() * 1000)
                        recorded[member][number // per_epoch + 1, sample_index, view] = sample
        return recorded


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def differ(first: Tensor, second: Tensor) -> bool:
    """Whether all numbers but the first differ."""
    return bool((first.flatten()[1:] - second.flatten()[1:]).abs().min() > 0)


def assert_known(samples: dict[tuple, Tensor], others: dict[tuple, Tensor]) -> None:
    """Most views (epoch, index, view) occur in both runs, and are equal."""
    shared = samples.keys() & others.keys()
    assert len(shared) > len(samples) / 2
    assert all(torch.equal(samples[name], others[name]) for name in shared)


def test_a_view_follows_from_seed_epoch_index_and_view_number(seen: Seen) -> None:
    """By hand, one sample at a time."""
    chosen = recipe(REGULARIZERS["gvr"])
    for seed, samples in zip((4, 9), seen.run(chosen, [4, 9]), strict=True):
        training = split(chosen.source, chosen.dataset, seed).training.tolist()
        assert len(samples) == EPOCHS * 2 * (45 // 8) * 8
        for (epoch, sample_index, view), sample in samples.items():
            assert sample_index in training
            key = mix(torch.tensor([stream_key(seed, "data")]), epoch, sample_index, view)
            expected = chosen.dataset.augment(chosen.source.inputs[sample_index][None], key)[0]
            assert torch.equal(sample, expected)


def test_other_members_batch_size_and_regularizer_change_no_view(seen: Seen) -> None:
    gvr = REGULARIZERS["gvr"]
    [alone] = seen.run(recipe(gvr), [5])
    stacked = seen.run(recipe(gvr), [1, 5, 2, 5])
    assert alone.keys() == stacked[1].keys()
    for other in (stacked[1], stacked[3]):
        assert_known(alone, other)
    assert_known(alone, seen.run(recipe(gvr, batch_size=11), [5])[0])
    assert_known(alone, seen.run(recipe(gvr), [5], SGD | {"learning_rate": 0.01})[0])
    [one] = seen.run(recipe(REGULARIZERS["none"]), [5])
    assert {view for _, _, view in one} == {0}, "the baseline sees the first view"
    assert all(torch.equal(sample, alone[name]) for name, sample in one.items())
    [three] = seen.run(recipe(THREE_VIEWS), [5])
    assert {view for _, _, view in three} == {0, 1, 2}
    assert all(torch.equal(sample, three[name]) for name, sample in alone.items())


def test_views_epochs_samples_and_seeds_differ(seen: Seen) -> None:
    chosen = recipe(THREE_VIEWS)
    raw = chosen.source.inputs
    first, second = seen.run(chosen, [0, 1])
    for (epoch, sample_index, view), sample in first.items():
        assert differ(sample, raw[sample_index])
        for other in range(view):
            assert differ(sample, first[epoch, sample_index, other])
        if (epoch + 1, sample_index, view) in first:
            assert differ(sample, first[epoch + 1, sample_index, view])
        if (epoch, sample_index, view) in second:
            assert differ(sample, second[epoch, sample_index, view])
    noise = (
        torch.stack([(sample - raw[sample_index]).flatten()[1:] for (_, sample_index, _), sample in first.items()])
        / 0.3
    )
    assert noise.mean().abs().item() < 5 / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(1, rel=0.1)
    assert noise.unique().numel() == noise.numel()


def test_without_augmentation_all_views_are_the_sample_itself(seen: Seen) -> None:
    chosen = recipe(REGULARIZERS["gvr"], Numbered(validation=0.25))
    [samples] = seen.run(chosen, [3])
    assert {view for _, _, view in samples} == {0, 1}
    assert all(
        torch.equal(sample, chosen.source.inputs[sample_index]) for (_, sample_index, _), sample in samples.items()
    )


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_same_seed_same_run_in_any_population(regularizer: Regularizer) -> None:
    def run(seeds: list[int]) -> list[Any]:
        members = [Member(seed, SGD | middle(regularizer)) for seed in seeds]
        return train(recipe(regularizer), members, test=True)

    torch.manual_seed(1)
    [alone] = run([5])
    torch.manual_seed(2)  # draws from the global generator change nothing
    assert run([5]) == [alone]
    stacked = run([1, 5, 7])
    for name, curve in alone.curves.items():
        assert stacked[1].curves[name] == pytest.approx(curve, rel=1e-8), name
    assert stacked[1].final == pytest.approx(alone.final, rel=1e-8)
    assert stacked[0].curves["train_loss"] != pytest.approx(alone.curves["train_loss"], rel=1e-3)


def test_evaluation_uses_samples_without_augmentation() -> None:
    """At learning rate 0 the network does not change, and every final metric is that of the raw samples."""
    chosen = recipe(REGULARIZERS["none"])
    networks: list[nn.Module] = []

    def network() -> nn.Module:
        networks.append(chosen.model())
        return networks[-1]

    [result] = train(chosen._replace(model=network), [Member(2, SGD | {"learning_rate": 0.0})], test=True)
    source, parts = chosen.source, split(chosen.source, chosen.dataset, 2)
    for part, places in (("train", parts.training), ("validation", parts.validation)):
        loss, accuracy = references.evaluate(networks[-1], source.inputs[places], parts.labels[places])
        assert result.final[f"{part}_loss"] == pytest.approx(loss, rel=1e-9)
        assert result.final[f"{part}_accuracy"] == pytest.approx(accuracy, rel=1e-9)
    loss, _ = references.evaluate(networks[-1], source.test_inputs, source.test_labels)
    assert result.final["test_loss"] == pytest.approx(loss, rel=1e-9)
    assert result.curves["train_loss"][0] != pytest.approx(result.final["train_loss"], rel=1e-3)


def study(data: Dataset, regularizer: Any = "gvr") -> Study:
    rivals = (Configuration("SGD", "sgd"), Configuration("GVR", "sgd", regularizer))
    return Study(data=data, model=MLP((40, 8, 10)), configurations=rivals, baseline="SGD", batch_size=16, epochs=2)


@pytest.mark.parametrize(
    ("data", "regularizer", "words"),
    [
        (Mnist1d(samples=100), "gvr", "'gvr' .* 2 .* Mnist1d"),
        (Mnist1d(samples=100, augmented=True, shift=0, scale=0, jitter=0), "gvr", "'gvr' .* 2 .* Mnist1d"),
        (Numbered(), THREE_VIEWS, "'three' .* 3 .* Numbered"),
    ],
)
def test_views_need_data_that_augment(data: Dataset, regularizer: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        describe(study(data, regularizer))


def test_views_of_augmented_data_are_accepted() -> None:
    assert describe(study(Mnist1d(samples=100, augmented=True)))["configurations"][1]["regularizer"] == "gvr"
    describe(study(Shaken(), THREE_VIEWS))
    describe(study(Mnist1d(samples=100), "sam"))
