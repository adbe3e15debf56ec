"""Stopped members: their rows are dropped, their memory is freed, and the other members' numbers stay the same."""

import functools
import gc
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import networks
import pytest
import torch
from populations import middle, populate
from torch import Tensor
from torch.utils._pytree import tree_leaves

import hpo.training.loop
from hpo.data import split
from hpo.optim import adam
from hpo.optim.optimizers import OPTIMIZERS, Optimizer, per_model
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Cosine
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Result
from hpo.training.samples import Samples
from hpo.training.steps import BEFORE_RECORDING, Steps
from hpo.training.trained_state import TRAINED
from hpo.tree import Tree
from tests.gradients import test_batchnorm
from tests.training.test_population import assert_close, build, members_of, settings, step
from tests.training.test_steps import Recordings
from tests.training.test_training import ADAMW, SGD, SPOILER, Blobs, Saved, near, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

MEMBERS = 4
ALL = list(range(MEMBERS))


def _momentum(grads: Tree, state: Any, params: Tree, hyper: Tree) -> tuple[Tree, Any]:
    """Momentum, written for one model."""
    state = {name: 0.9 * state[name] + grads[name] for name in params}
    return {name: params[name] - hyper["learning_rate"] * state[name] for name in params}, state


CUSTOM = per_model(
    "custom", lambda params: {name: 0 * leaf for name, leaf in params.items()}, _momentum, {"learning_rate": 0.1}
)
ALL_OPTIMIZERS = {**OPTIMIZERS, "custom": CUSTOM}


def population(regularizer: str, optimizer: Optimizer, members: int = MEMBERS) -> Population:
    chosen = REGULARIZERS[regularizer]
    modules = [networks.build("MLP", seed) for seed in range(members)]
    return build(modules, chosen, optimizer, settings(chosen, optimizer, members))


PAIRS = [(name, "adamw") for name in REGULARIZERS] + [("vasso", name) for name in ALL_OPTIMIZERS if name != "adamw"]


@pytest.mark.parametrize("rows", [[1, 3], [2]], ids=str)
@pytest.mark.parametrize(("regularizer", "optimizer"), PAIRS)
def test_kept_members_train_as_in_the_whole_population(regularizer: str, optimizer: str, rows: list[int]) -> None:
    """Two members, and one that from then on runs without vmap; before and after the trace is trusted."""
    full, fewer = (population(regularizer, ALL_OPTIMIZERS[optimizer]) for _ in range(2))
    for number in range(2):
        step(full, ALL, number)
        step(fewer, ALL, number)
    fewer.keep(rows)
    for number in range(2, 8):
        expected = members_of(step(full, ALL, number), rows)  # type: ignore[arg-type]
        assert_close(step(fewer, rows, number), expected)
    assert len(fewer) == len(rows)
    assert_close(fewer.params, members_of(full.params, rows))  # type: ignore[arg-type]
    assert_close(fewer.hyperparameters, members_of(full.hyperparameters, rows))  # type: ignore[arg-type]


def test_buffers_are_kept_with_their_members() -> None:
    modules = [[test_batchnorm.build(test_batchnorm.features, seed) for seed in ALL] for _ in range(2)]
    full, fewer = (populate(networks, REGULARIZERS["none"], [SGD] * MEMBERS) for networks in modules)
    for number in range(5):
        step(full, ALL, number)
        step(fewer, ALL if number < 2 else [0, 2], number)
        if number == 1:
            fewer.keep([0, 2])
    assert fewer.buffers
    assert_close(fewer.buffers, {name: leaf[[0, 2]] for name, leaf in full.buffers.items()})


