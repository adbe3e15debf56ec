"""User code whose Python state or draws change from step to step is refused, not frozen by the trace."""

import itertools
import random
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.optim.optimizers import Optimizer, per_model
from hpo.optim.regularizer import Regularizer
from hpo.training.loop import train
from hpo.training.recipe import Member
from hpo.tree import Tree
from hpo.user_code.calls import call_twice, equal_values, without_side_effects
from tests.training.test_training import CLASSES, FEATURES, SGD, Blobs, near, network, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = pytest.mark.parametrize("members", [1, 3])
RATE = {"learning_rate": 0.1}
COUNTS = {"global": 0}
SWITCH = {"on": False}

Tick = Callable[[], float]


def counts_globally() -> float:
    COUNTS["global"] += 1
    return 1.0


def counts_in_a_closure() -> Tick:
    count = 0

    def tick() -> float:
        nonlocal count
        count += 1
        return 1.0

    return tick


class Counter:
    total = 0

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> float:
        self.count += 1
        return 1.0


class ClassCounter(Counter):
    def __call__(self) -> float:
        type(self).total += 1
        return 1.0


def counts_on_itself() -> Tick:
    def tick() -> float:
        tick.count = getattr(tick, "count", 0) + 1  # type: ignore[attr-defined]
        return 1.0

    return tick


def steps_through(values: Any) -> Tick:
    return lambda: 1.0 + 0.0 * next(values)


def draws_from(draw: Callable[[], float]) -> Tick:
    """A draw that rarely has an effect."""
    return lambda: 1.0 if draw() < 0.999999 else 2.0


def generated() -> Any:
    for _ in itertools.count():
        yield 1


# State and draws of every kind; each test creates its own, which gives 1.0 and could later give something else.
TICKS: dict[str, Callable[[], Tick]] = {
    "global": lambda: counts_globally,
    "closure": counts_in_a_closure,
    "attribute": Counter,
    "class attribute": ClassCounter,
    "function attribute": counts_on_itself,
    "iterator": lambda: steps_through(itertools.count()),
    "list iterator": lambda: steps_through(iter([1] * 10_000)),
    "generator": lambda: steps_through(generated()),
    "random": lambda: draws_from(random.random),
    "numpy.random": lambda: draws_from(np.random.rand),
    "random.Random": lambda: draws_from(random.Random(0).random),
    "numpy's Generator": lambda: draws_from(np.random.default_rng(0).random),
}


class Ticking(nn.Module):
    def __init__(self, tick: Tick) -> None:
        super().__init__()
        self.layer, self.tick = nn.Linear(FEATURES, CLASSES, dtype=torch.float64), tick

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * self.tick()


@dataclass(frozen=True)
class Augmented(Blobs):
    tick: Any = None

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        del keys
        return inputs * self.tick()


def in_network(tick: Tick) -> dict[str, Any]:
    return {"model": lambda: Ticking(tick)}


def in_loss(tick: Tick) -> dict[str, Any]:
    return {"sample_loss": lambda outputs, labels: F.cross_entropy(outputs, labels, reduction="none") * tick()}


def in_regularizer(tick: Tick) -> dict[str, Any]:
    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return {name: leaf * tick() for name, leaf in objective.grad(params).items()}, state, {}

    return {"regularizer": Regularizer("ticking", grads)}


def in_optimizer(tick: Tick) -> dict[str, Any]:
    def update(grads: Tree, state: Any, params: Tree, _: Tree) -> Any:
        return {name: leaf - tick() * 0.1 * grads[name] for name, leaf in params.items()}, state

    return {"optimizer": Optimizer("ticking", lambda _: {}, update, RATE)}


def in_optimizer_of_one(tick: Tick) -> dict[str, Any]:
    return {"optimizer": per_model("ticking", lambda _: {}, in_optimizer(tick)["optimizer"].update, RATE)}


def in_schedule(tick: Tick) -> dict[str, Any]:
    return {"schedule": lambda *_: tick()}


def in_augmentation(tick: Tick) -> dict[str, Any]:
    return {"dataset": Augmented(tick=tick)}


def in_metric(tick: Tick) -> dict[str, Any]:
    return {"metrics": {"ticking": lambda outputs, labels: (outputs.argmax(-1) == labels) * tick()}}


PARTS = [
    in_network, in_loss, in_regularizer, in_optimizer, in_optimizer_of_one, in_schedule, in_augmentation, in_metric,
]  # fmt: skip


def run(members: int, hyperparameters: Mapping[str, float] = SGD, **changes: Any) -> Any:
    dataset = changes.pop("dataset", None)
    model = changes.pop("model", network)
    hyperparameters = RATE if "optimizer" in changes else hyperparameters
    return train(recipe(dataset, **changes)._replace(model=model), [Member(s, hyperparameters) for s in range(members)])


@SIZES
@pytest.mark.parametrize("part", PARTS)
def test_code_without_state_is_accepted_everywhere(part: Callable[[Tick], dict[str, Any]], members: int) -> None:
    assert run(members, **part(lambda: 1.0))[0].diverged_epoch is None


