"""Scores: what tuning optimises, for a finished run or one in training."""

import math
from collections.abc import Sequence

from hpo.errors import UsageError
from hpo.study.directions import direction_of
from hpo.study.study import Study
from hpo.tasks import untrained_value
from hpo.training.recipe import Result


def score(result: Result, study: Study, classes: int | None) -> float | None:
    """The study's score of a run, at its last or its best epoch.

    A diverged run counts as an untrained network if the metric is bounded (accuracy: 1/classes) and has no score
    (None) if it is not. A run whose metric is not finite has no score either.
    """
    if result.diverged_epoch is not None:
        part, _, name = study.score.partition("_")
        return untrained_value(name, classes) if part == "validation" and name not in study.metrics else None
    values = result.curves.get(study.score)
    if not values:
        known = ", ".join(sorted(result.curves))
        raise UsageError(f"score is {study.score!r}, which no run reports; choose one of {known}")
    return score_of_curve(values, study)


def score_of_curve(values: Sequence[float], study: Study) -> float | None:
    """The score of a run whose metric has these values, one per epoch; None if it is not finite."""
    if study.score_epoch == "last":
        return values[-1] if math.isfinite(values[-1]) else None
    best = max if direction_of(study) == "maximize" else min
    return best((value for value in values if math.isfinite(value)), default=None)


def score_after(epoch: int, result: Result, study: Study, classes: int | None) -> float | None:
    """The score that a run had after `epoch` epochs."""
    diverged = result.diverged_epoch
    if diverged is not None and diverged <= epoch:
        return score(result, study, classes)
    curves = {name: values[:epoch] for name, values in result.curves.items()}
    return score(Result(curves, {}, None), study, classes)


def mean_score(scores: Sequence[float | None]) -> float | None:
    """The mean over a trial's models; None if one of them has no score."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if len(known) == len(scores) else None
