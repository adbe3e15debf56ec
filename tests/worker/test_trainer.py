"""The score of a run, the outcome of a slot, and the populations in which a work's models train."""

import dataclasses
import re
from typing import Any

import pytest
import torch

from hpo import MLP, Configuration, Mnist1d, Study, from_torch
from hpo.errors import UsageError
from hpo.study.definition import describe
from hpo.training.recipe import Result
from hpo.trials import Slot, Work
from hpo.worker import trainer as trainer_module
from hpo.worker.score import score
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

NAN = float("nan")
CURVES = {
    "validation_accuracy": [0.2, 0.6, 0.5],
    "validation_loss": [2.0, 0.7, 0.9],
    "validation_margin": [NAN, 3.0, 1.0],
}


def study(metric: str, at: str = "last", direction: str | None = None, **changes: Any) -> Study:
    return Study(
        data=Mnist1d(),
        model=MLP((40, 8, 10)),
        baseline="A",
        configurations=(Configuration("A"), Configuration("B")),
        metrics={"margin": lambda outputs, labels: outputs[:, 0] * labels},
        score=metric,
        direction=direction or ("maximize" if metric == "validation_margin" else None),  # type: ignore[arg-type]
        score_epoch=at,  # type: ignore[arg-type]
        **changes,
    )


@pytest.mark.parametrize(
    ("metric", "last", "best", "diverged"),
    [
        ("validation_accuracy", 0.5, 0.6, 0.25),
        ("validation_loss", 0.9, 0.7, None),
        ("validation_margin", 1.0, 3.0, None),
    ],
)
def test_score_of_a_run(metric: str, last: float, best: float, diverged: float | None) -> None:
    for at, expected in (("last", last), ("best", best)):
        assert score(Result(CURVES, {}, None), study(metric, at), classes=4) == expected
        first_epoch = {name: values[:1] for name, values in CURVES.items()}
        assert score(Result(first_epoch, {}, 2), study(metric, at), classes=4) == diverged


def test_the_direction_may_be_given() -> None:
    lowest = study("validation_margin", "best", direction="minimize")
    assert score(Result(CURVES, {}, None), lowest, classes=10) == 1.0
    assert describe(lowest)["direction"] == "minimize"
    assert describe(study("validation_margin"))["direction"] == "maximize"
    with pytest.raises(UsageError, match="direction is 'up'"):
        study("validation_margin", direction="up")


def test_a_metric_that_is_never_finite_gives_no_score() -> None:
    never = Result({"validation_margin": [NAN]}, {}, None)
    assert score(never, study("validation_margin", "best"), classes=10) is None


def test_a_score_that_no_run_reports_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'noisy_labels_fitted'.*choose one of validation_acc"):
        score(Result(CURVES, {}, None), study("noisy_labels_fitted"), classes=10)


@pytest.mark.parametrize("name", ["loss", "accuracy", "F1", "a b", ""])
def test_a_metric_needs_an_unused_name(name: str) -> None:
    with pytest.raises(UsageError, match="metrics has the name"):
        dataclasses.replace(study("validation_loss"), metrics={name: len})


SETTING = {"learning_rate": 0.003, "weight_decay": 1e-3}


def small(**changes: Any) -> Study:
    fields = {"data": Mnist1d(samples=200, label_noise=0.2), "metrics": {}, "epochs": 2} | changes
    return dataclasses.replace(study("validation_accuracy"), **fields)


def tuning(seed: int, count: int) -> Work:
    """Trials whose learning rates differ."""
    rates = [0.003 * (1 + index) for index in range(count)]
    slots = [Slot(7 + index, index, seed, 1, SETTING | {"learning_rate": rate}) for index, rate in enumerate(rates)]
    return Work("A", "tune", slots)


RERUN = Work("A", "rerun", [Slot(1, 0, 1000, 1, SETTING)])


def mean(values: Any) -> float:
    return sum(values) / len(values)


