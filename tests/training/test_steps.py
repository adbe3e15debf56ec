"""Steps that a CUDA graph could replay, tested on a CPU by a recorder with the rules of a graph."""

import contextlib
import copy
import functools
import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from populations import middle
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import hpo.training.loop
import hpo.training.steps
from hpo.data import Mnist1d
from hpo.gradients.objective import Objective
from hpo.gradients.returns import Cache
from hpo.models.dropout import Dropout
from hpo.optim import adam
from hpo.optim.optimizers import OPTIMIZERS, Optimizer, per_model
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Cosine
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe, Result
from hpo.training.samples import Samples
from hpo.training.steps import BEFORE_RECORDING, Steps
from hpo.tree import Tree, zeros_like
from tests.training.test_training import ADAMW, SGD, Blobs, near, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

aten = torch.ops.aten
VALUE_READ = {aten._local_scalar_dense.default, aten.lift_fresh.default, aten.lift_fresh_copy.default}


class Recorder(TorchDispatchMode):
    """Records the operations of a step with the tensors that they read and wrote, as a CUDA graph records addresses.

    Like the capture of a graph, it lets no step read a value, and the step has no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in VALUE_READ or torch.Tag.nondeterministic_seeded in function.tags:
            raise RuntimeError(f"{function} is not permitted when a stream is capturing")
        if function._schema.is_mutable:
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor):
                    self.before.setdefault(id(leaf), (leaf, leaf.detach().clone()))
        result = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, result))
        return result

    def undo(self) -> None:
        for leaf, value in self.before.values():
            leaf.copy_(value)

    def replay(self) -> None:
        for function, args, kwargs, result in self.operations:
            actual = function(*args, **kwargs)
            given = {leaf.untyped_storage().data_ptr() for leaf in _tensors((args, kwargs))}
            for old, new in zip(_tensors(result), _tensors(actual), strict=True):
                if old.untyped_storage().data_ptr() not in given:  # neither a view nor written in place
                    old.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class Recordings:
    """A `record` for Steps that counts recordings and replays."""

    def __init__(self) -> None:
        self.made = self.replays = 0

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        recorder = Recorder()
        try:
            with recorder:
                step()
        finally:
            recorder.undo()
        self.made += 1

        def replay() -> None:
            self.replays += 1
            recorder.replay()

        return replay


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Training records its steps, and AdamW computes as on a GPU."""
    recordings = Recordings()
    monkeypatch.setattr(hpo.training.loop, "Steps", functools.partial(Steps, record=recordings))
    monkeypatch.setattr(adam, "_by_member", adam.elementwise)
    return recordings


def run(chosen: Recipe, members: Sequence[Member], recordings: Recordings | None = None) -> list[Result]:
    results = train(chosen, members, test=True)
    if recordings:
        smallest = min(result.final["training_samples"] for result in results)
        steps = int(smallest) // chosen.batch_size * chosen.epochs
        compared = {16, 64, 256, steps} & set(range(BEFORE_RECORDING + 1, steps + 1))
        assert (recordings.made, recordings.replays) == (1, steps - BEFORE_RECORDING - len(compared))
    return results


