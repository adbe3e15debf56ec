"""The outcome of a slot, from the one run of a rerun or the runs of a trial's models."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpo.study.study import Study
from hpo.tasks import TASKS, untrained_value
from hpo.training.recipe import Result
from hpo.trials import DIVERGED, NO_SCORE, PRUNED, Outcome, Slot, mean, mean_curve
from hpo.worker.score import mean_score, score


class Run(NamedTuple):
    """One trained model: its result, its share of the seconds, and the number of models at the start."""

    result: Result
    seconds: float
    population: int


def outcome_of(slot: Slot, runs: Sequence[Run], study: Study, classes: int | None, rerun: bool) -> Outcome:
    """A rerun with its task's main test metric, or a trial with its mean score; the rest are means over the runs."""
    results, primary = [run.result for run in runs], TASKS[study.data.task].primary
    values = [test_value(each, primary, classes) if rerun else score(each, study, classes) for each in results]
    value = mean_score(values)
    diverged = [result.diverged_epoch for result in results if result.diverged_epoch is not None]
    cause = DIVERGED if diverged else NO_SCORE if value is None else None
    if any(result.stopped_epoch for result in results) and len(diverged) < len(results):
        cause = PRUNED
    final = {name: mean(values) for name, values in _shared([result.final for result in results]).items()}
    final |= {"population": runs[0].population} | ({"diverged_epoch": min(diverged)} if diverged else {})
    curves = {name: mean_curve(rows) for name, rows in _shared([result.curves for result in results]).items()}
    return Outcome(slot.id, slot.attempt, value, cause, final, curves, sum(run.seconds for run in runs))


def test_value(result: Result, metric: str, classes: int | None) -> float | None:
    """A test metric of a rerun; of a diverged one that of an untrained network, if the metric is bounded."""
    if result.diverged_epoch is not None:
        return untrained_value(metric, classes)
    value = result.final[f"test_{metric}"]
    return value if math.isfinite(value) else None


def _shared(mappings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name → the values of all mappings, of names that all of them have."""
    names = [name for name in mappings[0] if all(name in mapping for mapping in mappings)]
    return {name: [mapping[name] for mapping in mappings] for name in names}
