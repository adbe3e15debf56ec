"""Dropout: masks that follow from the seed, under every regularizer, for one model and in a population."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import references
import torch
from networks import CLASSES, FEATURES, minibatch
from populations import batches, middle, moment, populate
from torch import Tensor, nn

from hpo.data import Dataset, Source
from hpo.errors import UsageError
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.gradients.rule_check import rules_hold
from hpo.models import MLP
from hpo.models.dropout import Dropout
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import mix, uniform
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 3
SGD = {"learning_rate": 0.3, "weight_decay": 1e-3, "momentum": 0.9}


class Reused(nn.Module):
    """One Dropout layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.dropout(self.first(inputs).tanh())
        return self.third(self.dropout(self.second(hidden).tanh()))


def twice_in_a_row() -> nn.Module:
    shared = nn.Dropout(0.5)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), shared, nn.Linear(5, 5), nn.Tanh(), shared, nn.Linear(5, 3))


def convolutional() -> nn.Module:
    layers = [nn.Conv1d(2, 4, 2), nn.Tanh(), nn.Dropout(0.3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 3)]
    return nn.Sequential(nn.Unflatten(1, (2, 3)), *layers)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP": MLP((FEATURES, 7, 5, CLASSES), dropout=0.4),
    "nn.Dropout over channels": convolutional,
    "reused": Reused,
    "the same in a row": twice_in_a_row,
}


def build(name: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name]().double()


def step(population: Population, members: list[int], number: int) -> Tree:
    inputs, labels = batches([100 * member + number for member in members], views=population.regularizer.views)
    return population.step(inputs, labels, moment=moment(mix(torch.tensor(members), number)))


class FixedMasks(nn.Module):
    """Multiplies one sample at a time by its mask of masks [N, ...]."""

    def __init__(self, masks: Tensor) -> None:
        super().__init__()
        self.masks, self.position = masks, 0

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.masks[self.position]


class MaskedBatch(references.Batch):
    """Sets the sample's position in every FixedMasks layer."""

    def sample_losses(self, view: int = 0) -> list[Tensor]:
        losses = []
        for position, sample, label in zip(self.places, self.inputs[view], self.labels, strict=True):
            for layer in self.module.modules():
                if isinstance(layer, FixedMasks):
                    layer.position = position
            losses.append(self.loss(self.module(sample[None]), label[None])[0])
        return losses


def masks_by_hand(key: int, layer: int, samples: int, features: int, p: float) -> Tensor:
    """[N, F], one number at a time: kept where uniform((key, layer, call 0, position), feature) ≥ p."""
    masks = torch.empty(samples, features, dtype=torch.float64)
    for position in range(samples):
        for feature in range(features):
            number = uniform(mix(torch.tensor(key), layer, 0, position), feature).item()
            masks[position, feature] = 1 / (1 - p) if number >= p else 0
    return masks


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_every_pass_of_a_step_has_the_same_masks(regularizer: Regularizer) -> None:
    """One step of plain SGD at rate 1 moves by the slow version's gradient under masks drawn by hand."""
    samples = 40 if regularizer.views == 2 else 8  # so that GVR's 32 are not all
    hyper = middle(regularizer)
    plain = {"learning_rate": 1.0, "weight_decay": 0.0, "momentum": 0.0}
    population = populate([build("MLP", 1)], regularizer, [plain | hyper])
    before = {name: leaf[0].clone() for name, leaf in population.params.items()}
    inputs, labels = minibatch(7, samples=samples, views=regularizer.views)
    scalars = population.step(inputs[None], labels[None], moment=moment(torch.tensor([12345])))
    module = build("MLP", 1)
    for number in (1, 2):
        features = getattr(module, f"linear{number}").out_features
        setattr(module, f"dropout{number}", FixedMasks(masks_by_hand(12345, number - 1, samples, features, 0.4)))
    batch = MaskedBatch(module, inputs, labels)
    gradient, expected = references.REGULARIZERS[regularizer.name](batch, hyper, {})
    for name, leaf in gradient.items():
        torch.testing.assert_close(before[name] - population.params[name][0], leaf, rtol=1e-9, atol=1e-11)
    for name, value in expected.items():
        assert scalars[f"aux/{name}"].item() == pytest.approx(value, rel=1e-9)
    loss = references.mean(batch.sample_losses()).item()
    assert scalars["train_loss"].item() == pytest.approx(loss, rel=1e-12)


