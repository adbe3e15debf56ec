"""Members that are stopped: their rows are dropped, their memory is freed, and the others do not notice."""

import functools
import gc
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import networks
import pytest
import torch
from torch import Tensor

import hpo.training.loop
from hpo.data import split
from hpo.optim import adam
from hpo.optim.optimizers import OPTIMIZERS, Optimizer, per_model
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Cosine
from hpo.training.loop import train
from hpo.training.population import TRAINED, Population
from hpo.training.recipe import Member, Result
from hpo.training.samples import Samples
from hpo.training.steps import BEFORE_RECORDING, Steps
from hpo.tree import Tree
from tests.gradients import test_batchnorm
from tests.training.test_population import assert_close, build, members_of, settings, step
from tests.training.test_steps import Recordings
from tests.training.test_training import ADAMW, SGD, SPOILER, Blobs, Kept, middle_of, near, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

MEMBERS = 4


def _heavy(grads: Tree, state: Any, params: Tree, hyper: Tree) -> tuple[Tree, Any]:
    """Momentum, written for one model."""
    state = {name: 0.9 * state[name] + grads[name] for name in params}
    return {name: params[name] - hyper["learning_rate"] * state[name] for name in params}, state


OWN = per_model("own", lambda params: {name: 0 * leaf for name, leaf in params.items()}, _heavy, {"learning_rate": 0.1})
ALL_OPTIMIZERS = {**OPTIMIZERS, "own": OWN}


def population(regularizer: str, optimizer: Optimizer, members: int = MEMBERS) -> Population:
    chosen = REGULARIZERS[regularizer]
    modules = [networks.build("MLP", seed) for seed in range(members)]
    return build(modules, chosen, optimizer, settings(chosen, optimizer, members))


PAIRS = [(name, "adamw") for name in REGULARIZERS] + [("vasso", name) for name in ALL_OPTIMIZERS if name != "adamw"]


@pytest.mark.parametrize("places", [[1, 3], [2]], ids=str)
@pytest.mark.parametrize(("regularizer", "optimizer"), PAIRS)
def test_who_is_kept_goes_on_as_in_the_whole_population(regularizer: str, optimizer: str, places: list[int]) -> None:
    """One that is left alone runs without vmap from then on; early and late, before and after the trace is trusted."""
    whole, fewer = (population(regularizer, ALL_OPTIMIZERS[optimizer]) for _ in range(2))
    for number in range(2):
        step(whole, list(range(MEMBERS)), number)
        step(fewer, list(range(MEMBERS)), number)
    fewer.keep(places)
    for number in range(2, 8):
        expected = members_of(step(whole, list(range(MEMBERS)), number), places)  # type: ignore[arg-type]
        assert_close(step(fewer, places, number), expected)
    assert len(fewer) == len(places)
    assert_close(fewer.params, members_of(whole.params, places))  # type: ignore[arg-type]
    assert_close(fewer.hyperparameters, members_of(whole.hyperparameters, places))  # type: ignore[arg-type]


def test_buffers_are_kept_with_their_members() -> None:
    modules = [[test_batchnorm.build(test_batchnorm.features, seed) for seed in range(MEMBERS)] for _ in range(2)]
    whole, fewer = (test_batchnorm.populate(own, REGULARIZERS["none"], list(range(MEMBERS))) for own in modules)
    for number in range(5):
        step(whole, list(range(MEMBERS)), number)
        step(fewer, list(range(MEMBERS)) if number < 2 else [0, 2], number)
        if number == 1:
            fewer.keep([0, 2])
    assert fewer.buffers
    assert_close(fewer.buffers, {name: leaf[[0, 2]] for name, leaf in whole.buffers.items()})


def test_members_are_dropped_one_after_the_other() -> None:
    whole, fewer = (population("rogc", OPTIMIZERS["adamw"]) for _ in range(2))
    present = [0, 1, 2, 3]
    for number, rows in enumerate([[0, 1, 2, 3], [3, 1, 0], [0, 1], [1]]):
        fewer.keep(rows)
        present = [present[row] for row in rows]
        for inner in range(3):
            step(whole, [0, 1, 2, 3], 3 * number + inner)
            step(fewer, present, 3 * number + inner)
    assert present == [1]
    assert_close(fewer.params, members_of(whole.params, present))  # type: ignore[arg-type]


