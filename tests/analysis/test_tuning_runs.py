"""With several tuning runs, verdicts and intervals are over tuning runs; with one, every verdict is tentative."""

import functools
import math
from typing import Any

import numpy as np
import pytest
from report_text import part, text_of
from synthetic_record import diverge, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.paired_tests import t_interval
from hpo.analysis.results import StudyNumbers
from hpo.analysis.verdicts import Verdict, by_tuning_run, tuning_run_means
from hpo.report import make_record
from hpo.report.warnings import find_warnings

SEEDS = 12
# What each of three tuning runs of GNVR gained over one of AdamW; the seeds of a tuning run hardly differ.
LUCK = (0.10, 0.01, 0.03)
NOISE = np.array([0.002, -0.001, 0.003, -0.002, 0.001, -0.003, 0.0, 0.002, -0.001, 0.001, -0.002, 0.0])


def export_of(tuning_runs: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    baseline = 0.5 + 0.01 * (np.arange(SEEDS) % 5)
    gain = np.array([LUCK[seed % 3] for seed in range(SEEDS)]) + NOISE
    accuracies = {"AdamW": baseline.tolist(), "GNVR": (baseline + gain).tolist()}
    return synthetic_export(seeds=SEEDS, accuracies=accuracies, tuning_runs=tuning_runs)


@functools.cache
def numbers_of(tuning_runs: int) -> StudyNumbers:
    return compute_numbers(make_record(*export_of(tuning_runs)))


def verdict_of(numbers: StudyNumbers) -> Verdict:
    return numbers.rivals[0].verdict


def test_the_same_accuracies_are_certain_over_seeds_and_not_over_tuning_runs() -> None:
    one, three = verdict_of(numbers_of(1)), verdict_of(numbers_of(3))
    assert (one.label, one.comparison.n) == ("tentatively better", SEEDS)
    assert (three.label, three.comparison.n) == ("no detectable difference", 3)
    gains = [LUCK[tuning_run] + NOISE[tuning_run::3].mean() for tuning_run in range(3)]
    assert three.comparison.mean == pytest.approx(np.mean(gains))
    assert three.comparison.interval == pytest.approx(t_interval(gains))
    assert three.comparison.interval.low < 0, "the smallest gain of a tuning run is a tenth of the largest"


def test_the_interval_of_a_configuration_is_over_the_means_of_its_tuning_runs() -> None:
    one, three = (numbers_of(tuning_runs).configurations[1].reruns for tuning_runs in (1, 3))
    assert one.metric_values == three.metric_values and one.metric_summary.sd == three.metric_summary.sd
    values = [one.metric_values[1000 + seed] for seed in range(SEEDS)]
    means = [np.mean(values[tuning_run::3]) for tuning_run in range(3)]
    assert three.metric_summary.interval == pytest.approx(t_interval(means))
    assert three.metric_summary.mean == pytest.approx(np.mean(means))
    assert one.metric_summary.interval == pytest.approx(t_interval(values))


def test_two_tuning_runs_give_no_verdict() -> None:
    verdict = verdict_of(numbers_of(2))
    assert (verdict.rule, verdict.comparison.n) == (1, 2) and "tuning run" in verdict.reason


def test_before_a_second_tuning_run_has_reruns_there_is_no_interval() -> None:
    export, curves = export_of(3)
    for row in export["slots"]:
        if row["phase"] == "rerun" and row["tuning_run"] > 0:
            row.update(state="open", value=None, result=None, cause=None, seconds=None)
    numbers = compute_numbers(make_record(export, curves))
    assert verdict_of(numbers).rule == 1 and verdict_of(numbers).comparison.n == 1
    summary = numbers.configurations[1].reruns.metric_summary
    assert summary.n == 4 and math.isnan(summary.interval.low)


def test_all_diverged_reruns_are_counted_though_they_belong_to_one_tuning_run() -> None:
    export, curves = export_of(3)
    export["study"]["definition"] |= {"score": "validation_loss", "direction": "minimize"}
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "rerun" and row["tuning_run"] == 1:
            diverge(row, curves, bounded=False)
    verdict = verdict_of(compute_numbers(make_record(export, curves)))
    assert (verdict.rule, verdict.reason, verdict.diverged) == (1, "4 diverged", 4)


def test_means_of_tuning_runs_are_over_the_seeds_that_both_sides_have() -> None:
    rival, baseline = {1: 0.5, 2: 0.7, 3: 0.9, 5: 0.1}, {1: 0.4, 2: 0.4, 3: 0.6, 4: 0.0}
    tuning_runs = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2}
    left, right = by_tuning_run(rival, baseline, tuning_runs)
    assert left == {0: pytest.approx(0.6), 1: pytest.approx(0.9)}
    assert right == {0: pytest.approx(0.4), 1: pytest.approx(0.6)}
    assert tuning_run_means({}, tuning_runs) == {}


# Tuning runs -> what the warnings contain about them, and what they do not.
WARNED = {
    1: ("one tuning run", "Fewer than"),
    2: ("2 tuning runs", "Fewer than"),
    3: ("(3)", "one tuning run"),
    5: ("(5)", "tentative"),
}


@pytest.mark.parametrize("tuning_runs", WARNED)
def test_few_tuning_runs_are_warned_of_and_not_their_many_seeds(tuning_runs: int) -> None:
    warned, silent = WARNED[tuning_runs]
    _, line = find_warnings(numbers_of(tuning_runs))  # the first one is about few trials
    assert warned in line and silent not in line


def test_a_report_of_several_tuning_runs_names_them_where_they_count() -> None:
    export, curves = export_of(3)
    export["study"]["definition"]["configurations"][1]["trials"] = 5
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["setting"] = {**row["setting"], "learning_rate": (row["tuning_run"] + 1) * 1e-3}
    text = text_of(make_record(export, curves))
    assert f"budgets: AdamW {export['study']['trials']}, GNVR 5." in text, "trials of one tuning run"
    assert "1.00e-3, 2.00e-3, 3.00e-3" in text, "every learning rate once"
    rows = [line.split(" | ") for line in part(text, "T4.", "</details>").splitlines() if "| 1" in line]
    tuning_run_and_seed = [(row[0].strip("| "), int(row[1])) for row in rows]
    assert tuning_run_and_seed[3:5] == [("1", 1009), ("2", 1001)]
