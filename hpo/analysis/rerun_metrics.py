"""Test metrics of reruns by seed, their summary and two groups, and how much better the training samples are fitted."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Summary, summarise, t_interval
from hpo.analysis.selection import Row
from hpo.analysis.two_groups import TwoGroups, groups_of_reruns
from hpo.analysis.verdicts import tuning_run_means
from hpo.tasks import untrained_value
from hpo.trials import DIVERGED

MIN_LABELS_GAP = 0.05  # between two groups of noisy labels fitted, which have no margin


def by_seed(slots: list[Row], metric: str) -> dict[int, float]:
    """A number of the results of reruns, of those that have it."""
    return {row["seed"]: float(row["result"][metric]) for row in slots if row["result"].get(metric) is not None}


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


def generalisation_gap(trained: list[Row], metric: Metric) -> Summary:
    """How much better a metric is on the training samples than on the test set."""
    test, train = by_seed(trained, metric.name), by_seed(trained, f"train_{metric.name.removeprefix('test_')}")
    sign = 1 if metric.direction == "maximize" else -1
    return summarise([sign * (train[seed] - test[seed]) for seed in train.keys() & test.keys()])


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
    values: dict[str, dict[int, float]], tuning_run_by_seed: dict[int, int], study: Mapping[str, Any]
) -> dict[str, TwoGroups]:
    """The two groups of each quantity that has them.

    Args:
        values: name → values by seed.
    """
    found = {}
    for name, of_seeds in values.items():
        smallest = MIN_LABELS_GAP if name == "noisy_labels_fitted" else study["definition"]["margin"]
        if groups := groups_of_reruns(of_seeds, tuning_run_by_seed, study["tuning_runs"], smallest):
            found[name] = groups
    return found