def masks(layer: int, key: int, positions: list[int], features: int = 1000, p: float = 0.3, call: int = 0) -> Tensor:
    """The output of a Dropout layer for ones [N, F]."""
    dropout = Dropout(p)
    dropout.number, dropout.calls = layer, call
    dropout.draws = (torch.tensor(key), torch.tensor(positions))
    return dropout(torch.ones(len(positions), features, dtype=torch.float64))


def test_masks_follow_only_from_key_layer_call_and_position() -> None:
    many = masks(2, 77, [0, 1, 2, 3])
    for position in range(4):
        assert torch.equal(masks(2, 77, [position])[0], many[position])
    assert torch.equal(masks(2, 77, [3, 1])[0], many[3])
    torch.manual_seed(0)
    first = masks(2, 77, [0, 1, 2, 3])
    torch.manual_seed(1)
    assert torch.equal(masks(2, 77, [0, 1, 2, 3]), first)
    shaped = Dropout(0.3)
    shaped.number, shaped.draws = 2, (torch.tensor(77), torch.tensor([0, 1]))
    assert torch.equal(shaped(torch.ones(2, 10, 20, 5).double()).flatten(1), many[:2])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_masks_keep_the_right_share_and_are_independent(p: float) -> None:
    """Of 64,000 numbers, within 5 standard deviations; the masks of neighbours are uncorrelated."""
    here = {
        "itself": masks(0, 5, list(range(64)), p=p),
        "next step": masks(0, 6, list(range(64)), p=p),
        "next layer": masks(1, 5, list(range(64)), p=p),
        "next call": masks(0, 5, list(range(64)), p=p, call=1),
        "next sample": masks(0, 5, list(range(1, 65)), p=p),
    }
    for kept in here.values():
        assert set(kept.unique().tolist()) == {0.0, 1 / (1 - p)}
        assert kept.gt(0).double().mean().item() == pytest.approx(1 - p, abs=5 * (p * (1 - p) / 64000) ** 0.5)
        assert kept.gt(0).double().mean(0).std().item() == pytest.approx((p * (1 - p) / 64) ** 0.5, rel=0.15)
    for name, other in list(here.items())[1:]:
        together = torch.corrcoef(torch.stack([here["itself"].flatten(), other.flatten()]))[0, 1]
        assert abs(together.item()) < 5 / 64000**0.5, name
    neighbours = torch.corrcoef(torch.stack([here["itself"][:, 1:].flatten(), here["itself"][:, :-1].flatten()]))
    assert abs(neighbours[0, 1].item()) < 5 / 64000**0.5


@pytest.mark.parametrize("name", ["reused", "the same in a row"])
def test_a_layer_used_twice_drops_twice(name: str) -> None:
    module = build(name, 0)
    seen: list[Tensor] = []
    network = Network(module, minibatch(0)[0][0])
    params = {key: value.detach() for key, value in module.named_parameters()}
    draws = (torch.tensor(3), torch.arange(8))
    network.run(params, minibatch(0)[0][0], {}, draws)  # finds the sample axes
    for layer in {layer for layer in module.modules() if isinstance(layer, Dropout)}:
        layer.register_forward_hook(lambda _, args, output: seen.append(output / args[0]))
    for _ in range(2):
        network.run(params, minibatch(0)[0][0], {}, draws)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3]), "every pass of a step is the same"
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("members", [1, 2])
def test_evaluation_drops_nothing(name: str, members: int) -> None:
    population = populate([build(name, seed) for seed in range(members)], REGULARIZERS["none"], [SGD] * members)
    step(population, list(range(members)), 0)
    samples, labels = minibatch(9, samples=12)[0][0], minibatch(9, samples=12)[1]
    places = torch.arange(12).expand(members, -1)
    [found] = population.evaluate(samples, places, torch.ones(members, 12), labels[places])
    loss, accuracy = found["loss"], found["accuracy"]
    for member in range(members):
        module = build(name, member).eval()
        module.load_state_dict({key: leaf[member] for key, leaf in population.params.items()})
        expected = references.evaluate(module, samples, labels)
        assert (loss[member].item(), accuracy[member].item()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["MLP", "nn.Dropout over channels"])
