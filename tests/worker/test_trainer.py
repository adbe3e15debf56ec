"""What tuning optimises: the score of a run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hpo import Mnist1d
from hpo.api import open_ledger
from hpo.errors import UsageError
from hpo.storage.ledger import Slot, Work
from hpo.study.definition import describe
from hpo.study.study import Configuration, Study
from hpo.training.recipe import Result
from hpo.worker import trainer as trainer_module
from hpo.worker.score import score
from hpo.worker.trainer import Trainer

CURVES = {
    "validation_accuracy": [0.2, 0.6, 0.5],
    "validation_loss": [2.0, 0.7, 0.9],
    "validation_margin": [float("nan"), 3.0, 1.0],
}


def study(metric: str, at: str = "last", **changes: Any) -> Study:
    from hpo import MLP, Mnist1d

    return Study(
        data=Mnist1d(),
        model=MLP((40, 8, 10)),
        baseline="A",
        configurations=(Configuration("A"), Configuration("B")),
        metrics={"margin": lambda outputs, labels: outputs[:, 0] * labels},
        score=metric,
        direction=changes.pop("direction", "maximize" if metric == "validation_margin" else None),
        score_epoch=at,  # type: ignore[arg-type]
        **changes,
    )


@pytest.mark.parametrize(
    ("metric", "at", "expected"),
    [
        ("validation_accuracy", "last", 0.5),
        ("validation_accuracy", "best", 0.6),
        ("validation_loss", "last", 0.9),
        ("validation_loss", "best", 0.7),
        ("validation_margin", "last", 1.0),
        ("validation_margin", "best", 3.0),
    ],
)
def test_score_of_a_run(metric: str, at: str, expected: float) -> None:
    assert score(Result(CURVES, {}, None), study(metric, at), classes=10) == expected


def test_the_direction_may_be_stated() -> None:
    lowest = study("validation_margin", "best", direction="minimize")
    assert score(Result(CURVES, {}, None), lowest, classes=10) == 1.0
    assert describe(lowest)["direction"] == "minimize"
    assert describe(study("validation_margin"))["direction"] == "maximize"
    with pytest.raises(UsageError, match="direction is 'up'; give 'maximize', 'minimize' or None"):
        study("validation_margin", direction="up")


def test_a_metric_that_is_never_finite_gives_no_score() -> None:
    never = Result({"validation_margin": [float("nan")]}, {}, None)
    assert score(never, study("validation_margin", "best"), classes=10) is None


@pytest.mark.parametrize("at", ["last", "best"])
def test_score_of_a_diverged_run(at: str) -> None:
    diverged = Result({name: values[:1] for name, values in CURVES.items()}, {}, 2)
    assert score(diverged, study("validation_accuracy", at), classes=4) == 0.25
    assert score(diverged, study("validation_loss", at), classes=4) is None
    assert score(diverged, study("validation_margin", at), classes=4) is None


def test_a_score_that_no_run_reports() -> None:
    with pytest.raises(UsageError, match="'noisy_labels_fitted', which no run reports; choose one of validation_acc"):
        score(Result(CURVES, {}, None), study("noisy_labels_fitted"), classes=10)


@pytest.mark.parametrize("name", ["loss", "accuracy", "F1", "a b", ""])
def test_a_metric_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(UsageError, match="metrics has the name"):
        dataclasses.replace(study("validation_loss"), metrics={name: len})


SETTING = {"learning_rate": 0.003, "weight_decay": 1e-3}


def small(**changes: Any) -> Study:
    return dataclasses.replace(
        study("validation_accuracy"), data=Mnist1d(samples=300, label_noise=0.2), metrics={}, epochs=3, **changes
    )


def tuning(seed: int, count: int, rate: float = 0.003) -> Work:
    slots = [Slot(7 + place, place, seed, 1, SETTING | {"learning_rate": rate * (1 + place)}) for place in range(count)]
    return Work("A", "tune", slots)


@pytest.mark.usefixtures("one_thread")
def test_a_trials_score_is_the_mean_over_its_seeds() -> None:
    found = Trainer(small(seeds_per_trial=3), "cpu")(tuning(6, 2))
    single = [Trainer(small(), "cpu")(tuning(seed, 2)) for seed in (6, 7, 8)]
    for place, outcome in enumerate(found):
        alone = [outcomes[place] for outcomes in single]
        assert outcome.id == 7 + place and outcome.result["population"] == 6
        assert outcome.value == pytest.approx(sum(one.value for one in alone) / 3, abs=0.01)
        assert outcome.value == pytest.approx(outcome.curves["validation_accuracy"][-1])
        for name, values in outcome.curves.items():
            rows = zip(*(one.curves[name] for one in alone), strict=True)
            assert values == pytest.approx([sum(row) / 3 for row in rows], abs=0.01), name
        assert outcome.result["train_loss"] == pytest.approx(sum(o.result["train_loss"] for o in alone) / 3, rel=1e-3)


@pytest.mark.usefixtures("one_thread")
def test_a_trial_of_which_one_seed_diverges_is_scored_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer_module.train

    def train(*arguments: Any, **options: Any) -> list[Result]:
        _, *rest = real(*arguments, **options)
        return [Result({}, {"classes": 10.0}, 1), *rest]

    monkeypatch.setattr(trainer_module, "train", train)
    [outcome] = Trainer(small(seeds_per_trial=2), "cpu")(tuning(0, 1))
    [whole] = Trainer(small(), "cpu")(tuning(1, 1))
    assert outcome.cause == "diverged" and outcome.result["diverged_epoch"] == 1
    [by_loss] = Trainer(small(seeds_per_trial=2, score="validation_loss"), "cpu")(tuning(0, 1))
    assert whole.cause == "diverged" and by_loss.value is None
    monkeypatch.undo()
    [other] = Trainer(small(), "cpu")(tuning(1, 1))
    assert outcome.value == pytest.approx((0.1 + (other.value or 0)) / 2, abs=0.01)


@pytest.mark.usefixtures("one_thread")
def test_a_rerun_has_one_seed_whatever_a_trial_has() -> None:
    work = Work("A", "rerun", [Slot(1, 0, 1000, 1, SETTING)])
    [one], [other] = (Trainer(small(seeds_per_trial=count), "cpu")(work) for count in (1, 4))
    assert one.value == other.value == one.result["test_accuracy"] and one.curves == other.curves
    assert other.result["population"] == 1


@pytest.mark.usefixtures("one_thread")
def test_fitted_labels_are_told_of_reruns_and_where_the_score_asks() -> None:
    names = {"noisy_labels_fitted", "noisy_labels_recovered", "clean_labels_fitted"}
    rerun = Work("A", "rerun", [Slot(1, 0, 1000, 1, SETTING)])
    shown = [Trainer(small(), "cpu")(work)[0].curves for work in (rerun, tuning(0, 1))]
    assert names <= shown[0].keys() and not names & shown[1].keys()
    scored = small(score="noisy_labels_recovered")
    [outcome] = Trainer(scored, "cpu")(tuning(0, 1))
    assert outcome.value == outcome.curves["noisy_labels_recovered"][-1]


def test_tuning_may_not_use_up_the_seeds_of_the_reruns() -> None:
    assert small(tuning_runs=10, seeds_per_trial=100).seeds_per_trial == 100
    with pytest.raises(UsageError, match="tuning_runs × seeds_per_trial is 1010; tuning has 1000 seeds"):
        small(tuning_runs=10, seeds_per_trial=101)


@pytest.mark.parametrize(("seeds", "tuning_runs"), [(None, 3), (1, 1), (2, 2), (3, 3), (4, 3), (12, 3), (100, 3)])
def test_a_study_is_tuned_three_times_or_as_often_as_it_has_seeds(
    seeds: int | None, tuning_runs: int, tmp_path: Path
) -> None:
    url, given = f"sqlite:///{tmp_path}/t.db", {} if seeds is None else {"seeds": seeds}
    planned = {"trials": 40, "seeds": seeds or 12, "tuning_runs": tuning_runs}
    assert open_ledger(small(name="file", **given), url).planned == planned
    assert open_ledger(small(name="flag"), url, seeds=seeds).planned == planned, "the same by a flag"
    told = open_ledger(small(name="flag"), url)
    assert told.planned == planned, "an existing study keeps its plan"
    warned = [flag for flag in ("--seeds 12", "--tuning-runs 3") for text in told.warnings if f"give {flag}" in text]
    assert warned == (["--seeds 12"] if planned["seeds"] < 12 else [])


def test_a_study_says_how_often_it_is_tuned(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    assert open_ledger(small(name="one", tuning_runs=1), url).planned["tuning_runs"] == 1
    assert open_ledger(small(name="five", tuning_runs=5), url).planned["tuning_runs"] == 5
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(UsageError, match=f"tuning_runs is {wrong!r}; give a whole number of at least 1"):
            small(tuning_runs=wrong)
    with pytest.raises(UsageError, match="tuning_runs is 3 and seeds is 2, so that some tuning runs would"):
        small(tuning_runs=3, seeds=2)


def test_a_study_that_was_planned_with_one_tuning_run_says_how_to_plan_more(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    open_ledger(small(name="s", tuning_runs=1), url)
    again = open_ledger(small(name="s"), url)
    assert again.planned["tuning_runs"] == 1
    assert again.warnings == [
        "s was planned with 1 tuning runs and its file now plans 3; give --tuning-runs 3 to raise it"
    ]
    assert again.text["command"] == "hpo run s --tuning-runs 1"


def test_flags_are_held_to_what_a_study_may_say_before_anything_is_deleted(tmp_path: Path) -> None:
    url, own = f"sqlite:///{tmp_path}/t.db", small(name="s", seeds_per_trial=3)
    made = open_ledger(own, url)
    for flags, words in (
        ({"seeds": 334, "tuning_runs": 334}, "tuning has 1000 seeds of its own"),
        ({"seeds": 2, "tuning_runs": 3}, "some tuning runs would have no rerun; give at least as many seeds"),
    ):
        with pytest.raises(UsageError, match=words):
            open_ledger(dataclasses.replace(own, name="another"), url, **flags)
        with pytest.raises(UsageError, match=words):
            open_ledger(own, url, **flags, fresh=True)
    assert open_ledger(own, url).id == made.id


def test_the_command_that_is_shown_plans_what_was_planned(tmp_path: Path) -> None:
    url, own = f"sqlite:///{tmp_path}/t.db", small(name="s", tuning_runs=1)
    whole = "hpo run s --seeds 6 --tuning-runs 3"
    assert open_ledger(own, url, seeds=6, tuning_runs=3, command=whole).text["command"] == whole
    assert open_ledger(own, url).text["command"] == whole
    raised = open_ledger(own, url, seeds=9, command="hpo run s --seeds 9")
    assert raised.text["command"] == "hpo run s --seeds 9 --tuning-runs 3"


def test_repeats_that_want_seeds_are_refused_with_a_number_that_is_taken(tmp_path: Path) -> None:
    url, own = f"sqlite:///{tmp_path}/t.db", small(name="s", seeds=10, tuning_runs=1)
    open_ledger(own, url)
    with pytest.raises(UsageError, match="give --seeds 21 or more"):
        open_ledger(own, url, tuning_runs=12)
    assert open_ledger(own, url, tuning_runs=12, seeds=21).planned["tuning_runs"] == 12


@pytest.mark.usefixtures("one_thread")
def test_the_models_of_one_trial_are_halved_until_memory_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = trainer_module.train, []

    def train(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> list[Result]:
        sizes.append(len(members))
        if len(members) > 2:
            raise MemoryError
        return real(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", train)
    trainer = Trainer(small(seeds_per_trial=5), "cpu")
    [found] = trainer(tuning(0, 1))
    assert sizes == [5, 2, 2, 1]
    [again] = trainer(tuning(0, 1))
    assert sizes[4:] == [2, 2, 1] and again.value == found.value  # remembered
    monkeypatch.undo()
    [whole] = Trainer(small(seeds_per_trial=5), "cpu")(tuning(0, 1))
    assert found.value == pytest.approx(whole.value, abs=0.01)
    with pytest.raises(MemoryError):  # of several trials the worker decides
        monkeypatch.setattr(trainer_module, "train", train)
        Trainer(small(seeds_per_trial=5), "cpu")(tuning(0, 2))


@pytest.mark.usefixtures("one_thread")
def test_no_more_models_than_asked_for_are_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = trainer_module.train, []

    def train(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> list[Result]:
        sizes.append(len(members))
        return real(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", train)
    Trainer(small(seeds_per_trial=5), "cpu", most=3)(tuning(0, 1))
    assert sizes == [3, 2]