def test_a_trials_score_is_the_mean_over_its_seeds() -> None:
    together = Trainer(small(seeds_per_trial=3), "cpu")(tuning(6, 2))
    by_seed = [Trainer(small(), "cpu")(tuning(seed, 2)) for seed in (6, 7, 8)]
    for index, outcome in enumerate(together):
        single = [outcomes[index] for outcomes in by_seed]
        assert outcome.id == 7 + index and outcome.result["population"] == 6
        assert outcome.value == pytest.approx(mean([each.value for each in single]), abs=0.01)
        assert outcome.value == pytest.approx(outcome.curves["validation_accuracy"][-1])
        for name, values in outcome.curves.items():
            rows = zip(*(each.curves[name] for each in single), strict=True)
            assert values == pytest.approx([mean(row) for row in rows], abs=0.01), name
        assert outcome.result["train_loss"] == pytest.approx(mean([each.result["train_loss"] for each in single]), 1e-3)


def test_a_trial_with_one_diverged_model_has_a_score_and_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    [healthy] = Trainer(small(), "cpu")(tuning(1, 1))
    real = trainer_module.train

    def train(*arguments: Any, **options: Any) -> list[Result]:
        _, *rest = real(*arguments, **options)
        return [Result({}, {"classes": 10.0}, 1), *rest]

    monkeypatch.setattr(trainer_module, "train", train)
    [outcome] = Trainer(small(seeds_per_trial=2), "cpu")(tuning(0, 1))
    assert outcome.cause == "diverged" and outcome.result["diverged_epoch"] == 1
    assert healthy.value is not None and outcome.value == pytest.approx((0.1 + healthy.value) / 2, abs=0.01)
    [by_loss] = Trainer(small(seeds_per_trial=2, score="validation_loss"), "cpu")(tuning(0, 1))
    assert by_loss.cause == "diverged" and by_loss.value is None


def test_a_rerun_trains_one_seed_and_reports_label_fits() -> None:
    [one], [other] = (Trainer(small(seeds_per_trial=count), "cpu")(RERUN) for count in (1, 4))
    assert one.value == other.value == one.result["test_accuracy"] and one.curves == other.curves
    assert other.result["population"] == 1
    fits = {"noisy_labels_fitted", "noisy_labels_recovered", "clean_labels_fitted"}
    assert fits <= one.curves.keys()
    assert not fits & Trainer(small(), "cpu")(tuning(0, 1))[0].curves.keys()
    [scored] = Trainer(small(score="noisy_labels_recovered"), "cpu")(tuning(0, 1))
    assert scored.value == scored.curves["noisy_labels_recovered"][-1]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the populations that are trained; more than two models do not fit into memory."""
    real, counts = trainer_module.train, []

    def train(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> list[Result]:
        counts.append(len(members))
        if len(members) > 2:
            raise MemoryError
        return real(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", train)
    return counts


def test_the_models_of_one_trial_are_halved_until_they_fit_into_memory(sizes: list[int]) -> None:
    trainer = Trainer(small(seeds_per_trial=5), "cpu")
    [first] = trainer(tuning(0, 1))
    assert sizes == [5, 2, 2, 1]
    [second] = trainer(tuning(0, 1))
    assert sizes[4:] == [2, 2, 1] and second.value == first.value, "the limit is remembered"
    by_seed = [Trainer(small(), "cpu")(tuning(seed, 1))[0].value for seed in range(5)]
    assert first.value == pytest.approx(mean(by_seed), abs=0.01)
    with pytest.raises(MemoryError):  # several trials are split by the worker
        Trainer(small(seeds_per_trial=5), "cpu")(tuning(0, 2))


def test_a_population_has_no_more_models_than_allowed(sizes: list[int]) -> None:
    Trainer(small(seeds_per_trial=5), "cpu", max_models=2)(tuning(0, 1))
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"groups": {"head.*": {"learning_rate": 0.1}}}, "groups names 'head.*'"),
        ({"no_decay": ("norm",)}, "no_decay names 'norm'"),
        ({"optimizer": from_torch(torch.optim.Muon, lr=0.1)}, "optimizer 'Muon' cannot be built"),
    ],
)
def test_optimizers_that_do_not_fit_the_network_are_refused_before_any_training(
    fields: dict[str, Any], message: str
) -> None:
    configurations = (Configuration("A"), Configuration("B", **fields))
    study = Study(data=Mnist1d(samples=200), model=MLP((40, 8, 10)), configurations=configurations, baseline="A")
    for max_models in (None, 4):
        with pytest.raises(UsageError, match=re.escape(f"configuration 'B': {message}")):
            Trainer(study, "cpu", max_models=max_models).size()
