"""Schedules of hyperparameters other than the learning rate."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hpo import MLP, Configuration, Cosine, Linear, Mnist1d, Regularizer, Study, log_range, per_model
from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.optim.torch_optimizer import from_torch
from hpo.study.configuration_options import check_options
from hpo.study.definition import describe
from hpo.tree import Tree
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS, COUNT = 3, 4  # steps per epoch: 128 training samples in batches of 32
RATE = Cosine(warmup_epochs=1)


def grads(objective: Objective, params: Tree, state: Any, hyper: Tree) -> Any:
    """The gradient; records the hyperparameters."""
    return objective.grad(params), state, {"strength": hyper["strength"], "rate": hyper["learning_rate"]}


REGULARIZER = Regularizer("recording", grads, {"strength": log_range(0.1, 10)})


def own_init(_: Tree) -> Any:
    return {"decays": torch.zeros(EPOCHS * COUNT), "step": torch.zeros((), dtype=torch.int64)}


def own_update(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
    moved = {name: leaf - hyper["learning_rate"] * grads[name] for name, leaf in params.items()}
    here = torch.arange(EPOCHS * COUNT) == state["step"]
    return moved, {"decays": torch.where(here, hyper["pull"], state["decays"]), "step": state["step"] + 1}


OWN = per_model("own", own_init, own_update, {"learning_rate": 0.01, "pull": 0.5})


def study(**fields: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B", regularizer=REGULARIZER, **fields))
    return Study(
        data=Mnist1d(samples=200), model=MLP((40, 4, 10)), configurations=configurations, baseline="A",
        epochs=EPOCHS, batch_size=32, schedule=RATE,
    )  # fmt: skip


def curves(**fields: Any) -> dict[str, list[float]]:
    trainer = Trainer(study(**fields), "cpu")
    return trainer.try_once("B", trainer.setting_to_try("B", {"strength": 2.0, "learning_rate": 0.01}), 0).curves


def means(schedule: Callable[[int, int, int], float], value: float) -> list[float]:
    factors = [schedule(step, EPOCHS * COUNT, COUNT) for step in range(EPOCHS * COUNT)]
    return [value * sum(factors[start : start + COUNT]) / COUNT for start in range(0, EPOCHS * COUNT, COUNT)]


def halves(step: int, _: int, steps_per_epoch: int) -> float:
    return 0.5 ** (step // steps_per_epoch)


@pytest.mark.parametrize("schedule", [Linear(end=0.2), Linear(0, 1), Cosine(end=0.1), halves, "learning_rate"])
def test_a_tuned_value_is_multiplied_by_its_schedule(schedule: Any) -> None:
    recorded = curves(schedules={"strength": schedule})
    expected = RATE if schedule == "learning_rate" else schedule
    assert recorded["aux/strength"] == pytest.approx(means(expected, 2.0), rel=1e-5)
    assert recorded["aux/rate"] == pytest.approx(means(RATE, 0.01), rel=1e-5)
    assert curves()["aux/strength"] == pytest.approx([2.0] * EPOCHS)


def test_an_optimizers_hyperparameters_may_follow_a_schedule() -> None:
    momentum = {"momentum": 0.9, "weight_decay": 0.0}
    built_in = curves(optimizer="sgd", space=momentum, schedules={"momentum": Linear()})
    by_torch = curves(
        optimizer=from_torch(torch.optim.SGD, learning_rate=log_range(1e-3, 1)), space=momentum,
        schedules={"momentum": Linear()},
    )  # fmt: skip
    assert by_torch["validation_loss"] == pytest.approx(built_in["validation_loss"], rel=1e-5)
    constant = curves(optimizer="sgd", space=momentum)
    assert constant["validation_loss"] != pytest.approx(built_in["validation_loss"], rel=1e-5)
    assert len(curves(optimizer=OWN, schedules={"pull": Linear()})["train_loss"]) == EPOCHS


def test_what_torch_has_no_entry_for_cannot_follow_a_schedule() -> None:
    optimizer = from_torch(torch.optim.Adam, learning_rate=0.1)
    with pytest.raises(UsageError, match=r"'Adam' has no 'beta1' in its parameter groups"):
        curves(optimizer=optimizer, schedules={"beta1": Linear()})


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({"learning_rate": Linear()}, r"is that of the study; give Study\(schedule"),
        ({"strenght": Linear()}, r"'strenght', which is no number .*did you mean 'strength'"),
        ({"strength": 0.5}, r"schedules\['strength'\] is 0.5; give hpo.Linear"),
        ([Linear()], r"schedules is .*; give a dict"),
    ],
)
def test_wrong_schedules_are_refused(schedules: Any, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^configuration 'B': .*{message}"):
        check_options(Configuration("B", regularizer=REGULARIZER, schedules=schedules))


def test_schedules_are_in_the_definition() -> None:
    entry = describe(study(schedules={"strength": Linear(end=0.5)}))["configurations"][1]
    assert entry["schedules"] == {"strength": {"kind": "Linear", "start": 1.0, "end": 0.5, "warmup_epochs": 0.0}}
    assert describe(study(schedules={"strength": "learning_rate"}))["configurations"][1]["schedules"] == {
        "strength": "learning_rate"
    }
