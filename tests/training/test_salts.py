"""A salt gives a seed another training stream: other initial weights and Dropout masks, the same data."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hpo import MLP, Mnist1d, from_torch
from hpo.data import split
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import stream, training_names
from hpo.space import split_space
from hpo.training.initial_models import build_population
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe
from hpo.training.samples import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Mnist1d(samples=200, label_noise=0.2)
FIXED = split_space({**OPTIMIZERS["adamw"].hyperparameters, "learning_rate": 3e-3, "weight_decay": 1e-3}).fixed


def recipe(dropout: float = 0.3) -> Recipe:
    model = MLP((40, 16, 10), dropout=dropout)
    return Recipe(DATA, DATA.load(), model, REGULARIZERS["none"], OPTIMIZERS["adamw"], epochs=2, batch_size=32)


def test_salt_0_is_the_unsalted_stream() -> None:
    assert training_names() == training_names(0) == ("training",)
    first = stream(3, *training_names(0), "initial weights").initial_seed()
    assert first == stream(3, "training", "initial weights").initial_seed()
    samples = Samples(DATA, recipe().source, {5: split(recipe().source, DATA, 5)}, [5], "cpu")
    assert samples.training_keys.item() == stream(5, "training").initial_seed() & 0xFFFFFFFF
    drawn = {stream(seed, *training_names(salt)).initial_seed() for seed in range(5) for salt in range(5)}
    assert len(drawn) == 25


def test_a_salt_changes_the_weights_and_the_masks_and_nothing_else() -> None:
    chosen = recipe()
    members = [Member(5, FIXED), Member(5, FIXED, salt=1), Member(5, FIXED, salt=1), Member(6, FIXED)]
    seeds, salts = [member.seed for member in members], [member.salt for member in members]
    splits = {seed: split(chosen.source, DATA, seed) for seed in seeds}
    samples = Samples(DATA, chosen.source, splits, seeds, "cpu", salts)
    population = build_population(chosen, members, samples.inputs)
    weights = population.params["linear1.weight"]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[3])
    keys = samples.training_keys.tolist()
    assert keys[1] == keys[2] and len(set(keys)) == 3
    assert samples.data_keys[:3].unique().numel() == 1
    for shared in (samples.labels, samples.training.indices, samples.validation.indices, samples.epoch_order(1)):
        assert torch.equal(shared[0], shared[1]) and not torch.equal(shared[0], shared[3])


def test_members_of_one_seed_and_several_salts_train_side_by_side() -> None:
    chosen = recipe()
    plain, salted, repeated = train(chosen, [Member(5, FIXED), Member(5, FIXED, 1), Member(5, FIXED, 1)])
    assert salted.curves == repeated.curves
    assert plain.curves["train_loss"] != salted.curves["train_loss"]
    assert plain.final["changed_labels"] == salted.final["changed_labels"]


class Masked(torch.optim.SGD):
    """Trains some of the parameters only, which it draws when it is built."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.masks = [torch.rand_like(parameter) < 0.5 for parameter in self.param_groups[0]["params"]]

    def step(self, _: Any = None) -> None:
        for parameter, mask in zip(self.param_groups[0]["params"], self.masks, strict=True):
            parameter.grad *= mask
        super().step()


def test_what_an_optimizer_draws_when_it_is_built_follows_from_the_training_stream() -> None:
    chosen = recipe()._replace(model=MLP((40, 10)), optimizer=from_torch(Masked, learning_rate=0.1))
    members = [Member(seed, {"learning_rate": 0.1}, salt) for seed, salt in ((5, 0), (5, 1), (6, 0))]
    samples = Samples(
        DATA, chosen.source, {seed: split(chosen.source, DATA, seed) for seed in (5, 6)}, [5, 5, 6], "cpu"
    )

    def masks(members: list[Member]) -> list[Tensor]:
        updates = build_population(chosen, members, samples.inputs).updates
        return [model.optimizers[0].masks[0] for model in updates._models]

    global_state = torch.get_rng_state()
    first, salted, other = masks(members)
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.rand(1)
    assert torch.equal(masks(members[1:2])[0], salted) and torch.equal(masks(members[2:])[0], other)
    assert not torch.equal(first, salted) and not torch.equal(first, other)


def test_inputs_of_members_of_one_seed_are_made_once_and_equal_those_of_each_member_alone() -> None:
    augmented: list[int] = []

    class Counted(Mnist1d):
        def augment(self, inputs: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
            augmented.append(len(inputs))
            return super().augment(inputs, keys)

    data, seeds = Counted(samples=200, augmented=True), [5, 6, 5, 7, 5]
    source = data.load()
    splits = {seed: split(source, data, seed) for seed in seeds}
    samples = Samples(data, source, splits, seeds, "cpu")

    def inputs_of(made: Samples) -> tuple[torch.Tensor, torch.Tensor]:
        views = made.views(made.epoch_order(2)[:, :12], 2, 2, clean=True)
        return views, torch.cat(list(made.read(made.validation.indices, 9)), 1)

    def check(rows: list[int], distinct: int) -> None:
        augmented.clear()
        views, validation = inputs_of(samples)
        assert augmented == [distinct * 2 * 12]
        for place, row in enumerate(rows):
            alone = inputs_of(Samples(data, source, splits, [seeds[row]], "cpu"))
            assert torch.equal(views[place], alone[0][0]) and torch.equal(validation[place], alone[1][0])

    check([0, 1, 2, 3, 4], 3)
    samples.keep([2, 3, 4])
    check([2, 3, 4], 2)
    samples.keep([0, 2])
    check([2, 4], 1)