def tensor_bytes() -> int:
    """Bytes of all tensors that are referenced."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if issubclass(type(found), Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize(("regularizer", "optimizer"), [("none", "sgd"), ("vasso", "adamw"), ("gnvr", "adamw")])
def test_the_memory_of_dropped_members_is_free(regularizer: str, optimizer: str) -> None:
    """Parameters, states, views of them and everything in the trace."""
    before = tensor_bytes()
    small = population(regularizer, OPTIMIZERS[optimizer], members=2)
    for number in range(6):
        step(small, [0, 1], number)
    of_two = tensor_bytes() - before
    large = population(regularizer, OPTIMIZERS[optimizer], members=16)
    for number in range(6):
        step(large, list(range(16)), number)
    assert tensor_bytes() - before - of_two > 6 * of_two
    large.keep([3, 5])
    assert tensor_bytes() - before <= 2 * of_two
    for number in range(6, 12):
        step(large, [3, 5], number)
    assert tensor_bytes() - before <= 2 * of_two
    assert all(leaf.untyped_storage().nbytes() == leaf.nbytes for leaf in large.params.values())


def test_the_samples_of_dropped_members_are_free() -> None:
    dataset = Blobs(label_noise=0.3, validation=0.25)
    source = dataset.load()
    seeds = [0, 1, 1, 2]
    splits = {seed: split(source, dataset, seed) for seed in seeds}
    full, fewer = (Samples(dataset, source, splits, seeds, "cpu", [0, 0, 7, 0]) for _ in range(2))
    fewer.keep([0, 2])

    def tensors(samples: Samples) -> list[Tensor]:
        values = [
            value
            for name, value in vars(samples).items()
            if name not in ("inputs", "source", "splits", "_first_members", "_seed_numbers")
        ]
        return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]

    assert len(tensors(full)) == len(tensors(fewer)) >= 12
    for rows, expected in zip(tensors(fewer), tensors(full), strict=True):
        assert torch.equal(rows, expected[[0, 2]])
        assert rows.untyped_storage().nbytes() <= rows.nbytes
    assert torch.equal(fewer.epoch_order(3), full.epoch_order(3)[[0, 2]])
    assert [fewer.reports(row, "noisy_labels_fitted") for row in (0, 1)] == [True, True]


def test_everything_that_training_changes_is_dropped_and_saved() -> None:
    kept = population("vasso", OPTIMIZERS["adamw"])
    step(kept, ALL, 0)
    kept.keep([1])
    for name in TRAINED:
        assert all(len(leaf) == 1 for leaf in tree_leaves(getattr(kept, name))), name


def assert_same(result: Result, expected: Result) -> None:
    assert result.curves.keys() == expected.curves.keys()
    for name, values in expected.curves.items():
        assert result.curves[name] == near(values), name
    assert result.final == near(expected.final) and result[2:] == expected[2:]


def stop(plan: Mapping[int, Sequence[int]], calls: list[Any] | None = None) -> Callable[..., Sequence[int]]:
    """A `prune` that stops members after epochs, and lists its calls with the lengths of the curves."""

    def prune(epoch: int, results: Sequence[Result]) -> Sequence[int]:
        if calls is not None:
            calls.append((epoch, [len(next(iter(result.curves.values()), ())) for result in results]))
        return plan.get(epoch, ())

    return prune


RUNS = [Member(seed, ADAMW | {"learning_rate": 0.003 * (1 + seed)}) for seed in range(5)]


@pytest.mark.parametrize("name", REGULARIZERS)
def test_survivors_end_as_without_pruning(name: str) -> None:
    regularizer = REGULARIZERS[name]
    members = [member._replace(hyperparameters=member.hyperparameters | middle(regularizer)) for member in RUNS]
    chosen = recipe(regularizer=regularizer, optimizer=OPTIMIZERS["adamw"], epochs=6, schedule=Cosine())
    full = train(chosen, members)
    calls: list[Any] = []
    results = train(chosen, members, prune=stop({2: [0, 3], 4: [1, 4]}, calls))
    assert calls == [(1, [1] * 5), (2, [2] * 5), (3, [2, 3, 3, 2, 3]), (4, [2, 4, 4, 2, 4]), (5, [2, 4, 5, 2, 4])]
    for result, expected, epochs in zip(results, full, (2, 4, 6, 2, 4), strict=True):
        assert result.stopped_epoch == (epochs if epochs < 6 else None)
        assert result.final["epochs"] == epochs and expected.final["epochs"] == 6
        for metric, values in expected.curves.items():
            assert result.curves[metric] == near(values[:epochs]), metric
    assert results[2].final == near(full[2].final)
    stopped = results[1].final
    assert stopped["validation_accuracy"] == near(full[1].curves["validation_accuracy"][3])
    assert stopped.keys() == full[1].final.keys() - {"train_loss", "train_accuracy"}


def test_steps_are_recorded_again_for_the_remaining_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a CUDA graph is: the old one would use rows that are gone."""
    chosen = recipe(regularizer=REGULARIZERS["vasso"], optimizer=OPTIMIZERS["adamw"], epochs=6)
    extra = middle(chosen.regularizer)
    members = [member._replace(hyperparameters=member.hyperparameters | extra) for member in RUNS]
    full = train(chosen, members)
    recordings = Recordings()
    monkeypatch.setattr(hpo.training.loop, "Steps", functools.partial(Steps, record=recordings))
    monkeypatch.setattr(adam, "_by_member", adam.elementwise)
    results = train(chosen, members, prune=stop({2: [0, 3], 4: [1, 4]}))
    compared = {16, 30}  # a power of 4, and the last step; step 4 comes before any recording
    assert recordings.made == 3 and recordings.replays == 6 * 5 - 3 * BEFORE_RECORDING - len(compared)
    assert_same(results[2], full[2])
    for metric, values in full[1].curves.items():
        assert results[1].curves[metric] == near(values[:4]), metric