def same(actual: Sequence[Result], expected: Sequence[Result]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.curves.keys() == other.curves.keys() and one.final.keys() == other.final.keys()
        for name, values in other.curves.items():
            assert one.curves[name] == near(values), name
        for name, value in other.final.items():
            assert one.final[name] == near(value), name


def plain(chosen: Recipe, members: Sequence[Member], monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """The same run without a recording."""
    with monkeypatch.context() as patch:
        patch.setattr(hpo.training.loop, "Steps", Steps)
        return run(chosen, members)


@pytest.mark.parametrize("optimizer", [("sgd", SGD), ("adamw", ADAMW)], ids=lambda pair: pair[0])
@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_a_recorded_step_is_the_step(
    regularizer: Regularizer,
    optimizer: tuple[str, dict[str, float]],
    recorded: Recordings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = [Member(seed, optimizer[1] | middle(regularizer)) for seed in range(3)]
    chosen = recipe(regularizer=regularizer, optimizer=OPTIMIZERS[optimizer[0]], schedule=Cosine(warmup_epochs=1))
    same(run(chosen, members, recorded), plain(chosen, members, monkeypatch))


class Mixed(nn.Module):
    """Dropout and BatchNorm: masks that depend on the step, buffers that every step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(40, 8), nn.Linear(8, 10)
        self.norm, self.dropout = nn.BatchNorm1d(8), Dropout(0.3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.dropout(self.norm(self.first(inputs)).relu()))


@pytest.mark.parametrize("members", [1, 3])
def test_masks_buffers_and_augmentations_change_from_step_to_step(
    members: int, recorded: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Mnist1d(samples=200, augmented=True)
    chosen = Recipe(
        dataset, dataset.load(), Mixed, REGULARIZERS["gvr"], OPTIMIZERS["sgd"], epochs=3, batch_size=20
    )  # fmt: skip
    runs = [Member(seed, SGD | middle(REGULARIZERS["gvr"])) for seed in range(members)]
    same(run(chosen, runs, recorded), plain(chosen, runs, monkeypatch))


def _swapping_init(params: Tree) -> dict[str, Any]:
    return {"one": zeros_like(params), "other": {name: leaf.clone() for name, leaf in params.items()}}


def _swapping(grads: Tree, state: dict[str, Any], params: Tree, hyper: Tree) -> tuple[Tree, dict[str, Any]]:
    """Its two states are swapped in every step, and its parameters are new tensors."""
    new = {
        name: leaf - hyper["learning_rate"] * (grads[name] + 0.1 * state["one"][name]) for name, leaf in params.items()
    }
    return new, {"one": state["other"], "other": state["one"]}


SWAPPING = per_model("swapping", _swapping_init, _swapping, {"learning_rate": 0.1})


def _stacked(grads: Tree, state: dict[str, Any], params: Tree, hyper: Tree) -> tuple[Tree, dict[str, Any]]:
    """An optimizer on the stack that puts new tensors into the dicts it was given."""
    rate = hyper["learning_rate"]
    for name, leaf in params.items():
        state["sum"][name] = 0.9 * state["sum"][name] + grads[name]
        params[name] = leaf - rate.reshape(-1, *[1] * (leaf.dim() - 1)) * state["sum"][name]
    return params, state


STACKED = Optimizer("stacked", lambda params: {"sum": zeros_like(params)}, _stacked, {"learning_rate": 0.1})


@pytest.mark.parametrize("optimizer", [SWAPPING, STACKED], ids=lambda optimizer: optimizer.name)
def test_new_tensors_of_an_optimizer_are_copied_to_the_old_addresses(
    optimizer: Optimizer, recorded: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [Member(seed, {"learning_rate": 0.05 * (1 + seed)}) for seed in range(3)]
    chosen = recipe(optimizer=optimizer)
    same(run(chosen, members, recorded), plain(chosen, members, monkeypatch))


def _counted(grads: Tree, state: dict[str, Any], params: Tree, hyper: Tree) -> tuple[Tree, dict[str, Any]]:
    """Divides by the number of the step, which `init` creates without the parameters."""
    count = state["count"] + 1
    return {name: leaf - hyper["learning_rate"] / count * grads[name] for name, leaf in params.items()}, {
        "count": count
    }


def _two_means(grads: Tree, state: dict[str, Any], params: Tree, hyper: Tree) -> tuple[Tree, dict[str, Any]]:
    first = {name: 0.9 * leaf + grads[name] for name, leaf in state["first"].items()}
    second = {name: 0.5 * leaf + grads[name] ** 2 for name, leaf in state["second"].items()}
    moved = {name: leaf - hyper["learning_rate"] * first[name] / (1 + second[name]) for name, leaf in params.items()}
    return moved, {"first": first, "second": second}


COUNTED = per_model("counted", lambda _: {"count": torch.zeros(())}, _counted, {"learning_rate": 0.1})
SAME_ZEROS = per_model(
    "same zeros",
    lambda params: dict.fromkeys(("first", "second"), zeros_like(params)),
    _two_means,
    {"learning_rate": 0},
)


def _towards_the_start(objective: Objective, params: Tree, state: Any, _: Tree) -> tuple[Tree, Any, Tree]:
    gradient = objective.grad(params)
    return {name: leaf + 0.1 * (params[name] - state["start"][name]) for name, leaf in gradient.items()}, state, {}


START = Regularizer("start", _towards_the_start, {}, lambda params: {"start": params})


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    "parts",
    [{"optimizer": COUNTED}, {"optimizer": SAME_ZEROS}, {"regularizer": START}],
    ids=["one number for all models", "the same zeros twice", "the parameters"],
)
def test_a_state_that_shares_memory_at_first_is_copied_leaf_by_leaf(
    parts: dict[str, Any], members: int, recorded: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Member(seed, SGD | {"learning_rate": 0.05 * (1 + seed)}) for seed in range(members)]
    same(run(recipe(**parts), runs, recorded), plain(recipe(**parts), runs, monkeypatch))


def test_a_cache_of_an_optimizer_is_not_copied(recorded: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    def update(grads: Tree, state: dict[str, Any], params: Tree, hyper: Tree) -> tuple[Tree, dict[str, Any]]:
        state["last"] = Cache((grads, "anything"))
        return _stacked(grads, state, params, hyper)

    caching = recipe(optimizer=STACKED._replace(update=update))
    members = [Member(0, {"learning_rate": 0.1})]
    actual = run(caching, members, recorded)
    same(actual, plain(recipe(optimizer=STACKED), members, monkeypatch))


def test_a_step_that_reads_a_value_runs_unrecorded_with_a_warning(
    recorded: Recordings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> tuple[Tree, Any, Tree]:
        gradient = objective.grad(params)
        scale = 1.0 if float(gradient[next(iter(gradient))].sum()) > 0 else 0.5
        return {name: scale * leaf for name, leaf in gradient.items()}, state, {}

    chosen = recipe(regularizer=Regularizer("looking", grads, {}))
    actual = run(chosen, [Member(0, SGD)])
    assert recorded.made == 0 and "cannot be recorded as a CUDA graph" in caplog.text
    same(actual, plain(chosen, [Member(0, SGD)], monkeypatch))


def _out_of_memory(_: Callable[[], None]) -> Callable[[], None]:
    raise torch.OutOfMemoryError("CUDA out of memory")


def _out_of_memory_and_failed_end(step: Callable[[], None]) -> Callable[[], None]:
    """As `torch.cuda.graph` when ending the failed capture fails, too."""
    try:
        _out_of_memory(step)
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize("record", [_out_of_memory, _out_of_memory_and_failed_end])
def test_out_of_memory_while_recording_is_raised(
    record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hpo.training.loop, "Steps", functools.partial(Steps, record=record))
    with pytest.raises(torch.OutOfMemoryError):
        train(recipe(), [Member(0, SGD)])
    assert "cannot be recorded" not in caplog.text


def _stop_after_one(epoch: int, _: Any) -> set[int]:
    return {0} if epoch == 1 else set()


def _out_of_memory_after_two(epoch: int, _: Any) -> set[int]:
    if epoch == 2:
        raise MemoryError
    return set()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("prune", [_stop_after_one, _out_of_memory_after_two])
def test_a_finished_run_frees_its_memory_at_once(
    prune: Callable[..., Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next population needs the memory, before Python's cycle collector runs."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    made: list[weakref.ref[Any]] = []

    def noted(population: Population, samples: Samples, *further: Any, **options: Any) -> Steps:
        steps = Steps(population, samples, *further, **options)
        made.extend(map(weakref.ref, (steps, population, samples, *population.params.values())))
        return steps

    monkeypatch.setattr(hpo.training.loop, "Steps", noted)
    chosen = recipe(optimizer=OPTIMIZERS["adamw"], epochs=4)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(MemoryError):
            train(chosen, [Member(seed, ADAMW) for seed in range(2)], device, prune=prune)
        left = [reference() for reference in made if reference() is not None]
    finally:
        gc.enable()
    assert len(made) > 3 and not left


def test_a_resumed_run_records_its_own_steps(recorded: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Checkpointer:
        """Saves after two epochs."""

        saved: Any = None

        def load(self) -> Any:
            return self.saved

        def save(self, states: Callable[[], Any]) -> None:
            self.saved = self.saved or (copy.deepcopy(states()) if self.epochs == 1 else None)
            self.epochs += 1

        epochs = 0

    members = [Member(seed, ADAMW) for seed in range(2)]
    chosen = recipe(optimizer=OPTIMIZERS["adamw"], epochs=5, schedule=Cosine())
    checkpointer = Checkpointer()
    full_run = train(chosen, members, test=True, checkpointer=checkpointer)
    assert checkpointer.saved[0]["epoch"] == 2
    same(train(chosen, members, test=True, checkpointer=checkpointer), full_run)
    same(plain(chosen, members, monkeypatch), full_run)
    assert recorded.made == 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_a_cuda_graph_replays_the_step(regularizer: Regularizer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Callable[[], None]] = []
    original = hpo.training.steps._cuda_graph

    def graph(stream: torch.cuda.Stream, step: Callable[[], None]) -> Callable[[], None]:
        made.append(original(stream, step))
        return made[-1]

    def refused(*_: Any) -> Callable[[], None]:
        raise RuntimeError

    members = [Member(seed, ADAMW | middle(regularizer)) for seed in range(3)]
    chosen = recipe(Blobs(), regularizer=regularizer, optimizer=OPTIMIZERS["adamw"])
    monkeypatch.setattr(hpo.training.steps, "_cuda_graph", graph)
    actual = train(chosen, members, "cuda")
    assert len(made) == 1
    monkeypatch.setattr(hpo.training.steps, "_cuda_graph", refused)
    same(actual, train(chosen, members, "cuda"))
