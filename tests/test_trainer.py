"""What tuning optimises: the score of a run."""

import dataclasses
from typing import Any

import pytest

from hpo.definition import describe
from hpo.errors import UsageError
from hpo.study import Configuration, Study
from hpo.trainer import score
from hpo.training import Result

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