def test_a_run_ends_when_all_members_are_stopped() -> None:
    epochs: list[int] = []
    prune = stop({1: [0], 2: [1]})
    chosen = recipe(optimizer=OPTIMIZERS["adamw"])
    results = train(chosen, RUNS[:2], progress=lambda epoch, _: epochs.append(epoch), prune=prune)
    assert epochs == [1, 2] and [result.stopped_epoch for result in results] == [1, 2]
    assert [result.final["epochs"] for result in results] == [1, 2]


def test_prune_is_not_called_after_the_last_epoch_and_may_repeat_members() -> None:
    calls: list[Any] = []
    results = train(recipe(optimizer=OPTIMIZERS["adamw"]), RUNS[:2], prune=stop({1: [0, 0], 2: [0], 3: [1]}, calls))
    assert [epoch for epoch, _ in calls] == [1, 2]
    assert [result.stopped_epoch for result in results] == [1, None]


def test_a_diverged_member_may_be_stopped() -> None:
    chosen = recipe(regularizer=SPOILER, epochs=6)
    members = [Member(0, SGD | {"healthy_steps": steps}) for steps in (99, 7, 99, 2)]
    full = train(chosen, members)
    results = train(chosen, members, prune=stop({3: [1], 4: [2]}))
    ends = [(result.diverged_epoch, result.stopped_epoch) for result in results]
    assert ends == [(None, None), (2, 3), (None, 4), (1, None)]
    assert_same(results[0], full[0])
    assert "validation_loss" not in results[1].final and results[1].final["epochs"] == 3
    over = train(chosen, members, prune=stop({2: [0, 2]}))
    assert [result.stopped_epoch for result in over] == [2, None, 2, None]  # only diverged members are left: it ends


@pytest.mark.parametrize(
    ("saved_at", "training"),
    [(1, [True] * 5), (3, [False, True, True, False, True]), (5, [False, False, True, False, False])],
    ids=["before anyone is stopped", "between two rungs", "after the last rung"],
)
def test_a_checkpoint_contains_which_members_were_stopped(saved_at: int, training: list[bool]) -> None:
    chosen = recipe(optimizer=OPTIMIZERS["adamw"], epochs=7)
    prune = stop({2: [0, 3], 4: [1, 4]})
    full = train(chosen, RUNS, prune=prune)
    checkpointer = Saved(saved_at)
    with pytest.raises(InterruptedError):
        train(chosen, RUNS, checkpointer=checkpointer, prune=prune)
    epochs: list[int] = []
    resumed = train(
        chosen, RUNS, checkpointer=checkpointer, prune=prune, progress=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == list(range(saved_at + 1, 8))
    for result, expected in zip(resumed, full, strict=True):
        assert_same(result, expected)
    states = torch.load(io.BytesIO(checkpointer.saved), weights_only=True)
    assert ["model" in state for state in states] == training
    checkpointer.wanted = slice(0, 1)
    [alone] = train(chosen, RUNS[:1], checkpointer=checkpointer, prune=prune)
    assert_same(alone, full[0])
    assert alone.stopped_epoch == 2