def held() -> int:
    """Bytes of all tensors that somebody holds."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        if issubclass(type(found), Tensor):
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("regularizer", ["none", "vasso", "gnvr"])
def test_the_memory_of_who_is_dropped_is_free(regularizer: str, optimizer: str) -> None:
    """Parameters, states, views of them and everything that the trace held."""
    before = held()
    small = population(regularizer, OPTIMIZERS[optimizer], members=2)
    for number in range(6):
        step(small, [0, 1], number)
    two = held() - before
    large = population(regularizer, OPTIMIZERS[optimizer], members=16)
    for number in range(6):
        step(large, list(range(16)), number)
    sixteen = held() - before - two
    assert sixteen > 6 * two
    large.keep([3, 5])
    assert held() - before - two <= two
    for number in range(6, 12):
        step(large, [3, 5], number)
    assert held() - before - two <= two
    assert all(leaf.untyped_storage().nbytes() == leaf.nbytes for leaf in large.params.values())


def test_the_samples_of_who_is_dropped_are_free() -> None:
    dataset = Blobs(label_noise=0.3, validation=0.25)
    source = dataset.load()
    seeds = [0, 1, 1, 2]
    splits = {seed: split(source, dataset, seed) for seed in seeds}
    whole, fewer = (Samples(dataset, source, splits, seeds, "cpu", [0, 0, 7, 0]) for _ in range(2))
    fewer.keep([0, 2])
    rows = [name for name, value in vars(whole).items() if isinstance(value, Tensor) and name != "inputs"]
    assert len(rows) >= 12
    for name in rows:
        found = getattr(fewer, name)
        assert torch.equal(found, getattr(whole, name)[[0, 2]]), name
        assert found.untyped_storage().nbytes() <= found.nbytes, name
    assert torch.equal(fewer.epoch_order(3), whole.epoch_order(3)[[0, 2]])
    assert [fewer.reports(row, "noisy_labels_fitted") for row in (0, 1)] == [True, True]


def same(found: Result, expected: Result) -> bool:
    """Close in everything."""
    assert found.curves.keys() == expected.curves.keys()
    assert all(values == near(expected.curves[name]) for name, values in found.curves.items())
    return found.final == near(expected.final) and found[2:] == expected[2:]


def stop(plan: Mapping[int, Sequence[int]], heard: list[Any] | None = None) -> Callable[..., Sequence[int]]:
    """A prune that stops members after epochs."""

    def prune(epoch: int, results: Sequence[Result]) -> Sequence[int]:
        if heard is not None:
            heard.append((epoch, [len(next(iter(result.curves.values()), ())) for result in results]))
        return plan.get(epoch, ())

    return prune


RUNS = [Member(seed, ADAMW | {"learning_rate": 0.003 * (1 + seed)}) for seed in range(5)]


@pytest.mark.parametrize("name", REGULARIZERS)
def test_survivors_end_as_without_pruning(name: str) -> None:
    regularizer = REGULARIZERS[name]
    members = [member._replace(hyperparameters=member.hyperparameters | middle_of(regularizer)) for member in RUNS]
    chosen = recipe(regularizer=regularizer, optimizer=OPTIMIZERS["adamw"], epochs=6, schedule=Cosine())
    whole = train(chosen, members)
    heard: list[Any] = []
    found = train(chosen, members, prune=stop({2: [0, 3], 4: [1, 4]}, heard))
    assert heard == [(1, [1] * 5), (2, [2] * 5), (3, [2, 3, 3, 2, 3]), (4, [2, 4, 4, 2, 4]), (5, [2, 4, 5, 2, 4])]
    for result, expected, epochs in zip(found, whole, (2, 4, 6, 2, 4), strict=True):
        assert result.stopped_epoch == (epochs if epochs < 6 else None)
        assert result.final["epochs"] == epochs and expected.final["epochs"] == 6
        for metric, values in expected.curves.items():
            assert result.curves[metric] == near(values[:epochs]), metric
    assert found[2].final == near(whole[2].final)
    stopped = found[1].final
    assert stopped["validation_accuracy"] == near(whole[1].curves["validation_accuracy"][3])
    assert stopped.keys() == whole[1].final.keys() - {"train_loss", "train_accuracy"}


def test_steps_are_recorded_anew_for_those_who_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a CUDA graph is: the old one would go on with rows that are gone."""
    chosen = recipe(regularizer=REGULARIZERS["vasso"], optimizer=OPTIMIZERS["adamw"], epochs=6)
    members = [
        member._replace(hyperparameters=member.hyperparameters | middle_of(chosen.regularizer)) for member in RUNS
    ]
    whole = train(chosen, members)
    recordings = Recordings()
    monkeypatch.setattr(hpo.training.loop, "Steps", functools.partial(Steps, record=recordings))
    monkeypatch.setattr(adam, "_by_member", adam.elementwise)
    found = train(chosen, members, prune=stop({2: [0, 3], 4: [1, 4]}))
    compared = {16, 30}  # a power of 4, and the last step; step 4 comes before any recording
    assert recordings.made == 3 and recordings.replays == 6 * 5 - 3 * BEFORE_RECORDING - len(compared)
    assert same(found[2], whole[2])
    for metric, values in whole[1].curves.items():
        assert found[1].curves[metric] == near(values[:4]), metric


