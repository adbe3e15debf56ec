"""Batches of several sizes in a run: the same numbers as a plain loop, alone, together and when resumed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hpo import Configuration, Mnist1d, Stages, Study
from hpo.data import split
from hpo.errors import UsageError
from hpo.models import MLP
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Cosine
from hpo.random import stream
from hpo.report.wording import describe
from hpo.stages import batch_size_at
from hpo.study.definition import describe as definition_of
from hpo.training.initial_models import build
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe
from tests.training.test_training import CLASSES, FEATURES, SGD, Blobs

pytestmark = pytest.mark.usefixtures("one_thread")

STAGES = Stages({0: 4, 1: 8, 3: 16})
EPOCHS = 4
SIZES = [4, 8, 8, 16]


def network() -> nn.Module:
    return MLP((FEATURES, 6, CLASSES))().double()


def recipe(batch_size: int | Stages = STAGES, last_batch: str = "drop") -> Recipe:
    data = Blobs(validation=0.25)
    parts = network, REGULARIZERS["none"], OPTIMIZERS["sgd"], EPOCHS, batch_size, Cosine()
    return Recipe(data, data.load(), *parts, last_batch=last_batch)


def test_the_batch_size_of_each_epoch() -> None:
    assert [batch_size_at(STAGES, epoch) for epoch in range(1, EPOCHS + 1)] == SIZES


def plain_run(chosen: Recipe, seed: int, sizes: list[int] = SIZES) -> tuple[nn.Module, list[float]]:
    """SGD by PyTorch; the learning rate follows the share of the run in epochs. Also each epoch's loss by samples."""
    curve = []
    module = build(chosen.model, seed)
    optimizer = torch.optim.SGD(module.parameters(), lr=0, momentum=SGD["momentum"], weight_decay=SGD["weight_decay"])
    parts = split(chosen.source, chosen.dataset, seed)
    for epoch, size in enumerate(sizes, start=1):
        order = parts.training[torch.randperm(len(parts.training), generator=stream(seed, "data", "order", epoch))]
        batches = list(order.split(size))
        if chosen.last_batch == "drop" and len(batches[-1]) < size:
            batches.pop()
        count, losses = len(batches), []
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = SGD["learning_rate"] * Cosine()((epoch - 1) * count + step, EPOCHS * count, count)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(chosen.source.inputs[batch]), parts.labels[batch])
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(batch)
        curve.append(sum(losses) / len(losses))
    return module, curve


@pytest.mark.parametrize("seeds", [[5], [5, 6]])
@pytest.mark.parametrize("last_batch", ["drop", "keep"])
@pytest.mark.parametrize(("batch_size", "sizes"), [(STAGES, SIZES), (7, [7] * EPOCHS), (20, [20] * EPOCHS)], ids=str)
def test_a_run_equals_a_plain_loop(batch_size: Any, sizes: list[int], last_batch: str, seeds: list[int]) -> None:
    """Of 45 training samples, 1, 3, 5 or 13 are left after the last whole batch."""
    chosen = recipe(batch_size, last_batch)
    for seed, result in zip(seeds, train(chosen, [Member(seed, SGD) for seed in seeds]), strict=True):
        module, curve = plain_run(chosen, seed, sizes)
        assert result.curves["train_loss"] == pytest.approx(curve, rel=1e-9)
        training = split(chosen.source, chosen.dataset, seed).training
        with torch.no_grad():
            loss = nn.functional.cross_entropy(module(chosen.source.inputs[training]), chosen.source.labels[training])
        assert result.final["train_loss"] == pytest.approx(loss.item(), rel=1e-9)


def test_one_stage_is_a_constant_batch_size() -> None:
    members = [Member(3, SGD)]
    assert train(recipe(Stages({0: 8})), members) == train(recipe(8), members)


@pytest.mark.parametrize("saved_after", [1, 2, 3])
def test_a_run_resumes_in_any_stage(saved_after: int) -> None:
    class Checkpointer:
        saved: Any = None
        epoch = 0

        def load(self) -> Any:
            return self.saved

        def save(self, states: Callable[[], Any]) -> None:
            self.epoch += 1
            if self.epoch == saved_after:
                self.saved = copy.deepcopy(states())

    members, checkpointer = [Member(1, SGD), Member(2, SGD)], Checkpointer()
    whole = train(recipe(), members, checkpointer=checkpointer)
    assert checkpointer.saved[0]["epoch"] == saved_after
    assert train(recipe(), members, checkpointer=checkpointer) == whole


def test_a_member_stops_before_another_stage() -> None:
    members = [Member(1, SGD), Member(2, SGD)]
    stopped = train(recipe(), members, prune=lambda epoch, _: {0} if epoch == 1 else set())
    alone = train(recipe(), members[1:])[0]
    assert stopped[0].stopped_epoch == 1
    assert stopped[1].final == pytest.approx(alone.final, rel=1e-9)


@pytest.mark.parametrize("stages", [{}, {1: 8}, {0: 8, 5: 0}, {0: 8.5}, {5: 8, 0: 4}, [(0, 8), (0, 16)]])
def test_impossible_stages_are_refused(stages: Any) -> None:
    with pytest.raises(UsageError, match="stages"):
        Stages(stages)


def test_incomplete_batches_have_no_micro_batches() -> None:
    assert definition_of(study(8, last_batch="keep"))["last_batch"] == "keep"
    for options in ({"last_batch": "keep", "accumulate": 2}, {"last_batch": "pad"}):
        with pytest.raises(UsageError, match="last_batch"):
            study(8, **options)


def study(batch_size: Any, **options: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B", regularizer="sam"))
    data, model = Mnist1d(samples=100), MLP((40, 8, 10))
    return Study(data, model, configurations, baseline="A", batch_size=batch_size, **options)


def test_the_definition_and_the_report_name_all_stages() -> None:
    definition = definition_of(study(Stages({0: 4, 10: 8})))
    assert definition["batch_size"] == {"kind": "Stages", "stages": [[0, 4], [10, 8]]}
    words = describe(definition["batch_size"])
    assert [number in words for number in ("4", "8", "epoch 11")] == [True] * 3


def test_stages_that_do_not_fit_the_study_are_refused() -> None:
    with pytest.raises(UsageError, match="epoch 10"):
        study(Stages({0: 4, 10: 8}), epochs=10)
    with pytest.raises(UsageError, match="accumulate=4"):
        study(Stages({0: 4, 10: 6}), accumulate=4)


def test_a_stage_larger_than_the_training_part_is_refused() -> None:
    with pytest.raises(UsageError, match="5000"):
        train(recipe(Stages({0: 4, 2: 5000})), [Member(1, SGD)])