@pytest.mark.parametrize("tick", TICKS)
@pytest.mark.parametrize("part", PARTS)
def test_state_and_draws_in_python_are_refused(part: Callable[[Tick], dict[str, Any]], tick: str) -> None:
    members = 1 + 2 * ((PARTS.index(part) + list(TICKS).index(tick)) % 2)  # 1 and 3 in turn
    with pytest.raises(UsageError) as caught:
        run(members, **part(TICKS[tick]()))
    assert "\n" not in str(caught.value)


@SIZES
def test_draws_of_pytorch_in_augmentation_are_refused(members: int) -> None:
    with pytest.raises(UsageError):
        run(members, dataset=Augmented(tick=lambda: torch.rand(())))


@SIZES
@pytest.mark.parametrize("part", [part for part in PARTS if part is not in_schedule])
def test_draws_from_system_entropy_are_refused(part: Callable[[Tick], dict[str, Any]], members: int) -> None:
    """They leave no state, but the values differ between calls."""
    with pytest.raises(UsageError):
        run(members, **part(lambda: float(np.random.default_rng().random())))


@SIZES
@pytest.mark.parametrize("part", [in_network, in_loss, in_regularizer])
def test_a_change_from_outside_during_training_is_refused(
    part: Callable[[Tick], dict[str, Any]], members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of an epoch, since replayed steps do not see the change."""
    chosen = recipe()._replace(**part(lambda: 2.0 if SWITCH["on"] else 1.0))
    monkeypatch.setitem(SWITCH, "on", False)

    def flip(epoch: int, _: object) -> None:
        SWITCH["on"] = epoch == chosen.epochs - 1

    with pytest.raises(UsageError):
        train(chosen, [Member(seed, SGD) for seed in range(members)], progress=flip)


class WorstSoFar:
    """A metric relative to the largest loss that it has seen, kept as a tensor."""

    def __init__(self) -> None:
        self.worst = torch.zeros(())

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, labels, reduction="none")
        self.worst = torch.maximum(self.worst, losses.max().detach())
        return losses / self.worst


def test_a_metric_with_state_is_refused() -> None:
    with pytest.raises(UsageError):
        run(1, metrics={"relative": WorstSoFar()})


class Caching(nn.Module):
    """As many networks do: a mask from the first call, activations kept for inspection, a list that is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        self.mask: Tensor | None = None
        self.cache: dict[int, float] = {}
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.ones(CLASSES, dtype=torch.float64)
        self.seen = []
        outputs = self.layer(inputs) * self.mask * self.cache.setdefault(FEATURES, 1.0)
        self.seen.append(outputs)
        self.last = outputs
        return outputs


@SIZES
def test_caches_and_kept_activations_are_allowed(members: int) -> None:
    kept = run(members, model=Caching)
    plain = run(members, model=lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES, dtype=torch.float64)))
    assert [result.final["validation_loss"] for result in kept] == near(
        [result.final["validation_loss"] for result in plain]
    )


def test_init_may_not_draw_from_numpy() -> None:
    def init(params: Tree) -> Any:
        return {"noise": next(iter(params.values())) * float(np.random.rand())}  # noqa: NPY002

    with pytest.raises(UsageError, match=r"numpy\.random"):
        run(1, regularizer=Regularizer("mine", lambda o, p, s, _: (o.grad(p), s, {}), init=init))


def test_side_effects_are_named_with_their_values() -> None:
    thing = types.SimpleNamespace(inner=Counter())
    with (
        pytest.raises(UsageError, match=r"^the thing: inner\.count changes in a call \(from 0 to 1\); "),
        without_side_effects({"the thing": thing}),
    ):
        thing.inner()


def test_call_twice_compares_the_values() -> None:
    calls: list[None] = []
    assert call_twice({"it": None}, lambda: len(calls + [None])) == 1  # noqa: RUF005
    with pytest.raises(UsageError, match=r"^it gives different values"):
        call_twice({"it": None}, lambda: calls.append(None) or len(calls))


def test_equal_values_compares_containers_bit_by_bit() -> None:
    one = {"a": torch.tensor([1.0, float("nan")]), "b": [2.0, float("nan")]}
    assert equal_values(one, {"a": torch.tensor([1.0, float("nan")]), "b": [2.0, float("nan")]})
    assert not equal_values(one, {"a": torch.tensor([1.0 + 2e-7, float("nan")]), "b": [2.0, float("nan")]})
    assert not equal_values(
        one, {"a": torch.tensor([1.0, float("nan")], dtype=torch.float64), "b": [2.0, float("nan")]}
    )
    assert not equal_values(torch.tensor([float("nan")]), torch.tensor([0.0])) and not equal_values([1], [1, 2])


class Switching(nn.Module):
    """Counts its steps in a buffer instead of in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.steps = self.steps + 1
        return self.layer(inputs) * (self.steps <= 10)


@SIZES
def test_a_count_in_a_buffer_takes_effect_in_its_step(members: int) -> None:
    """45 training samples of 60 in batches of 8 are 5 steps an epoch: from the third on all outputs are 0."""
    for result in run(members, model=Switching, epochs=4):
        losses = result.curves["train_loss"]
        assert losses[2:] == near([np.log(CLASSES)] * 2) and abs(losses[1] - np.log(CLASSES)) > 1e-3