def test_layer_rules_use_the_same_masks_as_per_sample_gradients(name: str) -> None:
    module = build(name, 4)
    network = Network(module, minibatch(0)[0][0])
    inputs, labels = minibatch(5)
    params = {key: value.detach() for key, value in module.named_parameters()}
    assert rules_hold(network), network.obstacle

    def compute(method: Callable[[Objective], Any], key: int = 31) -> Any:
        return method(Objective(network, references.cross_entropy, inputs, labels, {}, moment(torch.tensor(key))))

    samples = compute(lambda objective: objective.sample_grads(params))
    norms = torch.stack([leaf.flatten(1).square().sum(1) for leaf in samples.values()]).sum(0).sqrt()
    weights = torch.linspace(0.5, 1.5, len(labels), dtype=torch.float64)
    means = {key: leaf.mean(0) for key, leaf in samples.items()}
    weighted = {key: torch.einsum("n,n...->...", weights, leaf) / len(weights) for key, leaf in samples.items()}
    signs = {key: leaf.sign().mean(0) for key, leaf in samples.items()}
    exact = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(compute(lambda objective: objective.sample_grad_norms(params)), norms, **exact)
    torch.testing.assert_close(compute(lambda objective: objective.weighted_grad(params, weights)), weighted, **exact)
    torch.testing.assert_close(compute(lambda objective: objective.sign_mean(params)), signs, **exact)
    for found in (
        compute(lambda objective: objective.grad(params)),
        compute(lambda objective: objective.mean_grad(params)),
    ):
        torch.testing.assert_close(found, means, **exact)
    assert (compute(lambda objective: objective.sample_grad_norms(params), 32) - norms).abs().max() > 1e-3


@dataclass(frozen=True)
class Clouds(Dataset):
    """Three overlapping clouds."""

    def load(self) -> Source:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(75) % CLASSES
        inputs = torch.randn(75, FEATURES, generator=generator, dtype=torch.float64)
        inputs[:, 0] += 2 * labels
        return Source(inputs[:60], labels[:60], inputs[60:], labels[60:], CLASSES)


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_a_seed_fixes_the_run_in_any_population(regularizer: Regularizer) -> None:
    def run(seeds: list[int], dropout: float = 0.4) -> list[Any]:
        def network() -> nn.Module:
            return MLP((FEATURES, 7, CLASSES), dropout=dropout)().double()

        dataset = Clouds(validation=0.25)
        recipe = Recipe(dataset, dataset.load(), network, regularizer, OPTIMIZERS["sgd"], epochs=3, batch_size=8)
        torch.manual_seed(len(seeds))
        before = torch.get_rng_state()
        results = train(recipe, [Member(seed, SGD | middle(regularizer)) for seed in seeds], test=True)
        assert torch.equal(before, torch.get_rng_state())
        return results

    [alone] = run([5])
    assert run([5]) == [alone]
    stacked = run([1, 5, 7])
    for name, curve in alone.curves.items():
        assert stacked[1].curves[name] == pytest.approx(curve, rel=1e-9), name
    assert stacked[1].final == pytest.approx(alone.final, rel=1e-9)
    assert stacked[0].curves["train_loss"] != pytest.approx(alone.curves["train_loss"], rel=1e-3)
    [without] = run([5], dropout=0.0)
    assert without.curves["train_loss"] != pytest.approx(alone.curves["train_loss"], rel=1e-3)


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_an_invalid_probability_is_refused(p: float) -> None:
    with pytest.raises(UsageError, match=f"Dropout: p is {p};"):
        Dropout(p)


def test_another_kind_of_dropout_is_refused() -> None:
    module = nn.Sequential(nn.Linear(6, 6), nn.AlphaDropout(0.5))
    with pytest.raises(UsageError, match=r"layer '1' \(AlphaDropout\)"):
        Network(module, minibatch(0)[0][0])