def test_a_run_of_which_all_are_stopped_is_over() -> None:
    epochs: list[int] = []
    found = train(
        recipe(optimizer=OPTIMIZERS["adamw"]),
        RUNS[:2],
        progress=lambda epoch, _: epochs.append(epoch),
        prune=stop({1: [0], 2: [1]}),
    )
    assert epochs == [1, 2] and [result.stopped_epoch for result in found] == [1, 2]
    assert [result.final["epochs"] for result in found] == [1, 2]


def test_nobody_is_judged_after_the_last_epoch_and_naming_somebody_twice_is_no_harm() -> None:
    heard: list[Any] = []
    found = train(recipe(optimizer=OPTIMIZERS["adamw"]), RUNS[:2], prune=stop({1: [0, 0], 2: [0], 3: [1]}, heard))
    assert [epoch for epoch, _ in heard] == [1, 2]
    assert [result.stopped_epoch for result in found] == [1, None]


def test_who_diverges_may_be_stopped_and_leaves_the_others_alone() -> None:
    chosen = recipe(regularizer=SPOILER, epochs=6)
    members = [Member(0, SGD | {"healthy_steps": steps}) for steps in (99, 7, 99, 2)]
    whole = train(chosen, members)
    found = train(chosen, members, prune=stop({3: [1], 4: [2]}))
    assert [(result.diverged_epoch, result.stopped_epoch) for result in found] == [
        (None, None),
        (2, 3),
        (None, 4),
        (1, None),
    ]
    assert same(found[0], whole[0])
    assert "validation_loss" not in found[1].final and found[1].final["epochs"] == 3
    over = train(chosen, members, prune=stop({2: [0, 2]}))
    assert [result.stopped_epoch for result in over] == [2, None, 2, None]  # only diverged ones are left: it ends


@pytest.mark.parametrize("kept_at", [1, 3, 5])
def test_a_checkpoint_remembers_who_was_stopped(kept_at: int) -> None:
    """Before anybody is stopped, between two rungs, and after the last: the same as if never broken off."""
    chosen = recipe(optimizer=OPTIMIZERS["adamw"], epochs=7)
    prune = stop({2: [0, 3], 4: [1, 4]})
    whole = train(chosen, RUNS, prune=prune)
    checkpointer = Kept(kept_at)
    with pytest.raises(InterruptedError):
        train(chosen, RUNS, checkpointer=checkpointer, prune=prune)
    epochs: list[int] = []
    found = train(chosen, RUNS, checkpointer=checkpointer, prune=prune, progress=lambda epoch, _: epochs.append(epoch))
    assert epochs == list(range(kept_at + 1, 8))
    for result, expected in zip(found, whole, strict=True):
        assert same(result, expected)
    states = torch.load(io.BytesIO(checkpointer.saved), weights_only=True)
    assert ["model" in state for state in states] == {
        1: [True] * 5,
        3: [False, True, True, False, True],
        5: [False, False, True, False, False],
    }[kept_at]
    checkpointer.wanted = slice(0, 1)  # taken over alone
    [alone] = train(chosen, RUNS[:1], checkpointer=checkpointer, prune=prune)
    assert same(alone, whole[0]) and alone.stopped_epoch == 2


def test_nothing_is_forgotten_that_training_changes() -> None:
    """What `keep` drops rows of is what `states` saves."""
    kept = population("vasso", OPTIMIZERS["adamw"])
    step(kept, list(range(MEMBERS)), 0)
    kept.keep([1])
    for name in TRAINED:
        for leaf in torch.utils._pytree.tree_leaves(getattr(kept, name)):
            assert len(leaf) == 1, name
