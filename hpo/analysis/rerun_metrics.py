"""Test metrics of reruns by seed, their summary and two groups, and how much better the training samples are fitted."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Summary, summarise, t_interval
from hpo.analysis.selection import Row
from hpo.analysis.two_groups import TwoGroups, groups_of_reruns
from hpo.analysis.verdicts import tuning_run_means
from hpo.tasks import untrained_value
from hpo.trials import DIVERGED

# A narrower gap between two groups is not reported, however clear it is.
MIN_GAP_IN_MARGINS = 5  # of the metric that verdicts compare
MIN_GAP_OF_SHARES = 0.1
MIN_GAP_OF_NUMBERS = 0.5  # of the mean of their absolute values


def by_seed(slots: list[Row], metric: str) -> dict[int, float]:
    """A number of the results of reruns, of those that have it."""
    return {row["seed"]: float(row["result"][metric]) for row in slots if row["result"].get(metric) is not None}


def rerun_scores(slots: list[Row], curves: pd.DataFrame, definition: Mapping[str, Any]) -> dict[int, float]:
    """The score that tuning optimises, of each rerun that is over, by seed; NaN where it diverged, failed or has none.

    Args:
        curves: of the score over these reruns, with columns seed and value (finite only).
    """
    score, over = definition["score"], [row for row in slots if row["state"] in ("done", "failed")]
    trained = [row for row in over if row["state"] == "done" and row["cause"] != DIVERGED]
    values = by_seed(trained, score)
    if definition["score_epoch"] == "best":
        by = curves.groupby("seed")["value"]
        best = (by.max() if definition["direction"] == "maximize" else by.min()).to_dict()
        values = {row["seed"]: float(best.get(row["seed"], math.nan)) for row in trained}
    finite = {seed: value for seed, value in values.items() if math.isfinite(value)}
    return {row["seed"]: finite.get(row["seed"], math.nan) for row in over}


def metric_values(done: list[Row], metric: Metric, primary: Metric, classes: int) -> dict[int, float]:
    """A test metric by seed; a rerun without it has NaN, which a comparison counts.

    A diverged rerun has the value of an untrained network where the metric is a share.
    """
    if metric.name == primary.name:  # stored as the rerun's value
        return {row["seed"]: float(row["value"]) for row in done}
    values = by_seed([row for row in done if row["cause"] != DIVERGED], metric.name)
    untrained = untrained_value(metric.name.removeprefix("test_"), classes) if metric.share else None
    if untrained is not None:
        values |= {row["seed"]: untrained for row in done if row["cause"] == DIVERGED}
    return {row["seed"]: values.get(row["seed"], float("nan")) for row in done}


def generalisation_gap(trained: list[Row], metric: Metric) -> dict[int, float]:
    """How much better a metric is on the training samples than on the test set, by seed."""
    test, train = by_seed(trained, metric.name), by_seed(trained, f"train_{metric.name.removeprefix('test_')}")
    sign = 1 if metric.direction == "maximize" else -1
    return {seed: sign * (train[seed] - value) for seed, value in test.items() if seed in train}


def metric_summary(values: Mapping[int, float], tuning_run_by_seed: Mapping[int, int], tuning_runs: int) -> Summary:
    """Mean, SD over the seeds, and interval; with several tuning runs, mean and interval of the means of these.

    The reruns of one tuning run share its setting; an interval over seeds would not include the luck of tuning.
    """
    summary = summarise(list(values.values()))
    if tuning_runs == 1:
        return summary
    finite = {seed: value for seed, value in values.items() if np.isfinite(value)}
    means = list(tuning_run_means(finite, tuning_run_by_seed).values())
    return summary._replace(mean=float(np.mean(means)) if means else summary.mean, interval=t_interval(means))


def two_groups(
    quantities: Mapping[Metric, Mapping[int, float]],
    compared: Metric,
    tuning_run_by_seed: Mapping[int, int],
    study: Mapping[str, Any],
) -> dict[str, TwoGroups]:
    """The two groups of each quantity that has them, by its name.

    Args:
        quantities: their values by seed. compared: the metric that verdicts compare.
    """
    found = {}
    for metric, values in quantities.items():
        margin = study["definition"]["margin"] if metric == compared else None
        smallest = smallest_gap(values, metric, margin)
        if groups := groups_of_reruns(values, tuning_run_by_seed, study["tuning_runs"], smallest):
            found[metric.name] = groups
    return found


def smallest_gap(values: Mapping[int, float], metric: Metric, margin: float | None) -> float:
    """How wide a gap between two groups has to be to matter, in the unit of the values."""
    if margin is not None:
        return MIN_GAP_IN_MARGINS * margin
    finite = [abs(value) for value in values.values() if np.isfinite(value)]
    return MIN_GAP_OF_SHARES if metric.share else MIN_GAP_OF_NUMBERS * float(np.mean(finite)) if finite else 0.0
